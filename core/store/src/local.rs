//! The store of one machine: a journal and an index, on disk or in memory.
//!
//! A commit is encoded by its caller, accepted under a short lock, and written by the **writer** thread, which takes
//! whatever was accepted while the last batch was being synced and makes one frame, one signature and one sync of it.
//! The **keeper** thread brings the index and the checkpoint file up to date behind it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use countersign_receipt::{
    Checkpoint, Frontier, LeafHash, LogKey, NoteError, Vkey, inclusion_path, leaf_hash,
};
use countersign_schemas::{Approval, ApprovalId, BreakGlass, Grant, Halt, ReceiptId, SessionId, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::checkpoint::CheckpointFile;
use crate::codec::{Batch, Malformed, Place, decode_batch, decode_leaf, decode_recorded, decode_session};
use crate::index::{Applied, Index, IndexError};
use crate::journal::{Directory, Frame, Journal, JournalError, Medium, Memory};
use crate::keeper::Keeper;
use crate::state::{Draft, Filter, Keys, Limits, Phase, Sessions, State, Step, Ticket};
use crate::tree::{Tree, Whole};
use crate::writer::Writer;
use crate::{
    Commit, CommitError, Committed, Health, Index as LeafIndex, OutboxEntry, Query, Recorded, SealedHead,
    SessionState, Store, StoreError, StoredLeaf,
};

/// How much of the journal one transaction of the index takes at most.
pub(crate) const ROUND_BYTES_MAX: u64 = 4 << 20;
/// How often a long start says how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Settings of a [`Local`] store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Commits that may wait for the writer; more are refused with [`CommitError::Busy`].
    pub queue_max: usize,
    /// Size of the journal's segments, in bytes; they are written with zeros beforehand.
    pub segment_bytes: u64,
    /// Sessions whose state is kept in memory.
    pub session_cache: usize,
    /// Commits that the index may lag behind; more are refused with [`CommitError::Busy`].
    pub index_lag_max: u64,
    /// The file that holds the last signed checkpoint, best on another disk than the store: it is what tells a
    /// restored backup from the log. Without it there is no such guard.
    pub checkpoint_path: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_max: 4096,
            segment_bytes: 64 << 20,
            session_cache: 8192,
            index_lag_max: 100_000,
            checkpoint_path: None,
        }
    }
}

/// The store cannot be opened. None of these is repaired without a person.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read or written.
    #[error("its folder cannot be read or written")]
    Io(#[from] io::Error),
    /// Two processes must not write one log.
    #[error("another process has the store `{0}` open")]
    Locked(String),
    /// The journal does not hold any more what was written to it.
    #[error(
        "the journal is damaged: {0}; restore the store from a copy that is not older than the checkpoint file"
    )]
    Damaged(String),
    /// The journal's format is not this version's. Nothing was changed.
    #[error(
        "another version of countersign wrote the journal; open the store with that version, or export there and \
         begin a new store here; nothing was changed"
    )]
    OtherVersion,
    /// The key is not the one that signed the log so far.
    #[error("the log's last checkpoint is not by the configured key: {0}")]
    Key(#[from] NoteError),
    /// More was signed than is there.
    #[error(
        "the log has {leaves} leaves, but the checkpoint file says {signed} were signed: this is an older copy of \
         the store, and signing on would fork the log; restore the newest copy"
    )]
    RolledBack {
        /// Leaves in the journal.
        leaves: LeafIndex,
        /// Leaves under the checkpoint in the file.
        signed: LeafIndex,
    },
    /// Something else was signed than is there.
    #[error(
        "the first {signed} leaves of the log are not the ones that the checkpoint file says were signed: this is a \
         fork of the log; restore the store that belongs to the checkpoint file"
    )]
    Forked {
        /// Leaves under the checkpoint in the file.
        signed: LeafIndex,
    },
    /// The index can neither be used nor be made anew.
    #[error("cannot make the index: {0}")]
    Index(String),
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io(error) => Self::Io(error),
            damaged @ JournalError::Damaged { .. } => Self::Damaged(damaged.to_string()),
            JournalError::OtherVersion => Self::OtherVersion,
        }
    }
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.to_string())
    }
}

