//! What the store knows without asking a disk: everything that was accepted and is not in the index yet, and what it
//! keeps besides. All of it is behind one lock that is held for microseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use countersign_receipt::LeafHash;
use countersign_schemas::{SessionId, Timestamp};
use tokio::sync::oneshot;

use crate::codec::{Changes, encode_body};
use crate::index::fingerprint;
use crate::live::Live;
use crate::{Commit, CommitError, Index, Recorded, SealedHead, SessionState, SessionWrite, StoreError};

/// Recorded answers after which the filter is made anew: at 8 bits a key, 2 of 100 new keys cost a look-up.
const FILTER_KEYS_MAX: usize = 8 << 20;
const FILTER_WORDS: usize = FILTER_KEYS_MAX / 8;

/// Counts accepted commits since the store was opened; the first is 1.
pub(crate) type Ticket = u64;

/// Whether commits are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Closed by its owner; what was accepted is still being written.
    Closing,
    /// Failed for good.
    Stopped(String),
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    /// The newest accepted commit.
    pub(crate) accepted: Ticket,
    /// The newest durable commit.
    pub(crate) durable: Ticket,
    /// Journal position behind it.
    pub(crate) durable_end: u64,
    /// The newest commit that the index holds.
    pub(crate) indexed: Ticket,
    /// Where the next leaf goes.
    pub(crate) next_index: Index,
    pub(crate) queue: VecDeque<Pending>,
    pub(crate) sessions: Sessions,
    pub(crate) keys: Keys,
    pub(crate) live: Live,
    /// The newest durable checkpoint.
    pub(crate) head: Option<Arc<SealedHead>>,
    /// Somebody waits for the index.
    pub(crate) hurry: bool,
}

/// A commit that waits to be written.
pub(crate) struct Pending {
    pub(crate) body: Vec<u8>,
    pub(crate) hashes: Vec<LeafHash>,
    pub(crate) sessions: Vec<(SessionId, Arc<SessionState>)>,
    pub(crate) reply: oneshot::Sender<Result<Arc<SealedHead>, CommitError>>,
}

/// A commit that is to be accepted, encoded as far as it can be without knowing what comes before it.
pub(crate) struct Draft {
    body: Vec<u8>,
    leaves: Vec<DraftLeaf>,
    session: Option<SessionWrite>,
    recorded: Option<(Arc<str>, Arc<Recorded>)>,
    changes: Changes,
    /// The key is not in an index that holds everything up to this commit.
    unrecorded_at: Option<Ticket>,
}

struct DraftLeaf {
    session: SessionId,
    seq: u64,
    hash: LeafHash,
}

/// What became of a draft.
pub(crate) enum Step {
    /// It will be written.
    Queued {
        first_index: Index,
        reply: oneshot::Receiver<Result<Arc<SealedHead>, CommitError>>,
    },
    /// Its key is taken by this commit, which may not be durable yet.
    Duplicate(Arc<Recorded>, Ticket),
    /// First, this session has to be read from the index.
    NeedSession(SessionId),
    /// First, this key has to be looked up in the index.
    NeedKey(Arc<str>),
    Refused(CommitError),
}

/// Bounds on what may wait.
pub(crate) struct Limits {
    pub(crate) queue_max: usize,
    pub(crate) lag_max: u64,
}

impl Pending {
    /// About how many bytes of the journal it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.sessions.iter().map(|(_, state)| state.context.len()).sum::<usize>()
    }

    pub(crate) fn answer(self, outcome: Result<Arc<SealedHead>, CommitError>) {
        // A caller that went away does not want to know.
        let _gone = self.reply.send(outcome);
    }
}

