//! Callbacks that are owed to vendors: at least once, with backoff, visible when given up.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use countersign_sdk::{CallError, CallOutcome, Callback};
use countersign_store::{Commit, OutboxEntry, OutboxWrite};
use futures::FutureExt as _;
use tracing::{error, info, warn};

use crate::connect::Routes;
use crate::notify::is_notice;
use crate::pipeline::Pipeline;

/// Callbacks made side by side.
const BATCH: usize = 32;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// With the backoff above this is more than three days: longer than GitHub keeps a delivery for us.
const ATTEMPTS_MAX: u32 = 300;

impl Pipeline {
    /// Makes the callbacks that are due. Returns whether there were any. Called in short intervals by a task of the
    /// service.
    pub async fn call_back(&self, routes: &Routes) -> bool {
        // Messages to approvers wait in the same outbox, and must not stand in the vendors' way.
        let Ok(mut due) = self.store.due(self.clock.now(), usize::MAX).await else { return false };
        due.retain(|entry| !is_notice(entry));
        due.truncate(BATCH);
        let any = !due.is_empty();
        futures::future::join_all(due.into_iter().map(|entry| self.call_one(routes, entry))).await;
        any
    }

    async fn call_one(&self, routes: &Routes, entry: OutboxEntry) {
        let route = routes.get(&entry.connector);
        let made = match route.and_then(|route| route.held()) {
            Some(held) => {
                let callback = Callback(entry.callback.clone());
                let call = held.call(&callback, self.clock.now());
                AssertUnwindSafe(call)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Err(CallError::Retry("the connector failed".into())))
            }
            None => {
                Err(CallError::Permanent(format!("there is no connector `{}` any more", entry.connector)))
            }
        };
        let (id, connector) = (entry.id.clone(), entry.connector.clone());
        let write = match made {
            Ok(CallOutcome::Delivered) => {
                info!(outbox.id = %id, %connector, receipt.id = %entry.receipt_id, "told the vendor");
                OutboxWrite::Done(entry.id)
            }
            Ok(CallOutcome::Moot(reason)) => {
                info!(outbox.id = %id, %connector, receipt.id = %entry.receipt_id, "the vendor no longer waits: {reason}");
                OutboxWrite::Done(entry.id)
            }
            Err(CallError::Retry(reason)) => {
                let next = self.put_off(entry, reason);
                warn!(outbox.id = %id, %connector, attempts = next.attempts, "callback failed: {}", next.last_error.as_deref().unwrap_or_default());
                OutboxWrite::Put(Box::new(next))
            }
            Err(CallError::Permanent(reason)) => {
                error!(outbox.id = %id, %connector, "callback given up: {reason}");
                OutboxWrite::Put(Box::new(OutboxEntry {
                    attempts: entry.attempts + 1,
                    dead: true,
                    last_error: Some(reason),
                    ..entry
                }))
            }
        };
        let commit = Commit { outbox: vec![write], ..Commit::default() };
        if let Err(failed) = self.store.commit(commit).await {
            // It will be made again; callbacks are idempotent at the vendor.
            warn!(outbox.id = %id, error = %failed, "cannot note a callback's outcome: {failed}");
        }
    }

    fn put_off(&self, entry: OutboxEntry, reason: String) -> OutboxEntry {
        let attempts = entry.attempts + 1;
        let factor = 2_u32.saturating_pow(entry.attempts.min(16));
        let wait = BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_MAX);
        OutboxEntry {
            attempts,
            dead: attempts >= ATTEMPTS_MAX,
            last_error: Some(reason),
            next_at: self.clock.now().after(wait),
            ..entry
        }
    }
}
