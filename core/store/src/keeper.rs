//! The thread that keeps everything up to date that no commit waits for.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::checkpoint::CheckpointFile;
use crate::codec::Malformed;
use crate::index::{Applied, IndexError};
use crate::journal::JournalError;
use crate::local::{ROUND_BYTES_MAX, Shared, decode};
use crate::state::{Filter, Phase};
use crate::writer::Sentinel;

/// How long work gathers when nobody waits for it.
const ROUND: Duration = Duration::from_millis(20);
/// How often the checkpoint file is synced.
const SYNC: Duration = Duration::from_secs(1);

/// A duty cannot be done. The store stops: after a start all of it is made good or refused.
#[derive(Debug, thiserror::Error)]
enum ChoreError {
    #[error("cannot keep the checkpoint file: {0}")]
    Checkpoint(io::Error),
    #[error("cannot make the next segment: {0}")]
    Segment(io::Error),
    #[error("cannot read the journal back: {0}")]
    Journal(#[from] JournalError),
    #[error("cannot read the journal back: {0}")]
    Malformed(#[from] Malformed),
    #[error("cannot keep the index: {0}")]
    Index(#[from] IndexError),
}

/// Applies what is durable to the index, and keeps the checkpoint file, the next segment and the filter.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    applied: Applied,
    /// What was read last; kept so that it is not made anew for every round.
    buffer: Vec<u8>,
    checkpoint: Option<CheckpointFile>,
    synced_at: Instant,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, applied: Applied, checkpoint: Option<CheckpointFile>) -> Self {
        Self { shared, applied, buffer: Vec::new(), checkpoint, synced_at: Instant::now() }
    }

    pub(crate) fn run(mut self) {
        let _sentinel = Sentinel(self.shared.clone());
        loop {
            let goes_on = self.wait();
            if let Err(error) = self.round(!goes_on) {
                self.shared.stop(&error.to_string());
                return;
            }
            if !goes_on && self.applied.position == self.shared.state().durable_end {
                return;
            }
        }
    }

    /// Waits until there is something to do; false when it is the last time.
    fn wait(&self) -> bool {
        let mut state = self.shared.state();
        let mut gathered_at = None;
        loop {
            match state.phase {
                Phase::Stopped(_) => return false,
                Phase::Closing if state.durable == state.accepted => return false,
                Phase::Open | Phase::Closing => {}
            }
            let pause = if state.indexed < state.durable {
                let gathered_at = *gathered_at.get_or_insert_with(|| Instant::now() + ROUND);
                let full = state.durable_end - self.applied.position >= ROUND_BYTES_MAX;
                if std::mem::take(&mut state.hurry) || full || state.phase != Phase::Open {
                    Duration::ZERO
                } else {
                    gathered_at.saturating_duration_since(Instant::now())
                }
            } else if self.checkpoint.as_ref().is_some_and(|file| !file.is_synced()) {
                SYNC.saturating_sub(self.synced_at.elapsed())
            } else {
                Duration::MAX
            };
            if pause.is_zero() {
                return true;
            }
            let woken = self.shared.chores.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn round(&mut self, last: bool) -> Result<(), ChoreError> {
        self.keep_checkpoint(last)?;
        self.shared.journal.prepare(self.shared.segment_bytes).map_err(ChoreError::Segment)?;
        self.keep_index()?;
        self.keep_filter()
    }

    fn keep_checkpoint(&mut self, last: bool) -> Result<(), ChoreError> {
        let Some(file) = &mut self.checkpoint else { return Ok(()) };
        let head = self.shared.state().head.clone();
        if let Some(head) = head {
            file.put(&head.note).map_err(ChoreError::Checkpoint)?;
        }
        if !file.is_synced() && (last || self.synced_at.elapsed() >= SYNC) {
            file.sync().map_err(ChoreError::Checkpoint)?;
            self.synced_at = Instant::now();
        }
        Ok(())
    }

    fn keep_index(&mut self) -> Result<(), ChoreError> {
        let end = self.shared.state().durable_end;
        if self.applied.position == end {
            return Ok(());
        }
        let (journal, from) = (&self.shared.journal, self.applied.position);
        let frames = journal.frames(from, end, ROUND_BYTES_MAX, &mut self.buffer)?;
        let batches = decode(&frames)?;
        let tiles = self.shared.tree().tiles_since(self.applied.size);
        let next = frames.last().map_or(end, |frame| frame.next);
        self.applied = self.shared.index.apply(&batches, next, &tiles)?;
        self.shared.tree().forget(self.applied.size);
        let commits: usize = batches.iter().map(|batch| batch.commits.len()).sum();
        let indexed = {
            let mut state = self.shared.state();
            let indexed = state.indexed + commits as u64;
            state.indexed(indexed, self.applied.newest);
            indexed
        };
        self.shared.progress.send_modify(|progress| progress.indexed = indexed);
        Ok(())
    }

    fn keep_filter(&self) -> Result<(), ChoreError> {
        {
            let mut state = self.shared.state();
            if !state.keys.is_filter_full() {
                return Ok(());
            }
            state.keys.begin_successor();
        }
        let mut indexed = Filter::default();
        self.shared.index.fingerprints(|fingerprint| indexed.insert(fingerprint))?;
        self.shared.state().keys.finish_successor(&indexed);
        Ok(())
    }
}
