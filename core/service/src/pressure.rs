//! Overload, seen before it hurts: how late the runtime comes to work that is due.
//!
//! A bound on decisions in flight does not see requests that wait for a processor before anybody looks at them. A
//! task that should run every few milliseconds waits in the same queue as they do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(5);
/// So many looks in a row are late under overload. One may be: a machine can be stopped for a moment.
const LATE_IN_A_ROW: u32 = 2;

/// How late the runtime is.
pub(crate) struct Pressure {
    /// How late it may be.
    bound: Duration,
    late_in_a_row: AtomicU32,
}

impl Pressure {
    /// Bears with work that waits for up to `bound`.
    pub(crate) fn new(bound: Duration) -> Self {
        Self { bound, late_in_a_row: AtomicU32::new(0) }
    }

    /// Whether calls are to be denied without being decided.
    pub(crate) fn is_high(&self) -> bool {
        self.late_in_a_row.load(Ordering::Relaxed) >= LATE_IN_A_ROW
    }

    /// Looks once.
    pub(crate) async fn look(&self) {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due.into()).await;
        if due.elapsed() > self.bound {
            self.late_in_a_row.fetch_add(1, Ordering::Relaxed);
        } else {
            self.late_in_a_row.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_late(pressure: &Pressure, late: Duration) {
        let look = pressure.look();
        tokio::pin!(look);
        assert!(futures::poll!(look.as_mut()).is_pending());
        std::thread::sleep(TICK + late);
        look.await;
    }

    #[tokio::test]
    async fn a_runtime_that_keeps_being_late_is_under_pressure_until_it_has_caught_up() {
        let bound = Duration::from_millis(50);
        let pressure = Pressure::new(bound);
        look_late(&pressure, bound * 2).await;
        assert!(!pressure.is_high(), "once is no overload");
        look_late(&pressure, bound * 2).await;
        assert!(pressure.is_high());
        pressure.look().await;
        assert!(!pressure.is_high());
    }
}
