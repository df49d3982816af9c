//! Takes answers: finds out who it was and what they were shown, and hands each question to the pipeline, which decides
//! whether they may.

use std::sync::Arc;
use std::time::Duration;

use countersign_schemas::OutboxId;
use countersign_sdk::channel::{Ask, Click, Heard, Told};
use countersign_sdk::{Inbound, Reply, VerifyError};
use tracing::{info, warn};

use super::notice::parse_reference;
use super::{Configured, Notifier};
use crate::approval::{Answer, AnswerError, Approver, Resolved};
use crate::connect::Routes;
use crate::pipeline::Pipeline;

/// Slack shows an error to who clicked after three seconds.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(2_000);
const CLOSED: &str = "it is not open any more: it was answered, timed out or was withdrawn";

/// A request to a channel is not taken.
#[derive(Debug, thiserror::Error)]
pub enum HearingError {
    /// There is no channel of this name.
    #[error("there is no such channel")]
    Unknown,
    /// Its sender is not proved.
    #[error("{0}")]
    Unverified(#[from] VerifyError),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] countersign_sdk::channel::HearError),
}

/// What came of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Took {
    Settled { approved: bool },
    Counted { approved: usize, quorum: u32 },
    Refused(String),
}

impl Took {
    fn told(&self) -> Told<'_> {
        match self {
            Self::Settled { approved } => Told::Settled { approved: *approved },
            Self::Counted { approved, quorum } => Told::Counted { approved: *approved, quorum: *quorum },
            Self::Refused(why) => Told::Refused(why),
        }
    }
}

impl Notifier {
    /// Takes a request to `/channels/<name>` and says what to answer, at the latest within two seconds: what takes
    /// longer goes on.
    ///
    /// # Errors
    ///
    /// [`HearingError`]; nothing was answered then.
    pub async fn hear(
        self: Arc<Self>,
        pipeline: Arc<Pipeline>,
        routes: Arc<Routes>,
        name: &str,
        request: Inbound,
    ) -> Result<Reply, HearingError> {
        let Configured { channel, .. } = self.channels.get(name).ok_or(HearingError::Unknown)?;
        let now = pipeline.clock.now();
        let request = request.verified_by(|request| channel.verify(request, now))?;
        let heard = channel.read(&request, now)?;
        let click = match &heard {
            Heard::Other(reply) => return Ok(reply.clone()),
            Heard::Nudge(text) => {
                self.nudge(name, text, now).await;
                return Ok(channel.answer(&heard, &Told::Taken, now));
            }
            Heard::Look { reference, who } => {
                return Ok(self.look(&pipeline, name, reference, who, &heard).await);
            }
            Heard::Click(click) => click.clone(),
        };
        if !click.delivery.is_empty() && !self.is_new(format!("{name} {}", click.delivery), now) {
            return Ok(channel.answer(&heard, &Told::Taken, now));
        }
        let (this, on) = (self.clone(), name.to_owned());
        let work = tokio::spawn(async move { this.click(&pipeline, &routes, &on, &click).await });
        Ok(match tokio::time::timeout(ACKNOWLEDGE_WITHIN, work).await {
            Ok(Ok(took)) => channel.answer(&heard, &took.told(), now),
            _ => channel.answer(&heard, &Told::Taken, now),
        })
    }

    async fn click(self: Arc<Self>, pipeline: &Pipeline, routes: &Routes, name: &str, click: &Click) -> Took {
        let took = match parse_reference(&click.reference) {
            Some((id, count)) if self.names(name, &id, count, click).await => {
                self.decide(pipeline, routes, name, &id, count, click).await
            }
            _ => Took::Refused(CLOSED.to_owned()),
        };
        if let Took::Refused(why) = &took {
            info!(channel = %name, "an answer was not taken: {why}");
            let (why, name, click) = (why.clone(), name.to_owned(), click.clone());
            let tell = async move {
                let Some(Configured { channel, .. }) = self.channels.get(&name) else { return };
                if let Err(error) = channel.refuse(&click, &why).await {
                    warn!(channel = %name, %error, "cannot tell why an answer was not taken: {error}");
                }
            };
            // Beside the acknowledgement, which must not wait for it.
            drop(tokio::spawn(tell));
        }
        took
    }

    /// Whether the reference is of a message of this channel that its sender can have seen.
    async fn names(&self, name: &str, id: &OutboxId, count: usize, click: &Click) -> bool {
        let board = self.board.lock().await;
        board.notices.get(id).is_some_and(|posted| {
            let notice = &posted.notice;
            let theirs = notice.to.room || self.is_same_person(name, &notice.to.address, &click.who);
            notice.channel == name && theirs && notice.reference(id, count) == click.reference
        })
    }

