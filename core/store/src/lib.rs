//! Remembers. Everything that one answer depends on is committed at once, durably, before the answer leaves.
//!
//! The record is an append-only **journal** of commits; one commit holds the leaves of the receipt log, the
//! checkpoint that covers them, and every change of state. Behind it an **index** (SQLite) is brought up to date
//! off the commit path and can be rebuilt from the journal at any time. [`Store`] is what the service sees.

mod checkpoint;
mod codec;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod faults;
mod index;
mod journal;
mod keeper;
mod live;
mod local;
mod state;
mod tree;
mod writer;

use async_trait::async_trait;
use bytes::Bytes;
use countersign_receipt::LeafHash;
use countersign_schemas::{
    Approval, ApprovalId, BreakGlass, BreakGlassId, Grant, GrantId, Halt, HaltScope, OutboxId, ReceiptId,
    ReceiptKind, SessionId, Timestamp, Verdict,
};

pub use local::{Local, OpenError, Options};

/// A log position: the index of a leaf, or a number of leaves.
pub type Index = u64;

/// Where everything is kept. Every method that reads sees every commit that was accepted before it was called,
/// also one that is not durable yet, except where its docs say otherwise.
#[async_trait]
pub trait Store: Send + Sync {
    /// Looks an idempotency key up. Waits until what it finds is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn recorded(&self, key: &str) -> Result<Option<Recorded>, StoreError>;

    /// The state of a session; [`SessionState::default`] when nothing is known of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn session(&self, id: &SessionId) -> Result<SessionState, StoreError>;

    /// Commits all of `commit` or nothing, and returns when it is durable. Atomic across leaves, session,
    /// idempotency key, approvals, grants, outbox and halts. Not cancelled when the caller goes away: what was
    /// accepted is written.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; nothing was written unless it is [`CommitError::Unknown`].
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError>;

    /// An open approval or deferral.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn approval(&self, id: &ApprovalId) -> Result<Option<Approval>, StoreError>;

    /// All open approvals and deferrals, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn approvals(&self) -> Result<Vec<Approval>, StoreError>;

    /// Shows `each` every open approval and deferral, in no order and without a copy.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    fn each_approval(&self, each: &mut dyn FnMut(&Approval)) -> Result<(), StoreError>;

    /// Open approvals and deferrals of a session, oldest first; only those about this action, if one is named. Takes no
    /// longer when other sessions have many.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn questions(
        &self,
        session: &SessionId,
        action_hash: Option<&str>,
    ) -> Result<Vec<Approval>, StoreError>;

    /// Approvals and deferrals to which something happens by itself at `now` or did before
    /// ([`Approval::due_at`]), the most overdue first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn due_questions(&self, now: Timestamp, limit: usize) -> Result<Vec<Approval>, StoreError>;

    /// The unexpired grants for this action that reach into this session, the widest first: those that one use does
    /// not end are used before those that it does.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn grants(
        &self,
        session: &SessionId,
        action_hash: &str,
        now: Timestamp,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Whether an unexpired grant of one of these questions is there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn is_granted(&self, questions: &[ApprovalId], now: Timestamp) -> Result<bool, StoreError>;

    /// Callbacks that are due at `now`, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError>;

    /// All callbacks that are not delivered yet, dead letters included, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn outbox(&self) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Halts in force.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn halts(&self) -> Result<Vec<Halt>, StoreError>;

    /// Break-glasses that were opened and not ended, whether or not their time is up.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn break_glasses(&self) -> Result<Vec<BreakGlass>, StoreError>;

    /// The newest durable checkpoint (signed note), or `None` while the log is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    async fn checkpoint(&self) -> Result<Option<SealedHead>, StoreError>;

    /// Leaves `from..from+limit` of the durable log, in order; fewer at its end.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped or cannot read.
    async fn leaves(&self, from: Index, limit: usize) -> Result<Vec<StoredLeaf>, StoreError>;

    /// The newest receipts that match, newest first, at most `query.limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped or cannot read.
    async fn find(&self, query: &Query) -> Result<Vec<StoredLeaf>, StoreError>;

    /// The leaf of one receipt.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped or cannot read.
    async fn receipt(&self, id: &ReceiptId) -> Result<Option<StoredLeaf>, StoreError>;

    /// The hashes that prove leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1).
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped, cannot read, or `index >= size` or `size` is beyond the log.
    async fn inclusion(&self, index: Index, size: Index) -> Result<Vec<LeafHash>, StoreError>;

    /// Figures for `/metrics` and `/readyz`.
    fn health(&self) -> Health;

    /// Stops accepting, writes what was accepted, brings the index up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the last writes failed.
    async fn close(&self) -> Result<(), StoreError>;
}

