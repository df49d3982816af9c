//! What a connector is: typed on its author's side, erased on the service's.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Egress;
use crate::jwks::KeySets;
use crate::schemas::{Action, ActionId, ApprovalId, Event, Expression, ReceiptId, Timestamp, Verdict};
use crate::{
    CallError, Caller, ConnectError, Dialect, FetchError, Inbound, NormalizeError, Secret, SecretRef,
    Unverified, Verified, VerifyError,
};

/// Event of an observation that a gate failed and the action may have run unasked. The service counts it and says so.
pub const FAIL_OPEN_SEEN: &str = "fail_open_seen";

/// One vendor's hook. Implement it in `connectors/src/<name>.rs` and add one line to the registry.
pub trait Connector: 'static {
    /// Config `type`, default URL segment, fixtures folder.
    const NAME: &'static str;
    /// Its part of the config file. Derive `Deserialize` with `deny_unknown_fields`; field docs become the reference.
    type Settings: DeserializeOwned + JsonSchema;

    /// What is known about the vendor's hook, as data.
    fn manifest() -> Manifest;

    /// What the administrator must do in the vendor's console, as Markdown, with this site's URLs filled in.
    fn setup(site: &Site) -> String;

    /// How `countersign hook` speaks to the client, where it asks by running a command.
    #[must_use]
    fn dialect() -> Option<Dialect> {
        None
    }

    /// Builds the connector.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] naming the settings key that is wrong.
    fn connect(settings: Self::Settings, env: &Env<'_>) -> Result<Parts, ConnectError>;
}

/// What a built connector can do. A thing the vendor cannot do is absent, not an empty method.
pub struct Parts {
    /// The vendor's window, as configured in its console, margin not taken off.
    pub deadline: Duration,
    /// The frames as configured: usually the manifest's, fewer or more native decisions where settings say so.
    pub frames: Vec<FrameSpec>,
    /// The vendor asks before acting.
    pub gate: Box<dyn Gate>,
    /// The vendor is answered later, by callback.
    pub held: Option<Box<dyn Held>>,
}

/// Answers a hook. Pure: no I/O, no clock, no randomness.
pub trait Gate: Send + Sync {
    /// Proves who sent the request, over its raw bytes, in constant time.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; the request is then answered 401 and leaves no receipt.
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError>;

    /// Reads the request. Unknown fields are kept, unknown enum values pass as strings.
    ///
    /// # Errors
    ///
    /// [`NormalizeError`] when it cannot be read; the answer is then DENY, and a receipt says so.
    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError>;

    /// Says what was decided, in the vendor's *success* format. Total: any frame, also [`Frame::unreadable`], and
    /// any expression has an answer. `said` has one entry per action of the frame, in order; a frame without
    /// actions has one entry without an action.
    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply;
}

/// Answers later, by calling the vendor.
#[async_trait]
pub trait Held: Send + Sync {
    /// What has to be called, once `said` is final. Pure; the result waits in the durable outbox.
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback;

    /// Makes the call. Idempotent at the vendor, because it may be repeated. Re-reads the vendor's state before a
    /// late answer.
    ///
    /// # Errors
    ///
    /// [`CallError`]; the outbox retries or gives up accordingly.
    async fn call(&self, callback: &Callback, now: Timestamp) -> Result<CallOutcome, CallError>;

    /// What a notification leaves out, fetched from the vendor: the body that takes its place when it is read, or
    /// `None` when nothing is missing. Called once the sender is verified, within the deadline. What is fetched is
    /// read by [`Gate::normalize`], like everything else.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the vendor cannot be asked; the delivery is then not taken, so that it comes again.
    async fn complete(
        &self,
        _request: &Inbound<Verified>,
        _now: Timestamp,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        Ok(None)
    }

    /// Asks the vendor to send again what it failed to deliver since `since`. Returns how many it was asked for.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the vendor cannot be asked.
    async fn sweep(&self, since: Timestamp, now: Timestamp) -> Result<u64, CallError>;
}

/// A call that has to reach a vendor: the connector's own JSON, opaque to the service. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Callback(pub Value);

/// How a callback ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The vendor took it.
    Delivered,
    /// The vendor no longer waits, for this reason.
    Moot(String),
}

/// A readable request.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalized {
    /// What it carries, in the order it happened. Outcomes and intents before the action they precede.
    pub events: Vec<Event>,
    /// What kind of answer the vendor waits for.
    pub frame: Frame,
    /// The same for a repetition of the same request, different for any other. Scoped to the connector instance by
    /// the service. Where the client's own headers are not signed, make it of ids *inside* the body.
    pub idempotency: String,
}

/// What kind of answer the vendor waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// One of the manifest's frames, or `unreadable`.
    pub name: String,
    /// What the connector needs to answer, for example the event name to echo.
    #[serde(default)]
    pub state: Value,
}

impl Frame {
    /// A frame by name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), state: Value::Null }
    }

    /// The frame of a request that could not be read at all.
    #[must_use]
    pub fn unreadable() -> Self {
        Self::named("unreadable")
    }
}

/// What is said about one action of a frame (or about the frame itself, when it has none).
#[derive(Clone, Debug, PartialEq)]
pub struct Said<'a> {
    /// The action, unless the frame has none.
    pub action: Option<&'a Action>,
    /// What to say.
    pub expression: Expression,
    /// The parameters to run with, when MODIFY is expressed.
    pub modified: Option<serde_json::Map<String, Value>>,
    /// The receipt that proves it.
    pub receipt_id: Option<ReceiptId>,
    /// The ticket, when a person or more context is waited for.
    pub ticket: Option<ApprovalId>,
    /// What was decided, before degradation.
    pub verdict: Verdict,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The body.
    pub body: Vec<u8>,
    /// Its media type.
    pub content_type: Cow<'static, str>,
    /// The status: a success, whatever was decided.
    pub status: u16,
}

