//! Calls that are kept waiting for a person, where the vendor's window lets them. What they wait for is durable
//! before they begin to wait; what they are told in the end is decided by the one pipeline, again.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use countersign_schemas::ApprovalId;
use countersign_sdk::{Frame, Inbound, Reply, Verified, VerifyError};

use crate::changes::Ended;
use crate::connect::Route;
use crate::pipeline::{Pipeline, Refusal};

/// What is left of the vendor's window for deciding again; at most a quarter of it.
const RESERVE: Duration = Duration::from_secs(1);

/// How the wait for one question ended.
enum Woken {
    Told(Ended),
    /// It had ended before the wait began.
    Missed,
    /// It is still open: the time is up, or we are shutting down.
    Open,
}

/// When a call that must be answered by `deadline` is kept waiting no longer.
pub(crate) fn until(route: &Route, deadline: Instant) -> Instant {
    deadline.checked_sub(RESERVE.min(route.budget / 4)).unwrap_or(deadline)
}

impl Pipeline {
    /// Waits until every question of a call is answered, or its time is up, and says what is to be said then: nothing
    /// runs but what the pipeline allows with the grant that was given meanwhile.
    pub(crate) async fn hold(
        &self,
        route: &Route,
        request: &Inbound<Verified>,
        raw_sha256: &str,
        seen: &OnceLock<Frame>,
        tickets: &[ApprovalId],
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let until = until(route, deadline);
        for ticket in tickets {
            let denied = match self.wait_for(ticket, until).await {
                Woken::Told(Ended { approved: false, reason }) => Some(reason),
                Woken::Missed if !self.is_granted(tickets).await? => {
                    Some(format!("it was answered already (ticket {ticket})"))
                }
                _ => None,
            };
            // The resolution's receipt is durable, and says DENY.
            if let Some(reason) = denied {
                let frame = seen.get().cloned().unwrap_or_else(Frame::unreadable);
                return Ok(route.deny(&frame, &reason));
            }
        }
        // Who was believed when the call came may have been locked out meanwhile. A signature's age is no news.
        match request.check_again(|request| route.verify(request, self.clock.now())) {
            Ok(_) | Err(VerifyError::Stale { .. }) => {}
            Err(error) => return Err(Refusal::NoLongerVerified(error)),
        }
        self.decide_again(route, request, raw_sha256, seen).await
    }

    async fn wait_for(&self, ticket: &ApprovalId, until: Instant) -> Woken {
        let told = self.changes.wait(ticket);
        match self.store.approval(ticket).await {
            Ok(Some(_)) => {}
            Ok(None) => return Woken::Missed,
            Err(_) => return Woken::Open,
        }
        tokio::select! {
            told = told => told.map_or(Woken::Open, Woken::Told),
            () = tokio::time::sleep_until(until.into()) => Woken::Open,
            () = self.drained() => Woken::Open,
        }
    }

    /// Whether a grant of one of these questions is there to be used.
    async fn is_granted(&self, tickets: &[ApprovalId]) -> Result<bool, Refusal> {
        Ok(self.store.is_granted(tickets, self.clock.now()).await?)
    }
}
