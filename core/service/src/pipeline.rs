//! THE request path: receive, verify, claim, normalise, context, evaluate, resolve, commit, answer.
//!
//! After a call is verified, every path ends in an answer in the vendor's success format, before the vendor's
//! deadline: [`Pipeline::answer`] is where that is written, once.

use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use countersign_engine::Policies;
use countersign_schemas::{ApprovalId, Context, Event, ReceiptKind, SessionId, SessionRef, Timestamp};
use countersign_sdk::parse::sha256_hex;
use countersign_sdk::{FAIL_OPEN_SEEN, FetchError, Frame, FrameSpec, Inbound, Reply, Verified, VerifyError};
use countersign_store::{CommitError, Query, Recorded, Store, StoreError};
use futures::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, watch};
use tracing::{error, info, warn};

use crate::appraise::Appraiser;
use crate::break_glass::Glasses;
use crate::changes::{Change, Changes};
use crate::clock::Clock;
use crate::config::LimitSettings;
use crate::connect::Route;
use crate::contexts::Contexts;
use crate::evidence::{EvidenceError, Notary};
use crate::gap::GapLedger;
use crate::halt::HaltBoard;
use crate::hold;
use crate::metrics::Load;
use crate::people::{self, People};
use crate::sheet::Sheet;

/// Everything a decision may touch.
pub struct Pipeline {
    /// Measures actions and outcomes.
    pub(crate) appraiser: Appraiser,
    /// Tells of questions.
    pub(crate) changes: Changes,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bulk receipts for what was denied without one of its own.
    pub gaps: GapLedger,
    /// Whose questions are answered with yes for a while.
    pub(crate) glasses: Glasses,
    /// Who is halted.
    pub halts: HaltBoard,
    /// Bounds.
    pub limits: LimitSettings,
    /// Signs receipts.
    pub notary: Notary,
    /// The policies in force.
    pub policies: ArcSwap<Policies>,
    /// What people's other sessions did.
    pub(crate) people: People,
    /// Remembers.
    pub store: Arc<dyn Store>,
    contexts: Contexts,
    draining: watch::Sender<bool>,
    holds: Semaphore,
    permits: Semaphore,
}

/// A request that was read, or as much of it as could be.
pub(crate) struct Reading {
    pub(crate) events: Vec<Event>,
    pub(crate) frame: Frame,
    pub(crate) key: String,
    pub(crate) raw_sha256: String,
    pub(crate) session: SessionRef,
    pub(crate) spec: FrameSpec,
    /// Why it could not be read, if it could not.
    pub(crate) unreadable: Option<String>,
}

/// Why a verified request is denied without a receipt of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("overloaded: more calls than can be decided in time")]
    Overloaded,
    #[error("shutting down")]
    Draining,
    #[error("the decision took longer than {0:?}")]
    Late(Duration),
    #[error("an internal fault")]
    Panicked,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Commit(CommitError),
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
    #[error("the session is changed by too many calls at once")]
    Contended,
    #[error("the vendor cannot be asked what its notification is about: {0}")]
    Incomplete(FetchError),
    #[error("the request is not accepted any more: {0}")]
    NoLongerVerified(VerifyError),
}

/// How a request is decided.
#[derive(Clone, Copy)]
struct Pass {
    /// The request was decided before, and kept waiting.
    again: bool,
    may_hold: bool,
    /// Until when it can be kept waiting.
    until: Timestamp,
}

/// What a decision comes to at once.
enum Decided {
    /// The answer.
    Answer(Reply),
    /// The call is kept waiting for these questions.
    Wait(Vec<ApprovalId>),
}

/// A session that changes this often while one decision is made is not going to stand still.
const ATTEMPTS_MAX: usize = 64;

/// Decisions of before a start that are looked at for what people's sessions did.
const RECALLED_MAX: usize = 50_000;

/// How soon a bulk receipt is tried again when the queue is full.
const GAP_RETRY: Duration = Duration::from_millis(5);