impl Draft {
    pub(crate) fn new(commit: Commit) -> Result<Self, CommitError> {
        let Commit { approvals, grants, outbox, halts, break_glasses, .. } = &commit;
        let changes = Changes {
            approvals: approvals.clone(),
            grants: grants.clone(),
            outbox: outbox.clone(),
            halts: halts.clone(),
            break_glasses: break_glasses.clone(),
        };
        let body =
            encode_body(&commit, &changes).map_err(|error| CommitError::Malformed(error.to_string()))?;
        let leaves = commit.leaves.into_iter().map(|leaf| DraftLeaf {
            session: leaf.summary.session_id,
            seq: leaf.summary.session_seq,
            hash: leaf.hash,
        });
        Ok(Self {
            body,
            leaves: leaves.collect(),
            session: commit.session,
            recorded: commit.recorded.map(|(key, recorded)| (key.into(), Arc::new(recorded))),
            changes,
            unrecorded_at: None,
        })
    }

    /// The index does not hold the key. True of an index that holds everything up to `indexed`.
    pub(crate) fn unrecorded(&mut self, indexed: Ticket) {
        self.unrecorded_at = Some(indexed);
    }
}

impl State {
    /// # Errors
    ///
    /// When the store has stopped.
    pub(crate) fn running(&self) -> Result<(), StoreError> {
        match &self.phase {
            Phase::Open | Phase::Closing => Ok(()),
            Phase::Stopped(reason) => Err(StoreError::Stopped(reason.clone())),
        }
    }

    /// Accepts a commit, or tells what keeps it from being accepted. Nothing changes unless it is accepted.
    pub(crate) fn accept(&mut self, draft: &mut Draft, limits: &Limits) -> Step {
        match &self.phase {
            Phase::Open => {}
            Phase::Closing => return Step::Refused(CommitError::Stopped("it was closed".to_owned())),
            Phase::Stopped(reason) => return Step::Refused(CommitError::Stopped(reason.clone())),
        }
        if self.queue.len() >= limits.queue_max || self.accepted - self.indexed >= limits.lag_max {
            return Step::Refused(CommitError::Busy);
        }
        if let Some((key, _)) = &draft.recorded {
            if let Some((recorded, ticket)) = self.keys.get(key) {
                return Step::Duplicate(recorded, ticket);
            }
            if self.keys.may_be_indexed(key) && draft.unrecorded_at != Some(self.indexed) {
                return Step::NeedKey(key.clone());
            }
        }
        let sessions = match self.advance(draft) {
            Ok(sessions) => sessions,
            Err(step) => return step,
        };
        if let Err(id) = self.live.check(&draft.changes) {
            return Step::Refused(CommitError::NotOpen(id));
        }
        self.enqueue(draft, sessions)
    }

    /// The sessions as they stand after the draft. A leaf always is its session's next one, also when the commit
    /// does not write that session's context.
    fn advance(&mut self, draft: &Draft) -> Result<Vec<(SessionId, SessionState)>, Step> {
        let mut sessions: Vec<(SessionId, SessionState)> = Vec::with_capacity(1);
        let mut current = |id: &SessionId| self.sessions.get(id).ok_or_else(|| Step::NeedSession(id.clone()));
        if let Some(SessionWrite { id, expected_version, context }) = &draft.session {
            let state = current(id)?;
            if state.version != *expected_version {
                return Err(Step::Refused(CommitError::Conflict));
            }
            sessions.push((id.clone(), successor(&state, context.clone())));
        }
        for leaf in &draft.leaves {
            let at = match sessions.iter().position(|(id, _)| *id == leaf.session) {
                Some(at) => at,
                None => {
                    let state = current(&leaf.session)?;
                    sessions.push((leaf.session.clone(), successor(&state, state.context.clone())));
                    sessions.len() - 1
                }
            };
            let state = &mut sessions[at].1;
            if state.next_seq != leaf.seq {
                return Err(Step::Refused(CommitError::Conflict));
            }
            (state.next_seq, state.head) = (leaf.seq + 1, leaf.hash);
        }
        Ok(sessions)
    }