/// A store on one machine. Dropping it is like [`Store::close`], but waits on the dropping thread.
pub struct Local {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

/// What ends with a close.
#[derive(Default)]
struct Running {
    threads: Vec<JoinHandle<()>>,
    /// Keeps other processes out. Dropped after the threads have ended.
    _lock: Option<File>,
}

impl Running {
    fn join(self) {
        for thread in self.threads {
            // A thread that panicked has stopped the store on its way out.
            let _ended = thread.join();
        }
    }
}

impl Local {
    /// Opens the store in `directory`, and makes it when it is not there. Checks everything that the index has not
    /// seen, and the newest segment, before it signs anything; a missing or damaged index is made anew.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open(directory: &Path, options: Options, key: LogKey) -> Result<Self, OpenError> {
        fs::create_dir_all(directory)?;
        let lock = File::create(directory.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(directory.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let medium = Arc::new(Directory::open(&directory.join("journal"))?);
        Self::start(medium, Some(&directory.join("index.db")), Some(lock), options, key)
    }

    /// Opens an empty store that ends with the process.
    ///
    /// # Errors
    ///
    /// [`OpenError`], also for what the checkpoint file says: a log in memory cannot go on with an older one.
    pub fn in_memory(options: Options, key: LogKey) -> Result<Self, OpenError> {
        Self::start(Arc::new(Memory::default()), None, None, options, key)
    }

    pub(crate) fn start(
        medium: Arc<dyn Medium>,
        index_path: Option<&Path>,
        lock: Option<File>,
        options: Options,
        key: LogKey,
    ) -> Result<Self, OpenError> {
        let (journal, appender) = Journal::open(medium, options.segment_bytes)?;
        let index = Index::open(index_path, key.origin())?;
        let (applied, tree) = load(&journal, &index, &key)?;
        let frontier = frontier(&index, &tree, tree.size())?;
        let checkpoint = options.checkpoint_path.as_deref().map(CheckpointFile::open).transpose()?;
        if let Some(file) = &checkpoint {
            check_rollback(file, &index, &tree, key.origin())?;
        }
        let mut filter = Filter::default();
        index.fingerprints(|fingerprint| filter.insert(fingerprint))?;
        let head = SealedHead { size: frontier.size(), root: frontier.root(), note: applied.note.clone() };
        let state = State {
            phase: Phase::Open,
            accepted: 0,
            durable: 0,
            durable_end: journal.end(),
            indexed: 0,
            next_index: tree.size(),
            queue: Default::default(),
            sessions: Sessions::new(options.session_cache),
            keys: Keys::new(filter),
            live: index.live()?,
            head: (!head.note.is_empty()).then(|| Arc::new(head)),
            hurry: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            chores: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            limits: Limits { queue_max: options.queue_max, lag_max: options.index_lag_max },
            segment_bytes: options.segment_bytes,
            journal: journal.clone(),
            index,
            tree: Mutex::new(tree),
            key,
            figures: Figures::default(),
        });
        let writer = Writer::new(shared.clone(), appender, frontier);
        let keeper = Keeper::new(shared.clone(), applied, checkpoint);
        let threads = vec![
            thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run())?,
            thread::Builder::new().name("store-keeper".to_owned()).spawn(move || keeper.run())?,
        ];
        Ok(Self { shared, running: Mutex::new(Running { threads, _lock: lock }) })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.begin_close();
        std::mem::take(&mut *lock(&self.running)).join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings the index up to the journal's end, and tells how far that is and how the tree ends there.
fn load(journal: &Journal, index: &Index, key: &LogKey) -> Result<(Applied, Tree), OpenError> {
    let known = index.applied()?;
    if known.position > 0 {
        match catch_up(journal, index, known, key) {
            // The index may be that of another copy, so the journal decides.
            Err(error @ (OpenError::Index(_) | OpenError::Damaged(_))) => {
                tracing::warn!(%error, "the index does not fit the journal and is made anew");
            }
            decided => return decided,
        }
        index.clear(key.origin())?;
    }
    catch_up(journal, index, index.applied()?, key)
}

fn catch_up(
    journal: &Journal,
    index: &Index,
    known: Applied,
    key: &LogKey,
) -> Result<(Applied, Tree), OpenError> {
    let (mut applied, end) = (known, journal.end());
    if applied.position > end {
        return Err(OpenError::Index("it is ahead of the journal".to_owned()));
    }
    let mut tree = Tree::resume(applied.size, |level, number| index.tile(level, number))?;
    let (mut told, mut buffer) = (Instant::now(), Vec::new());
    while applied.position < end {
        let frames = journal.frames(applied.position, end, ROUND_BYTES_MAX, &mut buffer)?;
        let batches = decode(&frames).map_err(|error| OpenError::Damaged(error.to_string()))?;
        batches.iter().try_for_each(|batch| grow(&mut tree, batch))?;
        applied = index.apply(
            &batches,
            frames.last().map_or(end, |frame| frame.next),
            &tree.tiles_since(applied.size),
        )?;
        tree.forget(applied.size);
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let percent = applied.position * 100 / end;
            tracing::info!(log.size = applied.size, percent, "bringing the index up to date: {percent} %");
        }
    }
    if !applied.note.is_empty() {
        let vkey: Vkey = key.vkey().parse()?;
        let signed = Checkpoint::open(&applied.note, &vkey)?;
        if (signed.size, signed.root) != (tree.size(), frontier(index, &tree, tree.size())?.root()) {
            return Err(OpenError::Damaged(
                "the leaves are not those that the last checkpoint signed".to_owned(),
            ));
        }
    }
    Ok((applied, tree))
}

/// Appends a batch's leaves to the tree, after a look at whether they are the ones that were hashed.
fn grow(tree: &mut Tree, batch: &Batch<'_>) -> Result<(), OpenError> {
    if batch.first_index != tree.size() {
        return Err(OpenError::Damaged(format!("leaf {} follows leaf {}", batch.first_index, tree.size())));
    }
    for (_, leaf) in batch.commits.iter().flat_map(|commit| &commit.leaves) {
        if leaf_hash(leaf.bytes) != leaf.hash {
            return Err(OpenError::Damaged(format!("leaf {} does not have its hash", tree.size())));
        }
        tree.push(leaf.hash);
    }
    Ok(())
}

/// The batches in these frames.
pub(crate) fn decode<'a>(frames: &[Frame<'a>]) -> Result<Vec<Batch<'a>>, Malformed> {
    frames.iter().map(|frame| decode_batch(frame.payload, frame.position)).collect()
}