    fn is_same_person(&self, name: &str, address: &str, who: &str) -> bool {
        let of = |address: &str| self.approver(name, address).map(|(approver, _)| approver);
        of(address).is_some() && of(address) == of(who)
    }

    fn approver(&self, channel: &str, address: &str) -> Option<(&String, &crate::config::ApproverSettings)> {
        self.approvers.iter().find(|(_, approver)| {
            approver.channels.get(channel).is_some_and(|own| own.eq_ignore_ascii_case(address))
        })
    }

    /// Answers the first `count` questions of a notice, those of them that are open, each by itself.
    pub(super) async fn decide(
        &self,
        pipeline: &Pipeline,
        routes: &Routes,
        name: &str,
        id: &OutboxId,
        count: usize,
        click: &Click,
    ) -> Took {
        let (Some((who, settings)), Some(configured)) =
            (self.approver(name, &click.who), self.channels.get(name))
        else {
            return Took::Refused("you are not an approver".to_owned());
        };
        let approver = Approver {
            assurance: click.assurance.clone().unwrap_or_else(|| configured.traits.assurance.to_owned()),
            channel: name.to_owned(),
            groups: settings.groups.clone(),
            identities: settings.identities.clone(),
            name: who.clone(),
        };
        let (ids, asked_at) = {
            let board = self.board.lock().await;
            let Some(notice) = board.notices.get(id).map(|posted| &posted.notice) else {
                return Took::Refused(CLOSED.to_owned());
            };
            let items = notice.items.iter().take(count);
            (items.map(|item| item.approval_id.clone()).collect::<Vec<_>>(), notice.shown_at)
        };
        let answer = Answer {
            approved: click.approved,
            asked_at,
            comment: click.comment.clone(),
            ..Answer::default()
        };
        let mut took = Took::Refused(CLOSED.to_owned());
        for (id, resolved) in pipeline.resolve_alike(routes, &ids, &approver, &answer).await {
            match resolved {
                Ok(Resolved::Settled(_)) => took = Took::Settled { approved: click.approved },
                Ok(Resolved::Counted { approved, quorum, .. }) => took = Took::Counted { approved, quorum },
                Err(AnswerError::NotOpen(_)) => {}
                Err(error) if matches!(took, Took::Refused(_)) => took = Took::Refused(error.to_string()),
                Err(error) => warn!(approval.id = %id, "one of several alike was not answered: {error}"),
            }
        }
        took
    }

    /// What somebody who followed a link is shown: the questions as they are now.
    async fn look(
        &self,
        pipeline: &Pipeline,
        name: &str,
        reference: &str,
        who: &str,
        heard: &Heard,
    ) -> Reply {
        let now = pipeline.clock.now();
        let Some(Configured { channel, .. }) = self.channels.get(name) else {
            return Reply::json_with_status(404, &serde_json::json!({}));
        };
        let click = Click { reference: reference.to_owned(), who: who.to_owned(), ..Click::default() };
        let closed = || channel.answer(heard, &Told::Refused(CLOSED), now);
        let Some((id, count)) = parse_reference(reference) else { return closed() };
        if !self.names(name, &id, count, &click).await {
            return closed();
        }
        let notice = self.board.lock().await.notices.get(&id).map(|posted| posted.notice.clone());
        let Some(notice) = notice else { return closed() };
        match self.question(pipeline, &notice).await {
            Ok(Some(question)) => {
                let reference = notice.reference(&id, notice.items.len());
                let ask = Ask { question: &question, reference: &reference, to: &notice.to };
                channel.answer(heard, &Told::Asked(&ask), now)
            }
            Ok(None) => closed(),
            Err(error) => channel.answer(heard, &Told::Refused(&error.to_string()), now),
        }
    }

    /// Polls now what a channel says is ready.
    async fn nudge(&self, name: &str, text: &str, now: countersign_schemas::Timestamp) {
        let mut board = self.board.lock().await;
        for posted in board.notices.values_mut().filter(|posted| posted.notice.channel == name) {
            let values = posted.notice.message.as_ref().and_then(|message| message.0.as_object());
            if values.is_some_and(|values| values.values().any(|value| value.as_str() == Some(text))) {
                posted.notice.poll_at = Some(now);
                posted.entry.next_at = now;
            }
        }
    }
}