impl Reply {
    /// 200 with a JSON body.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self::json_with_status(200, value)
    }

    /// A JSON body with another success status.
    #[must_use]
    pub fn json_with_status(status: u16, value: &Value) -> Self {
        Self { body: value.to_string().into_bytes(), content_type: "application/json".into(), status }
    }
}

/// Which way the vendor's hook works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateClass {
    /// The HTTP answer decides.
    Sync,
    /// Acknowledged now, decided by callback.
    Held,
    /// Either, as each request asks.
    SyncOrHeld,
}

/// What the vendor does when it gets no valid answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// The action runs.
    Open,
    /// The action does not run.
    Closed,
}

/// How well the contract is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Recorded from the real client.
    Capture,
    /// The vendor documents it.
    VendorDocs,
    /// A third party reports it.
    ThirdParty,
    /// Nobody checked.
    Unverified,
}

/// What is known about a vendor's hook. `countersign connectors`, `docs/connectors.md` and the coverage matrix are
/// made of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Manifest {
    /// The connector's name.
    pub name: &'static str,
    /// The vendor and product, for people.
    pub vendor: &'static str,
    /// Which way the hook works.
    pub class: GateClass,
    /// What the vendor documents as its window, in milliseconds.
    pub vendor_window_ms: u64,
    /// What we keep for the network and the vendor, in milliseconds; window minus margin is our deadline.
    pub margin_ms: u64,
    /// What the vendor does without a valid answer, by default.
    pub fail_mode_default: FailMode,
    /// What it does when configured as well as it can be.
    pub fail_mode_best: FailMode,
    /// How to get from the one to the other.
    pub fail_mode_how: &'static str,
    /// The frames it sends and what each can be told.
    pub frames: Vec<FrameSpec>,
    /// Where results come from.
    pub result_feed: &'static str,
    /// What proves the sender, for people.
    pub authentication: &'static str,
    /// How far identity can be believed.
    pub assurance: crate::schemas::Assurance,
    /// What makes a repetition recognisable.
    pub idempotency: &'static str,
    /// How well the contract is known.
    pub verified: Evidence,
    /// What cannot be seen or stopped through this hook.
    pub limits: Vec<&'static str>,
}

/// One kind of request a vendor sends.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FrameSpec {
    /// The vendor's name of it.
    pub name: &'static str,
    /// Whether something waits for the answer. A frame that does not gate is told ALLOW and means nothing by it.
    pub gates: bool,
    /// Whether the answer is an acknowledgement and the decision follows by callback.
    pub held: bool,
    /// Whether the answer may be kept back until a person has answered, up to the vendor's window. Not with
    /// [`FrameSpec::held`].
    pub holds: bool,
    /// Whether one answer covers all actions of the frame, so that any DENY denies all.
    pub one_answer: bool,
    /// What it can be told natively, beside DENY.
    pub native: Vec<Verdict>,
    /// Whether the vendor's rule is that a frame we do not know must be answered allow.
    pub allow_unknown: bool,
    /// Whether changed parameters are merged into those that were asked for, so that none can be taken away.
    pub merges: bool,
}

impl FrameSpec {
    /// A frame that a decision is waited for.
    #[must_use]
    pub fn gate(name: &'static str, native: &[Verdict]) -> Self {
        Self {
            name,
            gates: true,
            held: false,
            holds: false,
            one_answer: false,
            native: native.to_vec(),
            allow_unknown: false,
            merges: false,
        }
    }

    /// A frame that only tells us something.
    #[must_use]
    pub fn notice(name: &'static str) -> Self {
        Self {
            name,
            gates: false,
            held: false,
            holds: false,
            one_answer: false,
            native: vec![Verdict::Allow],
            allow_unknown: false,
            merges: false,
        }
    }
}

impl Manifest {
    /// The frame of this name.
    #[must_use]
    pub fn frame(&self, name: &str) -> Option<&FrameSpec> {
        self.frames.iter().find(|frame| frame.name == name)
    }
}

/// This installation, as setup texts need it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The configured instance name.
    pub instance: String,
    /// Where vendors reach us, without a trailing slash, for example `https://countersign.example.com`.
    pub public_url: String,
    /// The connector's settings as configured, or `Null` when it is not configured yet.
    pub settings: Value,
}

impl Site {
    /// The URL to register with the vendor.
    #[must_use]
    pub fn hook_url(&self) -> String {
        format!("{}/hooks/{}", self.public_url, self.instance)
    }

    /// The URL at which an approval channel is answered.
    #[must_use]
    pub fn channel_url(&self) -> String {
        format!("{}/channels/{}", self.public_url, self.instance)
    }
}

/// What a connector may reach while it is built.
pub struct Env<'a> {
    /// Outgoing calls, to allowed hosts only.
    pub egress: &'a Egress,
    /// The configured instance name.
    pub instance: &'a str,
    /// Signing keys of token issuers, refreshed in the background.
    pub keys: &'a KeySets,
    /// Looks an environment variable up.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Where people and vendors reach us.
    pub public_url: &'a str,
}

impl Env<'_> {
    /// Reads a secret that the settings refer to under `key`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Secret`] naming `key`.
    pub fn secret(&self, key: &str, reference: &SecretRef) -> Result<Secret, ConnectError> {
        reference.read(self.lookup).map_err(|source| ConnectError::Secret { key: key.to_owned(), source })
    }

    /// The id of an attempted action: the same for the hook before a call and the report after it.
    #[must_use]
    pub fn action_id(instance: &str, tenant: Option<&str>, session: &str, call: &str) -> ActionId {
        ActionId::derived(&[instance, tenant.unwrap_or_default(), session, call])
    }
}
