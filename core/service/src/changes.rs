//! Tells those in this process who wait for it that a question was opened or has ended: calls that are kept waiting,
//! pages that are kept fresh. Nothing depends on being told: whoever missed it asks the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_schemas::ApprovalId;
use tokio::sync::{broadcast, oneshot};

/// Changes that a slow listener may lag behind before it has to ask the store again.
const LAG_MAX: usize = 1024;

/// What happened to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was put, or is put to further people.
    Opened(ApprovalId),
    /// It was answered, timed out or was taken back.
    Ended(ApprovalId),
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) approved: bool,
    /// For people.
    pub(crate) reason: String,
}

/// Who wants to know.
pub(crate) struct Changes {
    all: broadcast::Sender<Change>,
    one: Mutex<HashMap<ApprovalId, Vec<oneshot::Sender<Ended>>>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { all: broadcast::channel(LAG_MAX).0, one: Mutex::default() }
    }
}

impl Changes {
    pub(crate) fn listen(&self) -> broadcast::Receiver<Change> {
        self.all.subscribe()
    }

    /// Waits for the end of one question. Ask the store afterwards whether it has ended already.
    pub(crate) fn wait(&self, id: &ApprovalId) -> oneshot::Receiver<Ended> {
        let (tell, told) = oneshot::channel();
        let mut one = self.lock();
        let waiting = one.entry(id.clone()).or_default();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(tell);
        told
    }

    pub(crate) fn opened(&self, id: &ApprovalId) {
        // Nobody listens, which is nobody's loss.
        let _listeners = self.all.send(Change::Opened(id.clone()));
    }

    pub(crate) fn ended(&self, id: &ApprovalId, how: Ended) {
        let waiting = self.lock().remove(id).unwrap_or_default();
        for waiting in waiting {
            // Who hung up meanwhile does not need to know.
            let _gone = waiting.send(how.clone());
        }
        let _listeners = self.all.send(Change::Ended(id.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApprovalId, Vec<oneshot::Sender<Ended>>>> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