/// What one answer depends on.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Receipts, signed, in order.
    pub leaves: Vec<NewLeaf>,
    /// The idempotency key and the answer that a repetition gets.
    pub recorded: Option<(String, Recorded)>,
    /// The session's next state. Its version is checked: see [`CommitError::Conflict`].
    pub session: Option<SessionWrite>,
    /// Approvals and deferrals that begin or end. Ending one that is not open is [`CommitError::NotOpen`].
    pub approvals: Vec<ApprovalWrite>,
    /// Grants that are given or used. Using one that is not there is [`CommitError::NotOpen`].
    pub grants: Vec<GrantWrite>,
    /// Callbacks that are owed, retried or done.
    pub outbox: Vec<OutboxWrite>,
    /// Halts that are given or lifted.
    pub halts: Vec<HaltWrite>,
    /// Break-glasses that are opened or ended. Ending one that is not open is [`CommitError::NotOpen`].
    pub break_glasses: Vec<BreakGlassWrite>,
}

/// A receipt that goes into the log.
#[derive(Clone, Debug)]
pub struct NewLeaf {
    /// The exact leaf bytes: RFC 8785 form of the DSSE envelope.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 || bytes).
    pub hash: LeafHash,
    /// What the index keeps of it.
    pub summary: Summary,
    /// The disclosure text, kept beside the log and never in it.
    pub disclosure: Option<String>,
}

/// What the index keeps of a receipt, so that it can be found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Its name.
    pub receipt_id: ReceiptId,
    /// What it is about.
    pub kind: ReceiptKind,
    /// Its session.
    pub session_id: SessionId,
    /// Its place in the session.
    pub session_seq: u64,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The connector instance.
    pub connector: String,
    /// The action, if it is about one.
    pub action_id: Option<String>,
    /// The canonical tool, if it is about an action.
    pub tool: Option<String>,
    /// What was decided, if anything.
    pub verdict: Option<Verdict>,
    /// What was told, if anything.
    pub expressed: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The human's opaque id.
    pub human: Option<String>,
}

/// A leaf as it stands in the durable log.
#[derive(Clone, Debug)]
pub struct StoredLeaf {
    /// Its index.
    pub index: Index,
    /// The exact leaf bytes.
    pub bytes: Vec<u8>,
    /// The disclosure text, if one was kept.
    pub disclosure: Option<String>,
    /// What the index keeps of it.
    pub summary: Summary,
}

/// The answer that a repetition of a request gets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    /// SHA-256 of the raw request that was answered, lower hex.
    pub request_sha256: String,
    /// The status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// Approvals the answer waits for; once one of them is no longer open, the answer is no longer repeated.
    pub waits_for: Vec<ApprovalId>,
    /// When the record may be dropped.
    pub expires_at: Timestamp,
}

/// The state of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// Grows by one with every commit of this session; 0 when nothing is known of it.
    pub version: u64,
    /// The `seq` its next receipt gets.
    pub next_seq: u64,
    /// Leaf hash of its last receipt; zeros when there is none.
    pub head: LeafHash,
    /// The folded context, as the service wrote it; empty when nothing is known of it.
    pub context: Bytes,
}

/// A session's next state. `next_seq` and `head` follow from the commit's leaves of this session.
#[derive(Clone, Debug)]
pub struct SessionWrite {
    /// Which.
    pub id: SessionId,
    /// The version that was read.
    pub expected_version: u64,
    /// The folded context.
    pub context: Bytes,
}

/// An approval or deferral begins, advances or ends.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum ApprovalWrite {
    /// Begins, or replaces the open one of this id.
    Open(Box<Approval>),
    /// Ends; it must be open.
    Close(ApprovalId),
}