fn frontier(index: &Index, tree: &Tree, size: LeafIndex) -> Result<Frontier, IndexError> {
    Whole { tree, tile: |level, number| index.tile(level, number) }.frontier(size)
}

/// Refuses to go on with a log that does not begin with what the checkpoint file says was signed.
fn check_rollback(file: &CheckpointFile, index: &Index, tree: &Tree, origin: &str) -> Result<(), OpenError> {
    if file.note().is_empty() {
        if tree.size() > 0 {
            tracing::warn!(log.size = tree.size(), "there is no checkpoint file; a rollback cannot be told");
        }
        return Ok(());
    }
    // Its signature says nothing here: whoever can write the file could as well remove it.
    let signed = Checkpoint::parse_unverified(file.note())?;
    if signed.origin != origin {
        return Err(NoteError::Origin { found: signed.origin, wanted: origin.to_owned() }.into());
    }
    if signed.size > tree.size() {
        return Err(OpenError::RolledBack { leaves: tree.size(), signed: signed.size });
    }
    if frontier(index, tree, signed.size)?.root() != signed.root {
        return Err(OpenError::Forked { signed: signed.size });
    }
    Ok(())
}

/// What callers and threads share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Wakes the writer.
    pub(crate) work: Condvar,
    /// Wakes the keeper.
    pub(crate) chores: Condvar,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) limits: Limits,
    pub(crate) segment_bytes: u64,
    pub(crate) journal: Arc<Journal>,
    pub(crate) index: Index,
    /// The right end of the durable tree.
    pub(crate) tree: Mutex<Tree>,
    pub(crate) key: LogKey,
    pub(crate) figures: Figures,
}

