//! Does what is due: sends, updates, polls and replaces messages, with backoff.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use countersign_schemas::{Approval, OutboxId, ReceiptKind, Timestamp};
use countersign_sdk::CallError;
use countersign_sdk::channel::{Ask, Outcome, Polled, Sent};
use countersign_sdk::question::Question;
use countersign_store::{Query, StoreError};
use futures::FutureExt as _;
use serde_json::Value;
use tracing::{error, info, warn};

use super::notice::{Item, Job, Notice, Shown};
use super::{Configured, Notifier, Posted};
use crate::connect::Routes;
use crate::export;
use crate::pipeline::Pipeline;

/// Calls made side by side.
const BATCH: usize = 16;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// With the backoff above this is about two hours: far longer than questions wait.
const ATTEMPTS_MAX: u32 = 120;
const FOUND_MAX: usize = 20;

/// What a call led to.
enum Done {
    Shown(Sent, Shown),
    Updated(Shown),
    Polled(Polled),
    Over,
}

impl Notifier {
    /// Does what is due. Returns whether there was anything. Called in short intervals by a task of the service.
    pub async fn work(&self, pipeline: &Pipeline, routes: &Routes) -> bool {
        let due = self.take_due(pipeline.clock.now()).await;
        let any = !due.is_empty();
        let calls = due.into_iter().map(|(id, notice, job)| async move {
            let done = AssertUnwindSafe(self.perform(pipeline, &id, &notice, job)).catch_unwind().await;
            let done = done.unwrap_or_else(|_| Err(CallError::Retry("the channel failed".into())));
            self.note(pipeline, routes, &id, &notice, done).await;
        });
        futures::future::join_all(calls).await;
        any
    }

    async fn take_due(&self, now: Timestamp) -> Vec<(OutboxId, Notice, Job)> {
        let mut board = self.board.lock().await;
        let idle = board
            .notices
            .iter_mut()
            .filter(|(_, posted)| !posted.busy && !posted.entry.dead && posted.entry.next_at <= now);
        let mut due = Vec::new();
        for (id, posted) in idle {
            let Some(job) = posted.notice.job(now) else { continue };
            posted.busy = true;
            due.push((id.clone(), posted.notice.clone(), job));
            if due.len() == BATCH {
                break;
            }
        }
        due
    }

    async fn perform(
        &self,
        pipeline: &Pipeline,
        id: &OutboxId,
        notice: &Notice,
        job: Job,
    ) -> Result<Done, CallError> {
        let gone = || CallError::Permanent(format!("there is no channel `{}` any more", notice.channel));
        let Configured { channel, .. } = self.channels.get(&notice.channel).ok_or_else(gone)?;
        let now = pipeline.clock.now();
        match (job, &notice.message) {
            (Job::Drop, _) => Ok(Done::Over),
            (Job::Poll, Some(message)) => channel.poll(message, now).await.map(Done::Polled),
            (Job::Replace, Some(message)) => {
                let outcome = self.outcome(pipeline, notice).await.map_err(unread)?;
                channel.replace(message, &outcome, now).await.map(|()| Done::Over)
            }
            (Job::Ask | Job::Update | Job::Poll | Job::Replace, message) => {
                let Some(question) = self.question(pipeline, notice).await.map_err(unread)? else {
                    // Closed meanwhile; the next look at what is open says so.
                    return Err(CallError::Retry("the question was closed meanwhile".into()));
                };
                let shown = notice.look();
                let reference = notice.reference(id, notice.items.len());
                let ask = Ask { question: &question, reference: &reference, to: &notice.to };
                match message {
                    Some(message) => channel.update(message, &ask, now).await.map(|()| Done::Updated(shown)),
                    None => channel.ask(&ask, now).await.map(|sent| Done::Shown(sent, shown)),
                }
            }
        }
    }

    /// What the open questions behind a notice ask.
    pub(super) async fn question(
        &self,
        pipeline: &Pipeline,
        notice: &Notice,
    ) -> Result<Option<Question>, StoreError> {
        let mut open: Vec<Approval> = Vec::new();
        for item in notice.items.iter().filter(|item| !item.closed) {
            open.extend(pipeline.store.approval(&item.approval_id).await?);
        }
        Ok(Question::of(&open, &|text| self.mask(text)))
    }

