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
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, appender: Appender, frontier: Frontier) -> Self {
        Self { shared, appender, frontier, frame: Vec::new() }
    }

    pub(crate) fn run(mut self) {
        let _sentinel = Sentinel(self.shared.clone());
        while let Some(batch) = self.next() {
            self.brake();
            let started = Instant::now();
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

    /// Gives way to the index when it is far behind, the more the farther: later answers rather than refused ones.
    fn brake(&self) {
        let lag = {
            let state = self.shared.state();
            state.accepted - state.indexed
        };
        let bearable = self.shared.limits.lag_max / 2;
        if let Some(excess) = lag.checked_sub(bearable).filter(|_| bearable > 0) {
            thread::sleep(Duration::from_millis(BRAKE_MS_MAX * excess / bearable));
        }
    }

    /// The next batch; `None` when there will be none.
    fn next(&self) -> Option<Vec<Pending>> {
        let state = self.shared.state();
        let idle =
            self.shared.work.wait_while(state, |state| state.queue.is_empty() && state.phase == Phase::Open);
        let mut state = idle.unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut batch = Vec::with_capacity(state.queue.len());
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(pending) = state.queue.pop_front()
        {
            bytes += pending.bytes();
            batch.push(pending);
        }
        (!batch.is_empty()).then_some(batch)
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
