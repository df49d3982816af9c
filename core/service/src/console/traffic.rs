//! How many calls came lately, from counts that are looked at in short intervals.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_schemas::Timestamp;

use crate::connect::Routes;

/// How often the counts are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How far back they are kept: an hour.
const SAMPLES: usize = 720;

/// The counts of an hour.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<BTreeMap<String, VecDeque<(Timestamp, u64)>>>);

impl Traffic {
    /// Looks at every route's count.
    pub(crate) fn look(&self, routes: &Routes, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, route) in routes {
            let samples = all.entry(name.clone()).or_default();
            samples.push_back((now, route.metrics.figures().answered));
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
    }

    /// How many calls came since `span` ago, given how many there are by now; since the start, if that is shorter.
    pub(crate) fn within(&self, name: &str, span: Duration, answered: u64, now: Timestamp) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = all.get(name).into_iter().flatten();
        let before = samples.take_while(|(at, _)| at.until(now) >= span).last();
        answered.saturating_sub(before.map_or(0, |(_, count)| *count))
    }
}
