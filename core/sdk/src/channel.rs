//! What an approval channel is: somewhere people already are, where they are asked and answer.
//!
//! A channel translates, like a connector: it writes a [`Question`] in its own format, proves who sent an answer, and
//! reads it. Who may answer, whether the question is still open and what follows is the service's alone.

use async_trait::async_trait;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::question::Question;
use crate::schemas::Timestamp;
use crate::{CallError, Caller, ConnectError, Env, Inbound, Reply, Site, Unverified, Verified, VerifyError};

/// One kind of channel, as its author writes it: one file in `core/channels/src`.
pub trait ChannelKind: 'static {
    /// Config `type`, default name.
    const NAME: &'static str;
    /// Its part of the config file. Derive `Deserialize` with `deny_unknown_fields`.
    type Settings: DeserializeOwned + JsonSchema;

    /// What is known about it, as data.
    fn traits() -> ChannelTraits;

    /// What the administrator must do, as Markdown, with this site's URLs filled in.
    fn setup(site: &Site) -> String;

    /// Builds the channel. [`Env::instance`] is the configured channel's name.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] naming the settings key that is wrong.
    fn connect(settings: Self::Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError>;
}

/// What is known about a kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelTraits {
    /// How far an answer's author is known, as receipts say it, for example `chat` or `mail_link`.
    pub assurance: &'static str,
    /// Whether one message can be shown to many, of whom any may answer.
    pub rooms: bool,
    /// Whether a message that was sent can be changed, so that alike questions can join it.
    pub changes: bool,
}

/// Asks people and reads what they answer.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Sends a question. It may be sent again when it is not known whether it arrived.
    ///
    /// # Errors
    ///
    /// [`CallError`]; the service retries or gives up accordingly.
    async fn ask(&self, ask: &Ask<'_>, now: Timestamp) -> Result<Sent, CallError>;

    /// Shows a message anew, because more or fewer questions stand behind it.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    async fn update(&self, message: &Message, ask: &Ask<'_>, now: Timestamp) -> Result<(), CallError>;

    /// Replaces a message by what came of it. Nobody can answer it any more.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    async fn replace(&self, message: &Message, outcome: &Outcome, now: Timestamp) -> Result<(), CallError>;

    /// Looks whether a message was answered: for channels that do not call. Asked again at the time it names.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    async fn poll(&self, _message: &Message, _now: Timestamp) -> Result<Polled, CallError> {
        Ok(Polled::Never)
    }

    /// Proves who sent a request to `/channels/<name>`, over its raw bytes, in constant time. Pure.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; the request is then answered 401.
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError>;

    /// Reads the request. Pure.
    ///
    /// # Errors
    ///
    /// [`HearError`]; the request is then answered 400.
    fn read(&self, request: &Inbound<Verified>, now: Timestamp) -> Result<Heard, HearError>;

    /// What the caller of `/channels/<name>` is told about what was heard. Pure and total.
    fn answer(&self, heard: &Heard, told: &Told<'_>, now: Timestamp) -> Reply;

    /// Tells only the person who answered why it was not taken, where `answer` cannot.
    ///
    /// # Errors
    ///
    /// [`CallError`]; nothing else depends on it.
    async fn refuse(&self, _click: &Click, _why: &str) -> Result<(), CallError> {
        Ok(())
    }
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recipient {
    /// The channel's own id of a person or a room.
    pub address: String,
    /// Whether it is a room, that is, more than one person.
    pub room: bool,
}

/// A question that is put to somebody.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What is asked.
    pub question: &'a Question,
    /// Stands for exactly the questions that are shown, their ids and action hashes. Opaque, at most 80 characters of
    /// `[a-z0-9_.]`; an answer brings it back.
    pub reference: &'a str,
    /// Whom.
    pub to: &'a Recipient,
}

/// Where a sent message is: the channel's own JSON, opaque to the service. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message(pub Value);

/// A question was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Where it is.
    pub message: Message,
    /// When to [`Channel::poll`] first; `None` for a channel that calls.
    pub poll_at: Option<Timestamp>,
}

/// What a look at a message found.
#[derive(Clone, Debug, PartialEq)]
pub enum Polled {
    /// This channel calls by itself.
    Never,
    /// Nothing yet.
    Waiting {
        /// Where the message is now.
        message: Message,
        /// When to look again.
        at: Timestamp,
    },
    /// Somebody answered. [`Click::reference`] is not looked at: what was asked is known.
    Answered(Click),
    /// Nobody will answer this message any more, for this reason. The question itself stays open.
    Over(String),
}

/// What came of the questions behind a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was asked, in one line.
    pub title: String,
    /// What came of it, one line per result.
    pub lines: Vec<String>,
}

/// What a request to `/channels/<name>` says.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Somebody answers.
    Click(Click),
    /// Somebody wants to see what they are asked before they answer.
    Look {
        /// What they were asked: [`Ask::reference`].
        reference: String,
        /// The channel's id of the person.
        who: String,
    },
    /// A message is to be polled now. The text is found in one of its [`Message`]'s top-level values.
    Nudge(String),
    /// Nothing that concerns a question: this is the answer.
    Other(Reply),
}

/// Somebody's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Click {
    /// Yes or no.
    pub approved: bool,
    /// What [`Channel::answer`] and [`Channel::refuse`] need to reach the person; the channel's own JSON.
    pub back: Value,
    /// What they wrote.
    pub comment: Option<String>,
    /// The same for a repetition of the same request, different for any other. Empty when nothing tells.
    pub delivery: String,
    /// How far the person is known, when that differs from [`ChannelTraits::assurance`].
    pub assurance: Option<String>,
    /// What is answered: [`Ask::reference`].
    pub reference: String,
    /// The channel's id of the person.
    pub who: String,
}

/// What came of what was heard.
#[derive(Clone, Debug)]
pub enum Told<'a> {
    /// What the person wants to see.
    Asked(&'a Ask<'a>),
    /// It is settled.
    Settled {
        /// How.
        approved: bool,
    },
    /// It counts, but more have to agree.
    Counted {
        /// How many agree so far.
        approved: usize,
        /// How many have to.
        quorum: u32,
    },
    /// It was taken and is being worked on.
    Taken,
    /// It was not taken, for this reason.
    Refused(&'a str),
}

/// A verified request cannot be read. Never holds its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HearError(pub String);

/// Builds a channel from its settings as they stand in the config file.
pub type ConnectChannel = fn(Value, &Env<'_>) -> Result<Box<dyn Channel>, ConnectError>;

/// One kind of channel, without its type.
#[derive(Clone, Copy)]
pub struct ChannelSpec {
    /// See [`ChannelKind::NAME`].
    pub name: &'static str,
    /// See [`ChannelKind::traits`].
    pub traits: fn() -> ChannelTraits,
    /// See [`ChannelKind::setup`].
    pub setup: fn(&Site) -> String,
    /// The JSON Schema of its settings.
    pub schema: fn() -> Schema,
    /// See [`ChannelKind::connect`].
    pub connect: ConnectChannel,
}

impl ChannelSpec {
    /// Erases a kind of channel.
    #[must_use]
    pub fn of<C: ChannelKind>() -> Self {
        Self {
            name: C::NAME,
            traits: C::traits,
            setup: C::setup,
            schema: || SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<C::Settings>(),
            connect: |settings, env| {
                let settings = serde_json::from_value(settings)
                    .map_err(|error| ConnectError::Settings(error.to_string()))?;
                C::connect(settings, env)
            },
        }
    }
}
