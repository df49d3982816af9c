//! Bulk receipts: calls that were denied without a receipt of their own share one, written within milliseconds.
//! A flood of denied calls then costs one leaf in a while, not one each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use countersign_schemas::{GapView, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// What was denied since the last bulk receipt.
#[derive(Default)]
pub struct GapLedger(Mutex<Open>);

#[derive(Default)]
struct Open {
    entries: BTreeMap<(String, String), Tally>,
    done: Option<watch::Sender<bool>>,
}

struct Tally {
    count: u64,
    digest: Sha256,
    from: Timestamp,
    to: Timestamp,
}

/// What one round of bulk receipts covers.
pub struct Batch {
    /// Connector and view, one receipt each.
    pub gaps: Vec<(String, GapView)>,
    done: Option<watch::Sender<bool>>,
}

impl GapLedger {
    /// Counts one denied request. The future is ready once a bulk receipt that covers it was written, or could not be.
    pub fn note(
        &self,
        connector: &str,
        reason: &str,
        raw_sha256: &str,
        now: Timestamp,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Tally { count: 0, digest: Sha256::new(), from: now, to: now };
        let tally = open.entries.entry((connector.to_owned(), reason.to_owned())).or_insert_with(fresh);
        tally.count += 1;
        tally.digest.update(raw_sha256.as_bytes());
        tally.to = now;
        let mut done = open.done.get_or_insert_with(|| watch::Sender::new(false)).subscribe();
        async move {
            // The sender goes away only together with its batch, and then waiting is over too.
            let _closed = done.wait_for(|done| *done).await;
        }
    }

    /// Takes what has accumulated; `None` when there is nothing.
    pub fn take(&self) -> Option<Batch> {
        let open = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if open.entries.is_empty() {
            return None;
        }
        let view = |((connector, reason), tally): ((String, String), Tally)| {
            let digest = hex::encode(tally.digest.finalize());
            (connector, GapView { count: tally.count, digest, from: tally.from, reason, to: tally.to })
        };
        Some(Batch { gaps: open.entries.into_iter().map(view).collect(), done: open.done })
    }
}

impl Batch {
    /// How many requests it covers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.gaps.iter().map(|(_, gap)| gap.count).sum()
    }

    /// Wakes everybody who waits for it.
    pub fn done(self) {
        if let Some(done) = self.done {
            done.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alike_denials_share_a_receipt_and_all_wait_for_it() {
        let ledger = GapLedger::default();
        let waiters = [1, 2, 3].map(|ms| ledger.note("claude-code", "overloaded", "aa", Timestamp(ms)));
        let other = ledger.note("github", "overloaded", "bb", Timestamp(9));
        let batch = ledger.take().unwrap();
        assert!(ledger.take().is_none());
        assert_eq!(4, batch.count());
        let (connector, gap) = &batch.gaps[0];
        assert_eq!(
            ("claude-code", 3, Timestamp(1), Timestamp(3)),
            (connector.as_str(), gap.count, gap.from, gap.to)
        );
        batch.done();
        for waiter in waiters {
            waiter.await;
        }
        other.await;
    }
}