impl Pipeline {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        policies: Policies,
        notary: Notary,
        clock: Arc<dyn Clock>,
        limits: LimitSettings,
        halts: HaltBoard,
        appraiser: Appraiser,
    ) -> Self {
        Self {
            appraiser,
            changes: Changes::default(),
            clock,
            contexts: Contexts::default(),
            gaps: GapLedger::default(),
            glasses: Glasses::default(),
            halts,
            holds: Semaphore::new(limits.held),
            permits: Semaphore::new(limits.in_flight),
            notary,
            people: People::default(),
            policies: ArcSwap::from_pointee(policies),
            limits,
            store,
            draining: watch::Sender::new(false),
        }
    }

    /// Learns from the log what people's sessions did before the start.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn recall_people(&self) -> Result<(), StoreError> {
        let window = i64::try_from(people::WINDOW.as_millis()).unwrap_or(i64::MAX);
        let query = Query {
            kind: Some(ReceiptKind::Decision),
            limit: RECALLED_MAX,
            since: Some(Timestamp(self.clock.now().0 - window)),
            ..Query::default()
        };
        let mut seen = HashSet::new();
        let mut leaves = self.store.find(&query).await?;
        leaves.retain(|leaf| seen.insert(leaf.summary.session_id.clone()));
        for leaf in leaves.iter().rev() {
            let Some((key, vendor)) = people::owner(leaf) else { continue };
            let id = &leaf.summary.session_id;
            let context = serde_json::from_slice(&self.store.session(id).await?.context).unwrap_or_default();
            self.people.note(key, id, &vendor, &context, leaf.summary.decided_at);
        }
        Ok(())
    }

    /// From now on every call is denied.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether calls are still decided.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until calls are no longer decided.
    pub(crate) async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        // The sender lives as long as the pipeline.
        let _sender_is_here = draining.wait_for(|draining| *draining).await;
    }

    /// What is going on.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            break_glasses: self.glasses.open(self.clock.now()),
            held: self.held(),
            in_flight: self.in_flight(),
        }
    }

    /// Questions that were put, and that ended. A listener that lags behind asks the store.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.changes.listen()
    }

    /// Calls that are kept waiting.
    #[must_use]
    pub fn held(&self) -> usize {
        self.limits.held.saturating_sub(self.holds.available_permits())
    }

    /// Decisions in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.permits.available_permits())
    }

    /// Answers one request that was received at `received`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] when the request does not prove where it came from; nothing else is an error.
    pub async fn answer(
        &self,
        route: &Route,
        request: Inbound,
        received: Instant,
    ) -> Result<Reply, VerifyError> {
        let request = request.verified_by(|request| route.verify(request, self.clock.now()));
        let request = request.inspect_err(|error| route.metrics.refused(error))?;
        Ok(self.answer_verified(route, request, received).await)
    }

    /// Answers one request whose sender is known: verified, or taken on trust to look at a recorded request.
    pub async fn answer_verified(
        &self,
        route: &Route,
        request: Inbound<Verified>,
        received: Instant,
    ) -> Reply {
        let deadline = received + route.budget;
        let raw_sha256 = sha256_hex(&request.body);
        let seen = OnceLock::new();

        let hold = self.holds.try_acquire().ok().filter(|_| route.frames.iter().any(|frame| frame.holds));
        let pass = Pass { again: false, may_hold: hold.is_some(), until: self.until(route, deadline) };
        let decided = match self.admit(route, deadline) {
            Ok(_permit) => {
                in_time(route, deadline, self.decide(route, &request, &raw_sha256, &seen, pass)).await
            }
            Err(refusal) => Err(refusal),
        };
        let decided = match decided {
            Ok(Decided::Answer(reply)) => Ok(reply),
            Ok(Decided::Wait(tickets)) => {
                let hold = self.hold(route, &request, &raw_sha256, &seen, &tickets, deadline);
                in_time(route, deadline, hold).await
            }
            Err(refusal) => Err(refusal),
        };
        drop(hold);
        let reply = match decided {
            Ok(reply) => reply,
            Err(refusal) => self.refuse(route, &request, &raw_sha256, seen.get(), &refusal, deadline).await,
        };
        route.metrics.answered(received.elapsed());
        reply
    }

    /// Decides a call that was kept waiting, once more, with what was granted meanwhile. It waits no longer. Calls that
    /// wake up side by side take their turns like any others.
    pub(crate) async fn decide_again(
        &self,
        route: &Route,
        request: &Inbound<Verified>,
        raw_sha256: &str,
        seen: &OnceLock<Frame>,
    ) -> Result<Reply, Refusal> {
        let _permit = self.permits.acquire().await.map_err(|_| Refusal::Overloaded)?;
        let pass = Pass { again: true, may_hold: false, until: self.clock.now() };
        match self.decide(route, request, raw_sha256, seen, pass).await? {
            Decided::Answer(reply) => Ok(reply),
            Decided::Wait(_) => Err(Refusal::Contended),
        }
    }

    /// Until when a call can be kept waiting, by our clock.
    fn until(&self, route: &Route, deadline: Instant) -> Timestamp {
        self.clock.now().after(hold::until(route, deadline).saturating_duration_since(Instant::now()))
    }

    /// Lets a call in. One that is late already (its body took too long to arrive) is not begun: a decision that is
    /// ready at once would otherwise leave after the deadline.
    fn admit(&self, route: &Route, deadline: Instant) -> Result<SemaphorePermit<'_>, Refusal> {
        if Instant::now() >= deadline {
            return Err(Refusal::Late(route.budget));
        }
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        // Those that wait for a processor are not in flight yet, and are what an overloaded machine has most of.
        if tokio::runtime::Handle::current().metrics().global_queue_depth() > self.limits.in_flight {
            return Err(Refusal::Overloaded);
        }
        self.permits.try_acquire().map_err(|_| Refusal::Overloaded)
    }

    /// The road that an answer normally takes.
    async fn decide(
        &self,
        route: &Route,
        request: &Inbound<Verified>,
        raw_sha256: &str,
        seen: &OnceLock<Frame>,
        pass: Pass,
    ) -> Result<Decided, Refusal> {
        let completed = self.complete(route, request).await?;
        let mut reading = read(route, completed.as_ref().unwrap_or(request), raw_sha256);
        reading.spec.holds &= pass.may_hold;
        if pass.again {
            reading.events.retain(|event| matches!(event, Event::Action(_)));
        }
        let frame = seen.get_or_init(|| reading.frame.clone());
        if reading.events.iter().all(|event| matches!(event, Event::Ping)) && !reading.events.is_empty() {
            return Ok(Decided::Answer(route.pass(frame)));
        }
        if let Some(reply) = self.claim(route, &mut reading).await? {
            return Ok(Decided::Answer(reply));
        }
        for event in &mut reading.events {
            if let Event::Action(action) = event {
                self.appraiser.complete(action);
            }
        }
        for _ in 0..ATTEMPTS_MAX {
            let state = self.store.session(&reading.session.id).await?;
            let past = self.contexts.take(&reading.session.id, &state);
            let sheet = Sheet::fill(self, route, &reading, &state, past, pass.until).await?;
            match self.store.commit(sheet.commit).await {
                Ok(_) => {
                    raise_alarms(route, &reading, &sheet.context);
                    if let Some(key) = sheet.person {
                        let now = self.clock.now();
                        self.people.note(key, &reading.session.id, route.kind(), &sheet.context, now);
                    }
                    self.contexts.put(reading.session.id, state.version + 1, sheet.context, sheet.asked);
                    sheet
                        .tally
                        .iter()
                        .for_each(|(verdict, expressed)| route.metrics.decided(*verdict, *expressed));
                    sheet.opened.iter().for_each(|id| self.changes.opened(id));
                    sheet.ended.into_iter().for_each(|(id, how)| self.changes.ended(&id, how));
                    return Ok(match sheet.holds.is_empty() {
                        true => Decided::Answer(sheet.reply),
                        false => Decided::Wait(sheet.holds),
                    });
                }
                Err(CommitError::Conflict | CommitError::NotOpen(_)) => {}
                Err(CommitError::Duplicate(recorded)) => {
                    route.metrics.repeated();
                    return Ok(Decided::Answer(reply_of(*recorded)));
                }
                Err(error) => return Err(Refusal::Commit(error)),
            }
        }
        Err(Refusal::Contended)
    }

    /// The request with what the vendor's notification left out, when it left something out.
    async fn complete(
        &self,
        route: &Route,
        request: &Inbound<Verified>,
    ) -> Result<Option<Inbound<Verified>>, Refusal> {
        let Some(held) = route.held() else { return Ok(None) };
        let body = held.complete(request, self.clock.now()).await.map_err(Refusal::Incomplete)?;
        Ok(body.map(|body| request.completed(body)))
    }

    /// The recorded answer, when this request was answered before and the answer still holds. An answer that waited
    /// for somebody no longer holds once that somebody has answered; then, and when the same key comes with another
    /// body, the request is decided on its own.
    async fn claim(&self, route: &Route, reading: &mut Reading) -> Result<Option<Reply>, Refusal> {
        while let Some(recorded) = self.store.recorded(&reading.key).await? {
            let next = if recorded.request_sha256 != reading.raw_sha256 {
                warn!(connector = %route.name, "a known request id came with another body; it is decided on its own");
                Some(reading.raw_sha256.clone())
            } else {
                self.answered_ticket(&recorded).await?
            };
            let Some(next) = next else {
                route.metrics.repeated();
                return Ok(Some(reply_of(recorded)));
            };
            reading.key = format!("{}\n{next}", reading.key);
        }
        Ok(None)
    }

    async fn answered_ticket(&self, recorded: &Recorded) -> Result<Option<String>, StoreError> {
        for ticket in &recorded.waits_for {
            if self.store.approval(ticket).await?.is_none() {
                return Ok(Some(ticket.to_string()));
            }
        }
        Ok(None)
    }

    /// Denies without a receipt of its own. What was refused is counted in a bulk receipt, and the answer waits for
    /// that as long as the deadline lets it.
    async fn refuse(
        &self,
        route: &Route,
        request: &Inbound<Verified>,
        raw_sha256: &str,
        seen: Option<&Frame>,
        refusal: &Refusal,
        deadline: Instant,
    ) -> Reply {
        match refusal {
            Refusal::Overloaded | Refusal::Draining | Refusal::Commit(CommitError::Busy) => {
                route.metrics.shed()
            }
            Refusal::Late(_) => route.metrics.late(),
            // Said once, where the store stopped; a line for each call would bury it.
            Refusal::Store(StoreError::Stopped(_)) | Refusal::Commit(CommitError::Stopped(_)) => {
                route.metrics.fault();
            }
            _ => {
                route.metrics.fault();
                error!(connector = %route.name, %refusal, "denied: {refusal}");
            }
        }
        let frame = match seen {
            Some(frame) => frame.clone(),
            None => read(route, request, raw_sha256).frame,
        };
        let spec = route.frame(&frame.name);
        let receipted = self.gaps.note(&route.name, &refusal.to_string(), raw_sha256, self.clock.now());
        let _in_time = tokio::time::timeout_at(deadline.into(), receipted).await;
        if spec.held {
            // Nothing runs before our callback, and there is no record to call back from: "not taken" lets the
            // vendor, or our sweep, send it again.
            return Reply { status: 503, ..route.deny(&frame, &refusal.to_string()) };
        }
        if spec.gates { route.deny(&frame, &refusal.to_string()) } else { route.pass(&frame) }
    }

    /// Writes the bulk receipts that are due. Called in short intervals by a task of the service.
    pub async fn receipt_gaps(&self) {
        let Some(batch) = self.gaps.take() else { return };
        let count = batch.count();
        let written = loop {
            match self.commit_gaps(&batch).await {
                // The very load that fills the gaps fills the queue; these receipts wait for room and are not lost.
                Err(Refusal::Commit(CommitError::Busy) | Refusal::Contended) => {
                    tokio::time::sleep(GAP_RETRY).await;
                }
                written => break written,
            }
        };
        match written {
            Ok(()) => info!(gap.requests = count, "receipted {count} requests that were denied in bulk"),
            Err(refusal) => {
                error!(%refusal, gap.requests = count, "cannot receipt {count} denied requests: {refusal}")
            }
        }
        batch.done();
    }
}

