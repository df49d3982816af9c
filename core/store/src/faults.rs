//! What goes wrong: power cuts, damaged files, failing disks, restored backups, a second process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_receipt::{LogKey, generate_key_pem};
use countersign_schemas::{Grant, Timestamp};
use tempfile::TempDir;

use crate::contract::{
    NOW, ORIGIN, Seen, a_commit_is_seen_by_every_read, contract, everything, grant, log_key, look, recorded,
    session, step, what_was_committed_outlives_the_process,
};
use crate::journal::{Medium, Memory, Segment};
use crate::{
    Commit, CommitError, GrantWrite, Local, OpenError, Options, Recorded, SessionState, Store, StoreError,
};

contract!(memory, crate::faults::memory());
contract!(local, crate::faults::Place::new().with_store());

fn memory() -> (Arc<dyn Store>, ()) {
    (Arc::new(Local::in_memory(small(), log_key()).unwrap()), ())
}

/// Small enough that tests cross from segment to segment and push sessions out of the cache.
fn small() -> Options {
    Options { segment_bytes: 16 << 10, session_cache: 4, ..Options::default() }
}

/// A place for a store and its checkpoint file, and the log's key.
struct Place {
    directory: TempDir,
    pem: String,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), pem: generate_key_pem().unwrap().to_string() }
    }

    fn key(&self) -> LogKey {
        LogKey::from_pkcs8_pem(ORIGIN, &self.pem).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn try_open(&self, name: &str, options: Options) -> Result<Local, OpenError> {
        let options = Options { checkpoint_path: Some(self.path("checkpoint")), ..options };
        Local::open(&self.path(name), options, self.key())
    }

    fn open(&self) -> Local {
        self.try_open("store", small()).unwrap()
    }

    fn with_store(self) -> (Arc<dyn Store>, Self) {
        (Arc::new(self.open()), self)
    }

    /// A closed store with this many receipts of one session, and what it showed.
    async fn filled(options: Options, receipts: usize) -> (Self, Seen) {
        let place = Self::new();
        let store = place.try_open("store", options).unwrap();
        grow(&store, receipts).await;
        let seen = look(&store, &["grown"]).await;
        store.close().await.unwrap();
        (place, seen)
    }

    /// Segments of the journal, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("store/journal")).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        segments.sort();
        segments
    }
}