    /// What came of a notice's questions, as their receipts say.
    async fn outcome(&self, pipeline: &Pipeline, notice: &Notice) -> Result<Outcome, StoreError> {
        let mut lines: Vec<(String, usize)> = Vec::new();
        for item in &notice.items {
            let line = resolution(pipeline, item).await?;
            match lines.iter_mut().find(|(known, _)| *known == line) {
                Some((_, count)) => *count += 1,
                None => lines.push((line, 1)),
            }
        }
        let counted = |(line, count): (String, usize)| {
            if count > 1 { format!("{line} ({count} requests)") } else { line }
        };
        Ok(Outcome { title: notice.title.clone(), lines: lines.into_iter().map(counted).collect() })
    }

    async fn note(
        &self,
        pipeline: &Pipeline,
        routes: &Routes,
        id: &OutboxId,
        notice: &Notice,
        done: Result<Done, CallError>,
    ) {
        let now = pipeline.clock.now();
        let name = notice.channel.as_str();
        if let Ok(Done::Polled(Polled::Answered(click))) = &done {
            let told = self.decide(pipeline, routes, name, id, notice.items.len(), click).await;
            info!(channel = %name, outbox.id = %id, "an approver answered: {told:?}");
        }
        let mut board = self.board.lock().await;
        let Some(posted) = board.notices.get_mut(id) else { return };
        posted.busy = false;
        let over = match done {
            Ok(done) => posted.progress(done, now),
            Err(CallError::Retry(reason)) => {
                posted.put_off(reason, now);
                warn!(channel = %name, outbox.id = %id, attempts = posted.entry.attempts, "cannot tell approvers: {}", posted.entry.last_error.as_deref().unwrap_or_default());
                false
            }
            Err(CallError::Permanent(reason)) => {
                error!(channel = %name, outbox.id = %id, "telling approvers is given up: {reason}");
                posted.entry.last_error = Some(reason);
                posted.entry.dead = true;
                false
            }
        };
        if over {
            board.notices.remove(id);
        }
        self.keep(pipeline, &mut board, &BTreeSet::from([id.clone()])).await;
    }
}

impl Posted {
    /// Takes over what was done. Returns whether nothing is left to do.
    fn progress(&mut self, done: Done, now: Timestamp) -> bool {
        self.entry.attempts = 0;
        self.entry.last_error = None;
        self.entry.next_at = now;
        match done {
            Done::Over => return true,
            Done::Shown(sent, shown) => {
                self.notice.message = Some(sent.message);
                self.notice.poll_at = sent.poll_at;
                self.notice.shown = Some(shown);
                self.notice.shown_at = Some(now);
            }
            Done::Updated(shown) => self.notice.shown = Some(shown),
            Done::Polled(Polled::Waiting { message, at }) => {
                self.notice.message = Some(message);
                self.notice.poll_at = Some(at);
            }
            Done::Polled(Polled::Never | Polled::Answered(_)) => self.notice.poll_at = None,
            Done::Polled(Polled::Over(reason)) => {
                warn!(channel = %self.notice.channel, outbox.id = %self.entry.id, "no answer will come: {reason}");
                self.notice.poll_at = None;
            }
        }
        // A message that is shown is due when its channel is to be asked, or when something changes.
        if let Some(at) = self.notice.poll_at {
            self.entry.next_at = at;
        }
        false
    }

    fn put_off(&mut self, reason: String, now: Timestamp) {
        let factor = 2_u32.saturating_pow(self.entry.attempts.min(16));
        self.entry.attempts += 1;
        self.entry.dead = self.entry.attempts >= ATTEMPTS_MAX;
        self.entry.next_at = now.after(BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_MAX));
        self.entry.last_error = Some(reason);
    }
}

fn unread(error: StoreError) -> CallError {
    CallError::Retry(error.to_string())
}

/// How one question ended, in a line.
async fn resolution(pipeline: &Pipeline, item: &Item) -> Result<String, StoreError> {
    let query = Query {
        action_id: Some(item.action_id.to_string()),
        kind: Some(ReceiptKind::Resolution),
        limit: FOUND_MAX,
        ..Query::default()
    };
    for leaf in pipeline.store.find(&query).await? {
        let statement = export::statement_of(&leaf.bytes);
        let approval = &statement["predicate"]["approval"];
        let of_it = approval["approvalId"].as_str() == Some(item.approval_id.as_str());
        let Some(approved) = approval["approved"].as_bool().filter(|_| of_it) else { continue };
        let text = |key: &str| approval.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        let (who, channel, at) = (text("approver"), text("channel"), text("at"));
        return Ok(match (approved, channel.as_str()) {
            (true, _) => format!("Approved by {who} through {channel} at {at}"),
            (false, "timeout") => format!("Nobody answered in time: denied at {at}"),
            (false, _) => format!("Denied by {who} through {channel} at {at}"),
        });
    }
    Ok("Closed".to_owned())
}