/// How far threads have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) durable: Ticket,
    pub(crate) indexed: Ticket,
    pub(crate) stopped: bool,
}

/// Counted since start.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) commits: AtomicU64,
    pub(crate) batches: AtomicU64,
    /// Smoothed time of a batch, in microseconds.
    pub(crate) commit_us: AtomicU64,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// Ends the store for good. Nothing is tried again: what a failed write left behind is known only after a start.
    pub(crate) fn stop(&self, reason: &str) {
        let dropped = self.state().stop(reason);
        for pending in dropped {
            pending.answer(Err(CommitError::Stopped(reason.to_owned())));
        }
        self.progress.send_modify(|progress| progress.stopped = true);
        self.work.notify_all();
        self.chores.notify_all();
    }

    fn begin_close(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_all();
        self.chores.notify_all();
    }

    /// Waits until threads have come so far.
    async fn wait(&self, far: impl Fn(&Progress) -> bool) -> Result<(), StoreError> {
        // The sender lives as long as `self`, so waiting cannot fail.
        let mut progress = self.progress.subscribe();
        let _reached = progress.wait_for(|progress| progress.stopped || far(progress)).await;
        self.state().running()
    }

    /// Waits until the index holds every commit up to `ticket`.
    async fn wait_indexed(&self, ticket: Ticket) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            state.running()?;
            if state.indexed >= ticket {
                return Ok(());
            }
            state.hurry = true;
        }
        self.chores.notify_all();
        self.wait(|progress| progress.indexed >= ticket).await
    }

    fn read_leaves(&self, places: Vec<(LeafIndex, Place)>) -> Result<Vec<StoredLeaf>, StoreError> {
        let mut reader = self.journal.reader();
        let mut leaves = Vec::with_capacity(places.len());
        for (index, place) in places {
            let record = reader.record(place).map_err(unreadable)?;
            let leaf = decode_leaf(&record).map_err(unreadable)?;
            if leaf_hash(leaf.bytes) != leaf.hash {
                return Err(StoreError::Read(format!("leaf {index} has changed since it was written")));
            }
            leaves.push(leaf.stored(index));
        }
        Ok(leaves)
    }

    fn read_session(&self, id: &SessionId) -> Result<SessionState, StoreError> {
        let Some(place) = self.index.session(id).map_err(unreadable)? else {
            return Ok(SessionState::default());
        };
        let record = self.journal.reader().record(place).map_err(unreadable)?;
        Ok(decode_session(&record).map_err(unreadable)?.state())
    }

    fn read_recorded(&self, key: &str) -> Result<Option<Recorded>, StoreError> {
        let mut reader = self.journal.reader();
        for place in self.index.recorded(key).map_err(unreadable)? {
            let record = reader.record(place).map_err(unreadable)?;
            let found = decode_recorded(&record).map_err(unreadable)?;
            if found.key == key {
                return Ok(Some(found.recorded()));
            }
        }
        Ok(None)
    }
}

/// Copies are made here, outside the lock.
fn oldest_first(found: Vec<Arc<Approval>>) -> Vec<Approval> {
    let mut found: Vec<_> = found.into_iter().map(Arc::unwrap_or_clone).collect();
    found.sort_by_key(|approval| approval.opened_at);
    found
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Read(error.to_string())
}

impl Local {
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || read(&shared)).await.map_err(unreadable)?
    }

    fn running(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.shared.state();
        state.running()?;
        Ok(state)
    }

    /// The session, which is in the cache afterwards unless it was pushed out at once.
    async fn load_session(&self, id: &SessionId) -> Result<Arc<SessionState>, StoreError> {
        let indexed = {
            let mut state = self.running()?;
            if let Some(session) = state.sessions.get(id) {
                return Ok(session);
            }
            state.indexed
        };
        let wanted = id.clone();
        let session = Arc::new(self.read(move |shared| shared.read_session(&wanted)).await?);
        let mut state = self.running()?;
        // Were the index newer by now, this session could have changed and been pushed out again meanwhile.
        if state.indexed == indexed && state.sessions.get(id).is_none() {
            state.sessions.put(id.clone(), session.clone(), 0, indexed);
        }
        Ok(session)
    }

    /// Waits until a commit that somebody else made is durable.
    async fn wait_durable(&self, ticket: Ticket) -> Result<(), StoreError> {
        self.shared.wait(|progress| progress.durable >= ticket).await
    }
}

