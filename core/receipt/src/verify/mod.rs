//! The offline check that a stranger runs: an export, a trust file, and nothing else.
//!
//! Streams. What one receipt says about itself is checked on `threads` threads, a chunk of lines at a time; what only
//! the order of receipts can show is checked on the caller's thread. Memory does not grow with the export, but for
//! two things: a set of receipt ids, about 30 bytes per receipt, and the head of each session, about 150 bytes.

mod history;
mod receipt;
mod report;

use std::io::BufRead;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crate::export::{ExportError, ExportHeader, read_line};
use crate::{Checkpoint, NoteError, Trust};
use history::History;
use receipt::{Checked, Checker};
pub use report::{Counts, Finding, FindingCode, OpenTicket, Outcome, Report};

/// A chunk ends with the line that reaches one of these: enough lines to make batch verification worth while, few
/// enough bytes to keep all chunks that are under way in the processor's cache.
const CHUNK_LINES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait per thread.
const CHUNKS_AHEAD: usize = 2;

/// What the check is given beside the export and the trust file.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// Checkpoints (signed notes) of the log that were kept from earlier: only they show a log that was cut or
    /// replaced by its own operator.
    pub kept_checkpoints: &'a [String],
    /// How many threads check receipts; at least one does.
    pub threads: usize,
    /// Is called now and then.
    pub progress: &'a dyn Fn(Progress),
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        Self { kept_checkpoints: &[], threads: 1, progress: &|_| {} }
    }
}

/// How far the check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Lines that were checked.
    pub receipts: u64,
    /// Leaves between the export's bounds: what `receipts` will reach, if the export is complete.
    pub expected: u64,
    /// Bytes that were checked.
    pub bytes: u64,
}

/// Checks an export. Never fails: what cannot be read or does not hold is a finding of the report.
pub fn verify<R: BufRead + Send>(mut reader: R, trust: &Trust, options: &VerifyOptions<'_>) -> Report {
    let mut report = Report::default();
    let mut first = Vec::new();
    let header = match read_line(&mut reader, &mut first).and_then(|_| ExportHeader::parse(&first)) {
        Ok(header) => header,
        Err(error) => return report.stopped(&error),
    };
    let checkpoint = match header.check() {
        Ok(checkpoint) => checkpoint,
        Err(error) => return report.stopped(&error),
    };
    report.measured_by(&header, &checkpoint);
    if let Err(error) = Checkpoint::open(&header.checkpoint, &trust.vkey) {
        report.add(Finding::on_export(FindingCode::CheckpointSignature, error.to_string()));
    }
    if header.complete && header.to < checkpoint.size {
        let message = format!(
            "the export ends at leaf {}, but its checkpoint covers {} leaves: the tail is missing",
            header.to, checkpoint.size
        );
        report.add(Finding::on_export(FindingCode::Truncated, message));
    }
    let kept = options.kept_checkpoints.iter().map(|note| Checkpoint::open(note, &trust.vkey)).collect();
    check_lines(reader, trust, options, (&header, &checkpoint), kept, report)
}

fn check_lines<R: BufRead + Send>(
    reader: R,
    trust: &Trust,
    options: &VerifyOptions<'_>,
    (header, checkpoint): (&ExportHeader, &Checkpoint),
    kept: Vec<Result<Checkpoint, NoteError>>,
    report: Report,
) -> Report {
    let checker = Checker { trust, complete: header.complete, checkpoint };
    let mut history = match History::new(header, checkpoint, kept, report) {
        Ok(history) => history,
        Err(report) => return *report,
    };
    let mut progress = Progress { receipts: 0, expected: header.to - header.from, bytes: 0 };
    let end = in_order(reader, &checker, options.threads.max(1), |checked, bytes| {
        for receipt in checked {
            progress.receipts += 1;
            history.take(receipt);
        }
        progress.bytes += bytes;
        (options.progress)(progress);
    });
    history.finish(end)
}

/// Some lines of the export, each with its line feed.
struct Chunk {
    /// Number of the first line; the header is line 1.
    first_line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Chunk {
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// A chunk's results, and how many bytes it had.
type Done = (Vec<Checked>, u64);

/// Checks chunks on several threads and hands their results over in the order of the file. Each chunk has a channel of
/// its own for its result; the channels wait in a queue in file order, and the bound of that queue bounds everything.
fn in_order<R: BufRead + Send>(
    reader: R,
    checker: &Checker<'_>,
    threads: usize,
    mut each: impl FnMut(Vec<Checked>, u64),
) -> Result<(), ExportError> {
    let (work, queue) = sync_channel(threads * CHUNKS_AHEAD);
    let (promise, promises) = sync_channel(threads * CHUNKS_AHEAD);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let reading = scope.spawn(move || read_chunks(reader, &work, &promise));
        let checking: Vec<_> = (0..threads).map(|_| scope.spawn(|| work_off(&queue, checker))).collect();
        for promise in promises {
            let promise: Receiver<Done> = promise;
            // A sender that is gone means that its thread panicked: joining it passes that on.
            let Ok((checked, bytes)) = promise.recv() else { break };
            each(checked, bytes);
        }
        let end = joined(reading);
        checking.into_iter().for_each(joined);
        end
    })
}

/// Waits for the thread itself to end. A scope alone waits for its closure only: what the thread keeps for itself may be
/// freed later, and looks like a leak until then.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read_chunks(
    mut reader: impl BufRead,
    work: &SyncSender<(Chunk, SyncSender<Done>)>,
    promises: &SyncSender<Receiver<Done>>,
) -> Result<(), ExportError> {
    let mut first_line = 2;
    loop {
        let mut chunk = Chunk { first_line, bytes: Vec::new(), ends: Vec::with_capacity(CHUNK_LINES) };
        let end = loop {
            match read_line(&mut reader, &mut chunk.bytes) {
                Ok(0) => break Some(Ok(())),
                Ok(_) => chunk.ends.push(chunk.bytes.len()),
                Err(error) => break Some(Err(error)),
            }
            if chunk.ends.len() >= CHUNK_LINES || chunk.bytes.len() >= CHUNK_BYTES {
                break None;
            }
        };
        first_line += u64::try_from(chunk.ends.len()).unwrap_or(u64::MAX);
        let (result, promise) = sync_channel(1);
        // Nobody listens any more only when a thread has panicked.
        let gone = promises.send(promise).is_err() || work.send((chunk, result)).is_err();
        match end {
            Some(end) => return end,
            None if gone => return Ok(()),
            None => {}
        }
    }
}

fn work_off(queue: &Mutex<Receiver<(Chunk, SyncSender<Done>)>>, checker: &Checker<'_>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((chunk, result)) = next else { return };
        let bytes = u64::try_from(chunk.bytes.len()).unwrap_or(u64::MAX);
        if result.send((checker.check(&chunk), bytes)).is_err() {
            return;
        }
    }
}