/// Lets `step` take until the deadline, and not fall over.
async fn in_time<T>(
    route: &Route,
    deadline: Instant,
    step: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    // Reads may be dropped anywhere; a commit that was accepted is written whether or not we wait for it.
    match tokio::time::timeout_at(deadline.into(), AssertUnwindSafe(step).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_panic)) => Err(Refusal::Panicked),
        Err(_elapsed) => Err(Refusal::Late(route.budget)),
    }
}

/// Reads a request as far as it can be read. Never fails: what cannot be read is denied, with a receipt.
fn read(route: &Route, request: &Inbound<Verified>, raw_sha256: &str) -> Reading {
    let (events, frame, key, unreadable) = match route.normalize(request) {
        Ok(normalized) => match one_session(&normalized.events) {
            true => (normalized.events, normalized.frame, normalized.idempotency, None),
            false => (
                Vec::new(),
                normalized.frame,
                raw_sha256.to_owned(),
                Some("one delivery, several sessions".into()),
            ),
        },
        Err(error) => {
            let frame = error.frame.unwrap_or_else(Frame::unreadable);
            (Vec::new(), frame, raw_sha256.to_owned(), Some(error.reason))
        }
    };
    let session = events.iter().find_map(session_of).cloned().unwrap_or_else(|| SessionRef {
        id: SessionId::derived(&[&route.name, "", "no session"]),
        turn: None,
        vendor_id: String::new(),
    });
    Reading {
        spec: route.frame(&frame.name),
        key: format!("{}/{key}", route.name),
        raw_sha256: raw_sha256.to_owned(),
        events,
        frame,
        session,
        unreadable,
    }
}