#[async_trait]
impl Store for Local {
    async fn recorded(&self, key: &str) -> Result<Option<Recorded>, StoreError> {
        let recent = {
            let state = self.running()?;
            let recent = state.keys.get(key);
            if recent.is_none() && !state.keys.may_be_indexed(key) {
                return Ok(None);
            }
            recent
        };
        if let Some((recorded, ticket)) = recent {
            self.wait_durable(ticket).await?;
            return Ok(Some(Recorded::clone(&recorded)));
        }
        let key = key.to_owned();
        self.read(move |shared| shared.read_recorded(&key)).await
    }

    async fn session(&self, id: &SessionId) -> Result<SessionState, StoreError> {
        Ok(SessionState::clone(&*self.load_session(id).await?))
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let mut draft = Draft::new(commit)?;
        loop {
            let (step, indexed) = {
                let mut state = self.shared.state();
                (state.accept(&mut draft, &self.shared.limits), state.indexed)
            };
            match step {
                Step::Queued { first_index, reply } => {
                    self.shared.work.notify_one();
                    return written(first_index, reply).await;
                }
                Step::Duplicate(recorded, ticket) => {
                    self.wait_durable(ticket).await?;
                    return Err(CommitError::Duplicate(Box::new(Recorded::clone(&recorded))));
                }
                Step::NeedSession(id) => {
                    self.load_session(&id).await?;
                }
                Step::NeedKey(key) => {
                    if let Some(recorded) = self.read(move |shared| shared.read_recorded(&key)).await? {
                        return Err(CommitError::Duplicate(Box::new(recorded)));
                    }
                    draft.unrecorded(indexed);
                }
                Step::Refused(error) => return Err(error),
            }
        }
    }

    async fn approval(&self, id: &ApprovalId) -> Result<Option<Approval>, StoreError> {
        let found = self.running()?.live.approval(id);
        Ok(found.map(Arc::unwrap_or_clone))
    }

    async fn approvals(&self) -> Result<Vec<Approval>, StoreError> {
        let found = self.running()?.live.approvals();
        Ok(oldest_first(found))
    }

    async fn questions(
        &self,
        session: &SessionId,
        action_hash: Option<&str>,
    ) -> Result<Vec<Approval>, StoreError> {
        let found = self.running()?.live.questions(session, action_hash);
        Ok(oldest_first(found))
    }

    fn each_approval(&self, each: &mut dyn FnMut(&Approval)) -> Result<(), StoreError> {
        let open = self.running()?.live.approvals();
        open.iter().for_each(|approval| each(approval));
        Ok(())
    }

    async fn due_questions(&self, now: Timestamp, limit: usize) -> Result<Vec<Approval>, StoreError> {
        let found = self.running()?.live.due_questions(now, limit);
        Ok(found.into_iter().map(Arc::unwrap_or_clone).collect())
    }

    async fn grants(
        &self,
        session: &SessionId,
        action_hash: &str,
        now: Timestamp,
    ) -> Result<Vec<Grant>, StoreError> {
        Ok(self.running()?.live.grants(session, action_hash, now))
    }

