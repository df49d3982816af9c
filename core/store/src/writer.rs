//! The thread that makes commits durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use countersign_receipt::Frontier;

use crate::codec::{Encoder, Malformed, encode_batch_head, encode_commit};
use crate::journal::Appender;
use crate::local::Shared;
use crate::state::{Pending, Phase};
use crate::{CommitError, SealedHead};

/// A batch is closed when it has grown to this size, so that its sync stays short.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// From the beginning of one batch to that of the next, when commits come side by side: a disk that syncs faster than
/// this would only be kept busy with batches of one.
const PACE: Duration = Duration::from_micros(700);
/// Pause before a batch when the index is as late as it may be.
const BRAKE_MS_MAX: u64 = 50;

/// A batch was not written, or nobody knows.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot write the journal: {0}")]
    Io(#[from] io::Error),
    #[error("cannot write the journal: {0}")]
    Malformed(#[from] Malformed),
}

/// Takes what was accepted, batch by batch. It waits for nothing but work: while a batch is being synced the next one
/// gathers.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    appender: Appender,
    frontier: Frontier,
    frame: Vec<u8>,
    /// When the last batch was begun, if it held more than one commit.
    crowded_at: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, appender: Appender, frontier: Frontier) -> Self {
        Self { shared, appender, frontier, frame: Vec::new(), crowded_at: None }
    }

    pub(crate) fn run(mut self) {
        let _sentinel = Sentinel(self.shared.clone());
        while self.wait() {
            self.gather();
            let batch = self.next();
            if batch.is_empty() {
                // The store was stopped meanwhile.
                continue;
            }
            let started = Instant::now();
            self.crowded_at = (batch.len() > 1).then_some(started);
            match self.write(&batch) {
                Ok(head) => self.publish(batch, head, started),
                Err(error) => {
                    let reason = error.to_string();
                    self.shared.stop(&reason);
                    batch
                        .into_iter()
                        .for_each(|pending| pending.answer(Err(CommitError::Unknown(reason.clone()))));
                    return;
                }
            }
        }
    }

    /// Waits for work; false when there will be none.
    fn wait(&self) -> bool {
        let state = self.shared.state();
        let idle =
            self.shared.work.wait_while(state, |state| state.queue.is_empty() && state.phase == Phase::Open);
        !idle.unwrap_or_else(std::sync::PoisonError::into_inner).queue.is_empty()
    }

    /// Lets commits gather: a little when they come side by side, and longer when the index is far behind, the more
    /// the farther, because later answers are better than refused ones.
    fn gather(&self) {
        if let Some(begun) = self.crowded_at {
            thread::sleep(PACE.saturating_sub(begun.elapsed()));
        }
        let lag = {
            let state = self.shared.state();
            state.accepted - state.indexed
        };
        let bearable = self.shared.limits.lag_max / 2;
        if let Some(excess) = lag.checked_sub(bearable).filter(|_| bearable > 0) {
            thread::sleep(Duration::from_millis(BRAKE_MS_MAX * excess / bearable));
        }
    }

    fn next(&self) -> Vec<Pending> {
        let mut state = self.shared.state();
        let mut batch = Vec::with_capacity(state.queue.len());
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(pending) = state.queue.pop_front()
        {
            bytes += pending.bytes();
            batch.push(pending);
        }
        batch
    }

    fn write(&mut self, batch: &[Pending]) -> Result<Arc<SealedHead>, WriteError> {
        let first_index = self.frontier.size();
        batch.iter().flat_map(|pending| &pending.hashes).for_each(|hash| self.frontier.push(*hash));
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let head = SealedHead { size, root, note: self.shared.key.sign(size, &root) };

        Appender::begin(&mut self.frame);
        let mut out = Encoder(std::mem::take(&mut self.frame));
        encode_batch_head(&mut out, &head.note, first_index, batch.len())?;
        for pending in batch {
            encode_commit(
                &mut out,
                &pending.body,
                pending.sessions.iter().map(|(id, state)| (id, &**state)),
            )?;
        }
        self.frame = out.0;
        self.appender.append(&mut self.frame)?;
        Ok(Arc::new(head))
    }

    fn publish(&self, batch: Vec<Pending>, head: Arc<SealedHead>, started: Instant) {
        let shared = &self.shared;
        {
            let mut tree = shared.tree();
            batch.iter().flat_map(|pending| &pending.hashes).for_each(|hash| tree.push(*hash));
        }
        let (durable, keeper_idles) = {
            let mut state = shared.state();
            let keeper_idles = state.indexed == state.durable;
            state.durable += batch.len() as u64;
            state.durable_end = self.appender.end();
            state.head = Some(head.clone());
            (state.durable, keeper_idles)
        };
        shared.figures.commits.fetch_add(batch.len() as u64, Ordering::Relaxed);
        shared.figures.batches.fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let smoothed_us = shared.figures.commit_us.load(Ordering::Relaxed);
        shared
            .figures
            .commit_us
            .store(smoothed_us.saturating_mul(7).saturating_add(took_us) / 8, Ordering::Relaxed);
        batch.into_iter().for_each(|pending| pending.answer(Ok(head.clone())));
        shared.progress.send_modify(|progress| progress.durable = durable);
        if keeper_idles {
            shared.chores.notify_one();
        }
    }
}

/// Stops the store when a thread panics: nobody else would notice.
pub(crate) struct Sentinel(pub(crate) Arc<Shared>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop("a thread of the store panicked");
        }
    }
}