/// Says what should not have happened: a gate that failed open, and a session that is not gated at all.
fn raise_alarms(route: &Route, reading: &Reading, context: &Context) {
    let session = &reading.session.id;
    let failed =
        |event: &Event| matches!(event, Event::Observation(seen) if seen.source.event == FAIL_OPEN_SEEN);
    if reading.events.iter().any(failed) {
        route.metrics.fail_open_seen();
        warn!(connector = %route.name, session.id = %session, "fail-open seen: a gate of session {session} failed, and the action may have run unasked");
    }
    let ended = |event: &Event| matches!(event, Event::Outcome(_));
    if context.action_count == 0 && reading.events.iter().any(ended) {
        route.metrics.unprotected();
        warn!(connector = %route.name, session.id = %session, "session {session} is unprotected: it has results, and nothing of it was ever decided");
    }
}

fn one_session(events: &[Event]) -> bool {
    let mut sessions = events.iter().filter_map(session_of).map(|session| &session.id);
    let first = sessions.next();
    sessions.all(|session| Some(session) == first)
}

/// The session an event belongs to.
pub(crate) fn session_of(event: &Event) -> Option<&SessionRef> {
    match event {
        Event::Action(action) => Some(&action.session),
        Event::Outcome(outcome) => Some(&outcome.session),
        Event::Intent(intent) => Some(&intent.session),
        Event::SessionStart(boundary) | Event::SessionEnd(boundary) => Some(&boundary.session),
        Event::Observation(observation) => Some(&observation.session),
        Event::Ping => None,
    }
}

fn reply_of(recorded: Recorded) -> Reply {
    Reply { body: recorded.body, content_type: recorded.content_type.into(), status: recorded.status }
}