/// Commits the next receipts of one session.
async fn grow(store: &Local, receipts: usize) {
    let id = session("grown");
    for _ in 0..receipts {
        store.commit(step(&id, &store.session(&id).await.unwrap())).await.unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Ends of the frames in a segment's bytes: each begins with its magic and length.
fn frame_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while bytes[at..].starts_with(&[0xC5, 0xFF]) {
        at += 20 + usize::try_from(u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap())).unwrap();
        ends.push(at);
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_outlives_a_close() {
    let place = Place::new();
    let vkey = place.key().vkey().parse().unwrap();
    what_was_committed_outlives_the_process(|| place.open(), &vkey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_outlives_a_kill() {
    let place = Place::new();
    let store = place.open();
    store.commit(everything("one")).await.unwrap();
    grow(&store, 200).await;
    let seen = look(&store, &["one", "grown"]).await;
    grow(&store, 1).await;
    // Whatever the keeper is at, this is what a kill leaves behind.
    copy(&place.path("store"), &place.path("copy"));
    let copy = place.try_open("copy", small()).unwrap();
    assert_eq!(seen.leaves, look(&copy, &[]).await.leaves[..201]);
    assert_eq!(201, copy.session(&session("grown")).await.unwrap().next_seq);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_index_is_made_anew() {
    let (place, seen) = Place::filled(small(), 300).await;
    let index = place.path("store/index.db");
    let whole = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    assert_eq!(seen, look(&place.open(), &["grown"]).await);
    for damage in [b"not a database".to_vec(), whole[..whole.len() / 2].to_vec(), Vec::new()] {
        fs::write(&index, damage).unwrap();
        assert_eq!(seen, look(&place.open(), &["grown"]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_another_copy_is_made_anew() {
    let (place, _) = Place::filled(small(), 100).await;
    copy(&place.path("store"), &place.path("copy"));
    let seen = {
        let store = place.open();
        grow(&store, 50).await;
        look(&store, &["grown"]).await
    };
    let ahead = fs::read(place.path("store/index.db")).unwrap();
    fs::copy(place.path("copy/index.db"), place.path("store/index.db")).unwrap();
    assert_eq!(seen, look(&place.open(), &["grown"]).await);
    // And one that knows more than the journal, which a lost checkpoint file lets pass.
    fs::write(place.path("copy/index.db"), ahead).unwrap();
    fs::remove_file(place.path("checkpoint")).unwrap();
    assert_eq!(
        100,
        place.try_open("copy", small()).unwrap().session(&session("grown")).await.unwrap().next_seq
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_completely_written_is_cut_off_and_nothing_else() {
    let (place, seen) = Place::filled(Options { segment_bytes: 8 << 10, ..small() }, 5).await;
    let [segment] = place.segments().try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    let ends = frame_ends(&whole);
    let (start, end) = (ends[ends.len() - 2], ends[ends.len() - 1]);
    for cut in start..end {
        let medium = Arc::new(Memory::default());
        let torn = medium.create(0, whole.len() as u64).unwrap();
        torn.write(&whole[..cut], 0).unwrap();
        let store = Local::start(medium, None, None, small(), place.key()).unwrap();
        assert_eq!(seen.leaves[..4], look(&store, &[]).await.leaves, "cut at {cut}");
        let mut rest = vec![0; whole.len() - start];
        torn.read(&mut rest, start as u64).unwrap();
        assert!(rest.iter().all(|byte| *byte == 0), "leftovers of a cut at {cut}");
        grow(&store, 1).await;
        assert_eq!(seen.leaves, look(&store, &[]).await.leaves, "cut at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_another_version_is_refused_and_left_as_it_is() {
    let (place, _) = Place::filled(Options::default(), 3).await;
    let segment = place.segments().pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[3] -= 1;
    fs::write(&segment, &bytes).unwrap();
    assert!(matches!(place.try_open("store", Options::default()), Err(OpenError::OtherVersion)));
    assert!(fs::read(&segment).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_last_batch_that_was_acknowledged_is_refused_by_the_checkpoint_file() {
    let (place, _) = Place::filled(Options { segment_bytes: 64 << 10, ..small() }, 5).await;
    let [segment] = place.segments().try_into().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let last = frame_ends(&bytes).pop().unwrap() - 1;
    bytes[last] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let refused = place.try_open("store", small()).err();
    assert!(matches!(refused, Some(OpenError::RolledBack { leaves: 4, signed: 5 })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bit_anywhere_before_the_last_batch_is_refused() {
    let options = Options { segment_bytes: 64 << 10, ..small() };
    let (place, _) = Place::filled(options.clone(), 4).await;
    let [segment] = place.segments().try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    let ends = frame_ends(&whole);
    for at in (0..ends[ends.len() - 2]).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&segment, damaged).unwrap();
        let refused = place.try_open("store", options.clone()).err();
        assert!(matches!(refused, Some(OpenError::Damaged(_))), "byte {at}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_an_old_segment_is_refused_when_it_is_replayed_and_told_when_it_is_read() {
    let (place, _) = Place::filled(small(), 100).await;
    let segments = place.segments();
    assert!(segments.len() > 3);
    let mut bytes = fs::read(&segments[1]).unwrap();
    let at = bytes.windows(6).position(|found| found == b"\"seq\":").unwrap() + 6;
    bytes[at] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    let store = place.open();
    assert!(matches!(store.leaves(0, 100).await, Err(StoreError::Read(_))));
    drop(store);
    fs::remove_file(place.path("store/index.db")).unwrap();
    assert!(matches!(place.try_open("store", small()), Err(OpenError::Damaged(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_refused_and_says_why() {
    let (place, _) = Place::filled(small(), 10).await;
    copy(&place.path("store"), &place.path("older"));
    let store = place.open();
    grow(&store, 5).await;
    store.close().await.unwrap();
    let refused = place.try_open("older", small()).err().unwrap();
    assert!(matches!(refused, OpenError::RolledBack { leaves: 10, signed: 15 }), "{refused}");
    assert!(
        refused.to_string().contains("the log has 10 leaves, but the checkpoint file says 15 were signed")
    );
    assert_eq!(15, place.open().health().size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_refused() {
    let (place, _) = Place::filled(small(), 10).await;
    copy(&place.path("store"), &place.path("fork"));
    let signed = fs::read(place.path("checkpoint")).unwrap();
    let fork = place.try_open("fork", small()).unwrap();
    fork.commit(everything("one")).await.unwrap();
    fork.close().await.unwrap();
    let forked = fs::read(place.path("checkpoint")).unwrap();
    fs::write(place.path("checkpoint"), signed).unwrap();
    grow(&place.open(), 5).await;
    fs::write(place.path("checkpoint"), forked).unwrap();
    assert!(matches!(place.try_open("store", small()), Err(OpenError::Forked { signed: 11 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_another_log_is_refused() {
    let (place, _) = Place::filled(small(), 3).await;
    let other = Place { pem: generate_key_pem().unwrap().to_string(), ..place };
    assert!(matches!(other.try_open("store", small()), Err(OpenError::Key(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_kept_out() {
    let place = Place::new();
    let store = place.open();
    assert!(matches!(place.try_open("store", small()), Err(OpenError::Locked(_))));
    drop(store);
    let (store, _place) = place.with_store();
    a_commit_is_seen_by_every_read(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_with_one_checkpoint_file_stop() {
    let place = Place::new();
    let (one, two) = (place.open(), place.try_open("two", small()).unwrap());
    one.commit(everything("one")).await.unwrap();
    one.close().await.unwrap();
    two.commit(everything("two")).await.unwrap();
    assert!(matches!(two.close().await, Err(StoreError::Stopped(_))));
}

/// A medium in memory that fails from some moment on.
#[derive(Default)]
struct Failing {
    memory: Memory,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    write: AtomicBool,
    sync: AtomicBool,
}

struct FailingSegment {
    segment: Arc<dyn Segment>,
    faults: Arc<Faults>,
}

impl Medium for Failing {
    fn segments(&self) -> io::Result<Vec<u64>> {
        self.memory.segments()
    }

    fn open(&self, name: u64) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(FailingSegment { segment: self.memory.open(name)?, faults: self.faults.clone() }))
    }

    fn create(&self, name: u64, bytes: u64) -> io::Result<Arc<dyn Segment>> {
        self.memory.create(name, bytes)?;
        self.open(name)
    }

    fn prepare(&self, bytes: u64, ready: u64) -> io::Result<()> {
        self.memory.prepare(bytes, ready)
    }
}

fn fail(fault: &AtomicBool) -> io::Result<()> {
    if fault.load(Ordering::SeqCst) { Err(io::Error::other("injected")) } else { Ok(()) }
}

impl Segment for FailingSegment {
    fn size(&self) -> io::Result<u64> {
        self.segment.size()
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.segment.read(bytes, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        fail(&self.faults.write)?;
        self.segment.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        fail(&self.faults.sync)?;
        self.segment.sync()
    }
}

async fn check_failure(fault: fn(&Faults) -> &AtomicBool) {
    let medium = Arc::new(Failing::default());
    let faults = medium.faults.clone();
    let store = Local::start(medium, None, None, small(), log_key()).unwrap();
    store.commit(everything("one")).await.unwrap();
    fault(&faults).store(true, Ordering::SeqCst);
    assert!(matches!(store.commit(everything("two")).await, Err(CommitError::Unknown(_))));
    // The disk works again, and that must not help: what it has of the failed batch is unknown.
    fault(&faults).store(false, Ordering::SeqCst);
    assert!(matches!(store.commit(everything("three")).await, Err(CommitError::Stopped(_))));
    assert!(matches!(store.recorded("key of two").await, Err(StoreError::Stopped(_))));
    assert!(matches!(store.session(&session("one")).await, Err(StoreError::Stopped(_))));
    assert!(matches!(store.leaves(0, 10).await, Err(StoreError::Stopped(_))));
    let health = store.health();
    assert_eq!((1, true), (health.size, health.stopped.is_some_and(|reason| reason.contains("injected"))));
    assert!(matches!(store.close().await, Err(StoreError::Stopped(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_nothing_is_accepted_any_more() {
    check_failure(|faults| &faults.write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_accepted_any_more() {
    check_failure(|faults| &faults.sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_grants_are_dropped_when_the_log_has_outlived_them() {
    let place = Place::new();
    let store = place.open();
    let expires_at = recorded("one").expires_at;
    store.commit(everything("one")).await.unwrap();
    let later = Recorded { expires_at: Timestamp(expires_at.0 + 1), ..recorded("two") };
    let key_of_two = "key of two".to_owned();
    store
        .commit(Commit { recorded: Some((key_of_two.clone(), later.clone())), ..everything("two") })
        .await
        .unwrap();
    let mut last = step(&session("three"), &SessionState::default());
    last.leaves[0].summary.decided_at = expires_at;
    store.commit(last).await.unwrap();
    // Reading what is new makes the index come that far.
    assert_eq!(3, store.leaves(0, 10).await.unwrap().len());
    assert_eq!(None, store.recorded("key of one").await.unwrap());
    assert_eq!(Some(later), store.recorded(&key_of_two).await.unwrap());
    assert_eq!(
        Vec::<Grant>::new(),
        store.grants(&session("one"), &grant("one").action_hash, NOW).await.unwrap()
    );
    let again = Commit { recorded: Some(("key of one".to_owned(), recorded("again"))), ..Commit::default() };
    store.commit(again).await.unwrap();
    assert_eq!(Some(recorded("again")), store.recorded("key of one").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_back_is_not_written() {
    let place = Place::new();
    let store = place.open();
    let mut commit = everything("one");
    commit.grants = vec![GrantWrite::Give(Grant { expires_at: Timestamp(i64::MAX), ..grant("one") })];
    assert!(matches!(store.commit(commit).await, Err(CommitError::Malformed(_))));
    drop(store);
    let (store, _place) = place.with_store();
    a_commit_is_seen_by_every_read(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_late_index_are_answered_busy() {
    for options in [Options { queue_max: 0, ..small() }, Options { index_lag_max: 0, ..small() }] {
        let store = Local::in_memory(options, log_key()).unwrap();
        assert_eq!(Err(CommitError::Busy), store.commit(Commit::default()).await);
    }
}