/// A grant is given or used.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum GrantWrite {
    /// Given.
    Give(Grant),
    /// Used or expired; it must be there.
    Take(GrantId),
}

/// A callback that is owed to a vendor.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutboxEntry {
    /// Its name.
    pub id: OutboxId,
    /// The connector instance that makes it.
    pub connector: String,
    /// The connector's own JSON.
    pub callback: serde_json::Value,
    /// The receipt it tells of.
    pub receipt_id: ReceiptId,
    /// When it was first owed.
    pub created_at: Timestamp,
    /// When it is tried next.
    pub next_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// True when it is given up: visible, never tried again by itself.
    pub dead: bool,
}

/// A callback is owed, put off or done.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum OutboxWrite {
    /// Owed, or put off: replaces the entry of this id.
    Put(Box<OutboxEntry>),
    /// Done.
    Done(OutboxId),
}

/// A halt is given or lifted.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum HaltWrite {
    /// Given.
    Give(Halt),
    /// Lifted.
    Lift(HaltScope),
}

/// A break-glass is opened or ended.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum BreakGlassWrite {
    /// Opened.
    Open(BreakGlass),
    /// Ended; it must be open.
    End(BreakGlassId),
}

/// A commit is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Index of the commit's first leaf; where the log ended, if it had none.
    pub first_index: Index,
    /// The head of the log that covers it.
    pub head: SealedHead,
}

/// A signed head of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHead {
    /// Number of leaves.
    pub size: Index,
    /// Root of the tree.
    pub root: LeafHash,
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
}

/// Which receipts are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only this session.
    pub session_id: Option<SessionId>,
    /// Only this action.
    pub action_id: Option<String>,
    /// Only this connector instance.
    pub connector: Option<String>,
    /// Only this kind.
    pub kind: Option<ReceiptKind>,
    /// Only this decision.
    pub verdict: Option<Verdict>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Only leaves below this index: for paging.
    pub below: Option<Index>,
    /// At most this many.
    pub limit: usize,
}

impl Query {
    /// Whether a receipt is of the session and action that are asked for.
    fn names(&self, summary: &Summary) -> bool {
        self.session_id.as_ref().is_none_or(|id| *id == summary.session_id)
            && (self.action_id.is_none() || self.action_id == summary.action_id)
    }
}

/// Figures for `/metrics` and `/readyz`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Why the store has stopped, if it has.
    pub stopped: Option<String>,
    /// Leaves in the durable log.
    pub size: Index,
    /// Commits that wait to be written.
    pub queued: usize,
    /// Leaves that the index has not seen yet.
    pub index_lag: u64,
    /// Commits written since start.
    pub commits: u64,
    /// Batches written since start: one sync each.
    pub batches: u64,
    /// How long the last batches took to write and sync, in microseconds, smoothed.
    pub commit_us: u64,
    /// Open approvals and deferrals.
    pub approvals: usize,
    /// Callbacks that are owed.
    pub outbox: usize,
    /// Callbacks that were given up.
    pub dead_letters: usize,
}

/// The store cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A write or sync failed; nothing is accepted any more until a restart. The kernel may have dropped the pages
    /// of a failed sync, so trying again would "succeed" without data.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// A read failed.
    #[error("cannot read the store: {0}")]
    Read(String),
    /// The caller asked for something beyond the log.
    #[error("no such place in the log: {0}")]
    Range(String),
}

/// A commit was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed to this session meanwhile: read it again, evaluate again.
    #[error("the session has changed meanwhile")]
    Conflict,
    /// The idempotency key is taken; this is the answer that was given. It is durable.
    #[error("the request was answered already")]
    Duplicate(Box<Recorded>),
    /// The approval or grant that the commit ends is not there (any more).
    #[error("`{0}` is not open any more")]
    NotOpen(String),
    /// The queue is full: deny now rather than late.
    #[error("too many commits wait")]
    Busy,
    /// A part of it could not be read back, for example a time after the year 9999: such a commit would be in the way
    /// of every later start.
    #[error("the commit cannot be written: {0}")]
    Malformed(String),
    /// The store has stopped. Nothing was written.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// It cannot be told whether it was written.
    #[error("cannot tell whether it was written: {0}")]
    Unknown(String),
}