    fn enqueue(&mut self, draft: &mut Draft, sessions: Vec<(SessionId, SessionState)>) -> Step {
        self.accepted += 1;
        let ticket = self.accepted;
        let first_index = self.next_index;
        self.next_index += draft.leaves.len() as u64;
        let sessions: Vec<_> = sessions.into_iter().map(|(id, state)| (id, Arc::new(state))).collect();
        for (id, state) in &sessions {
            self.sessions.put(id.clone(), state.clone(), ticket, self.indexed);
        }
        if let Some((key, recorded)) = draft.recorded.take() {
            self.keys.put(key, recorded, ticket);
        }
        self.live.apply(std::mem::take(&mut draft.changes));
        let (reply, receiver) = oneshot::channel();
        self.queue.push_back(Pending {
            body: std::mem::take(&mut draft.body),
            hashes: draft.leaves.iter().map(|leaf| leaf.hash).collect(),
            sessions,
            reply,
        });
        Step::Queued { first_index, reply: receiver }
    }

    /// The index holds everything up to `ticket`; the log's own time is `now`.
    pub(crate) fn indexed(&mut self, ticket: Ticket, now: Timestamp) {
        self.indexed = ticket;
        self.keys.forget(ticket);
        self.live.expire(now);
    }

    /// Makes the failure final. Returns the commits that were accepted and not begun.
    pub(crate) fn stop(&mut self, reason: &str) -> VecDeque<Pending> {
        if !matches!(self.phase, Phase::Stopped(_)) {
            tracing::error!(reason, "the store has stopped");
            self.phase = Phase::Stopped(reason.to_owned());
        }
        std::mem::take(&mut self.queue)
    }
}

fn successor(state: &SessionState, context: Bytes) -> SessionState {
    SessionState { version: state.version + 1, next_seq: state.next_seq, head: state.head, context }
}

/// Sessions by name: all that changed since the index was last brought up to date, and the most recently used others.
/// Two generations stand for an order of use: what is used moves to the young one; when that is full, the old one is
/// dropped and the young one becomes old.
pub(crate) struct Sessions {
    young: HashMap<SessionId, Cached>,
    old: HashMap<SessionId, Cached>,
    generation_max: usize,
}

#[derive(Clone)]
struct Cached {
    state: Arc<SessionState>,
    /// The commit that made it so.
    ticket: Ticket,
}

impl Sessions {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (capacity / 2).max(1) }
    }

    pub(crate) fn get(&mut self, id: &SessionId) -> Option<Arc<SessionState>> {
        if let Some(cached) = self.young.get(id) {
            return Some(cached.state.clone());
        }
        let (id, cached) = self.old.remove_entry(id)?;
        let state = cached.state.clone();
        self.young.insert(id, cached);
        Some(state)
    }

    /// Ticket 0 is for what was read from the index.
    pub(crate) fn put(&mut self, id: SessionId, state: Arc<SessionState>, ticket: Ticket, indexed: Ticket) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&id) {
            let mut dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            dropped.retain(|_, cached| cached.ticket > indexed);
            // What the index does not hold must not be lost; it is old all the same.
            for (id, cached) in dropped {
                self.old.entry(id).or_insert(cached);
            }
        }
        self.old.remove(&id);
        self.young.insert(id, Cached { state, ticket });
    }
}

/// Idempotency keys: those that the index does not hold, and a filter that tells of most others that the index does
/// not hold them either.
pub(crate) struct Keys {
    recent: HashMap<Arc<str>, (Arc<Recorded>, Ticket)>,
    order: VecDeque<(Ticket, Arc<str>)>,
    filter: Filter,
    /// The filter that takes over when everything that the index holds is in it.
    successor: Option<Filter>,
}

impl Keys {
    pub(crate) fn new(filter: Filter) -> Self {
        Self { recent: HashMap::new(), order: VecDeque::new(), filter, successor: None }
    }

    pub(crate) fn get(&self, key: &str) -> Option<(Arc<Recorded>, Ticket)> {
        self.recent.get(key).cloned()
    }

    pub(crate) fn may_be_indexed(&self, key: &str) -> bool {
        self.filter.may_contain(fingerprint(key))
    }

    fn put(&mut self, key: Arc<str>, recorded: Arc<Recorded>, ticket: Ticket) {
        let fingerprint = fingerprint(&key);
        self.filter.insert(fingerprint);
        if let Some(successor) = &mut self.successor {
            successor.insert(fingerprint);
        }
        self.order.push_back((ticket, key.clone()));
        self.recent.insert(key, (recorded, ticket));
    }