    async fn is_granted(&self, questions: &[ApprovalId], now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.running()?.live.is_granted(questions, now))
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut due = self.running()?.live.outbox(|entry| !entry.dead && entry.next_at <= now);
        due.truncate(limit);
        Ok(due)
    }

    async fn outbox(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        Ok(self.running()?.live.outbox(|_| true))
    }

    async fn halts(&self) -> Result<Vec<Halt>, StoreError> {
        Ok(self.running()?.live.halts())
    }

    async fn break_glasses(&self) -> Result<Vec<BreakGlass>, StoreError> {
        Ok(self.running()?.live.break_glasses())
    }

    async fn checkpoint(&self) -> Result<Option<SealedHead>, StoreError> {
        let head = self.running()?.head.clone();
        Ok(head.filter(|head| head.size > 0).map(|head| SealedHead::clone(&head)))
    }

    async fn leaves(&self, from: LeafIndex, limit: usize) -> Result<Vec<StoredLeaf>, StoreError> {
        let durable = {
            let state = self.running()?;
            if state.head.as_ref().is_none_or(|head| head.size <= from) {
                return Ok(Vec::new());
            }
            state.durable
        };
        self.shared.wait_indexed(durable).await?;
        self.read(move |shared| shared.read_leaves(shared.index.leaves(from, limit).map_err(unreadable)?))
            .await
    }

    async fn find(&self, query: &Query) -> Result<Vec<StoredLeaf>, StoreError> {
        let accepted = self.running()?.accepted;
        self.shared.wait_indexed(accepted).await?;
        let query = query.clone();
        self.read(move |shared| {
            let mut leaves = shared.read_leaves(shared.index.find(&query).map_err(unreadable)?)?;
            leaves.retain(|leaf| query.names(&leaf.summary));
            Ok(leaves)
        })
        .await
    }

    async fn receipt(&self, id: &ReceiptId) -> Result<Option<StoredLeaf>, StoreError> {
        let accepted = self.running()?.accepted;
        self.shared.wait_indexed(accepted).await?;
        let id = id.clone();
        self.read(move |shared| {
            let leaves = shared.read_leaves(shared.index.receipt(&id).map_err(unreadable)?)?;
            Ok(leaves.into_iter().find(|leaf| leaf.summary.receipt_id == id))
        })
        .await
    }

    async fn inclusion(&self, index: LeafIndex, size: LeafIndex) -> Result<Vec<LeafHash>, StoreError> {
        drop(self.running()?);
        let tree = self.shared.tree().clone();
        if index >= size || size > tree.size() {
            let problem = format!("leaf {index} in a tree of {size}, of {} leaves in all", tree.size());
            return Err(StoreError::Range(problem));
        }
        self.read(move |shared| {
            let whole = Whole { tree: &tree, tile: |level, number| shared.index.tile(level, number) };
            inclusion_path(index, size, &whole).map_err(unreadable)
        })
        .await
    }

    fn health(&self) -> Health {
        let state = self.shared.state();
        let (approvals, outbox, dead_letters) = state.live.counts();
        let stopped = match &state.phase {
            Phase::Stopped(reason) => Some(reason.clone()),
            Phase::Open | Phase::Closing => None,
        };
        Health {
            stopped,
            size: state.head.as_ref().map_or(0, |head| head.size),
            queued: state.queue.len(),
            index_lag: state.accepted - state.indexed,
            commits: self.shared.figures.commits.load(Ordering::Relaxed),
            batches: self.shared.figures.batches.load(Ordering::Relaxed),
            commit_us: self.shared.figures.commit_us.load(Ordering::Relaxed),
            approvals,
            outbox,
            dead_letters,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.begin_close();
        let running = std::mem::take(&mut *lock(&self.running));
        tokio::task::spawn_blocking(move || running.join()).await.map_err(unreadable)?;
        self.shared.state().running()
    }
}

/// Waits until an accepted commit is durable.
async fn written(
    first_index: LeafIndex,
    reply: oneshot::Receiver<Result<Arc<SealedHead>, CommitError>>,
) -> Result<Committed, CommitError> {
    match reply.await {
        Ok(outcome) => Ok(Committed { first_index, head: SealedHead::clone(&*outcome?) }),
        Err(_) => Err(CommitError::Unknown("the writer has ended".to_owned())),
    }
}

impl From<StoreError> for CommitError {
    /// What keeps a commit from being looked at: nothing was written.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped(reason) => Self::Stopped(reason),
            StoreError::Read(_) | StoreError::Range(_) => Self::Stopped(error.to_string()),
        }
    }
}