    fn forget(&mut self, indexed: Ticket) {
        while let Some((_, key)) = self.order.pop_front_if(|(ticket, _)| *ticket <= indexed) {
            self.recent.remove(&key);
        }
    }

    /// Whether the filter holds so many expired keys that it should be made anew.
    pub(crate) fn is_filter_full(&self) -> bool {
        self.filter.keys >= self.filter.keys_max
    }

    /// From now on every new key goes into a successor too.
    pub(crate) fn begin_successor(&mut self) {
        let mut successor = Filter::default();
        self.recent.keys().for_each(|key| successor.insert(fingerprint(key)));
        self.successor = Some(successor);
    }

    /// Puts the successor into force. `indexed` holds all that the index holds.
    pub(crate) fn finish_successor(&mut self, indexed: &Filter) {
        if let Some(mut successor) = self.successor.take() {
            successor.merge(indexed);
            self.filter = successor;
        }
    }
}

/// A Bloom filter over fingerprints: "no" is certain. 8 MiB, whatever it holds.
pub(crate) struct Filter {
    words: Vec<u64>,
    keys: usize,
    keys_max: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { words: vec![0; FILTER_WORDS], keys: 0, keys_max: FILTER_KEYS_MAX }
    }
}

impl Filter {
    pub(crate) fn insert(&mut self, fingerprint: i64) {
        for (word, bit) in probes(fingerprint) {
            self.words[word] |= bit;
        }
        self.keys += 1;
    }

    fn may_contain(&self, fingerprint: i64) -> bool {
        probes(fingerprint).iter().all(|(word, bit)| self.words[*word] & bit != 0)
    }

    fn merge(&mut self, other: &Self) {
        for (word, bits) in self.words.iter_mut().zip(&other.words) {
            *word |= bits;
        }
        self.keys += other.keys;
        // With more keys in force than it is made for it lets more look-ups through, and is not made anew for nothing.
        self.keys_max = FILTER_KEYS_MAX.max(2 * self.keys);
    }
}

/// Four bits, by four odd multipliers (fractions of the square roots of 2, 3, 5 and 7).
fn probes(fingerprint: i64) -> [(usize, u64); 4] {
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1].map(
        |odd: u64| {
            let mixed = fingerprint.cast_unsigned().wrapping_mul(odd);
            let bit = usize::try_from(mixed >> 38).unwrap_or(0);
            (bit / 64 % FILTER_WORDS, 1 << (bit % 64))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::recorded;

    #[test]
    fn a_filter_that_is_made_anew_denies_no_key_in_force() {
        let key = |number: u64| -> Arc<str> { format!("key {number}").into() };
        let mut keys = Keys::new(Filter::default());
        let put = |keys: &mut Keys, number| keys.put(key(number), Arc::new(recorded("")), number);
        (1..=300).for_each(|number| put(&mut keys, number));
        // The index holds 200 of them, of which the first 100 have expired, when the successor begins.
        keys.forget(200);
        keys.begin_successor();
        let mut indexed = Filter::default();
        (101..=200).for_each(|number| indexed.insert(fingerprint(&key(number))));
        (301..=400).for_each(|number| put(&mut keys, number));
        keys.finish_successor(&indexed);
        assert!((101..=400).all(|number| keys.may_be_indexed(&key(number))));
        assert!((1..=100).all(|number| !keys.may_be_indexed(&key(number))));
    }

    #[test]
    fn sessions_that_the_index_does_not_hold_are_never_dropped() {
        let id = |number: u64| SessionId::derived(&[&number.to_string()]);
        let mut sessions = Sessions::new(8);
        for ticket in 1..=100 {
            let indexed = if ticket < 50 { 0 } else { 40 };
            sessions.put(id(ticket), Arc::default(), ticket, indexed);
        }
        assert!((41..=100).all(|ticket| sessions.get(&id(ticket)).is_some()));
        assert!((1..=40).all(|ticket| sessions.get(&id(ticket)).is_none()));
    }
}
