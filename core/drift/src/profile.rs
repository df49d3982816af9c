//! What a kind of agent may do before somebody is asked: weights, thresholds, and the running figures of a session.

use countersign_schemas::{Degree, Trend};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::Drift;

/// How much each number counts in the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Of the semantic distance.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub distance: Degree,
    /// Of the effect gap.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub gap: Degree,
    /// Of the scope expansion.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub scope: Degree,
}

impl Default for Weights {
    fn default() -> Self {
        let [distance, gap, scope] = [4_000, 4_500, 1_500].map(Degree::of_ten_thousandths);
        Self { distance, gap, scope }
    }
}

impl Weights {
    /// The weighted mean of the three, rounded half up; 0 when nothing weighs.
    #[must_use]
    pub fn score(&self, distance: Degree, gap: Degree, scope: Degree) -> Degree {
        let weigh = |weight: Degree, value: Degree| {
            u64::from(weight.ten_thousandths()) * u64::from(value.ten_thousandths())
        };
        let sum = weigh(self.distance, distance) + weigh(self.gap, gap) + weigh(self.scope, scope);
        let all =
            [self.distance, self.gap, self.scope].iter().map(|weight| weigh(*weight, Degree::ONE)).sum();
        Degree::ratio(sum, all)
    }
}

/// The thresholds of one kind of agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// What each number counts.
    pub weights: Weights,
    /// How much the newest action counts in the running average.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub alpha: Degree,
    /// The running average from which somebody is told.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub alert: Degree,
    /// The running average from which an action waits for more context.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub defer: Degree,
    /// The running average from which a person is asked.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub step_up: Degree,
    /// The score of a single action from which a person is asked, whatever the average.
    #[schemars(with = "f64", range(min = 0.0, max = 1.0))]
    pub once: Degree,
}

/// Low enough that the slow divergences of `fixtures/drift/sessions.json` are told of in time; `docs/drift.md` says
/// how often sessions that do nothing wrong pass them. Calibrate your own.
impl Default for Profile {
    fn default() -> Self {
        let [alpha, alert, defer, step_up, once] =
            [2_000, 2_500, 3_500, 4_400, 7_000].map(Degree::of_ten_thousandths);
        Self { weights: Weights::default(), alpha, alert, defer, step_up, once }
    }
}

impl Profile {
    /// What the drift so far calls for.
    #[must_use]
    pub fn concern(&self, drift: &Drift, trend: &Trend) -> Concern {
        if drift.score >= self.once || trend.ema >= self.step_up {
            Concern::StepUp
        } else if trend.ema >= self.defer {
            Concern::Defer
        } else if trend.ema >= self.alert {
            Concern::Alert
        } else {
            Concern::None
        }
    }
}

/// What drift calls for, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// Nothing.
    None,
    /// Somebody should know.
    Alert,
    /// The action should wait for more context.
    Defer,
    /// A person should decide.
    StepUp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn degree() -> impl Strategy<Value = Degree> {
        (0..=10_000_u16).prop_map(Degree::of_ten_thousandths)
    }

    proptest! {
        #[test]
        fn the_average_never_leaves_the_range_of_the_scores(scores in prop::collection::vec(degree(), 1..50), alpha in degree()) {
            let trend = scores.iter().fold(Trend::default(), |trend, score| trend.fold(*score, alpha));
            prop_assert!(trend.ema <= trend.max && trend.ema >= *scores.iter().min().unwrap());
            prop_assert_eq!(scores.iter().max(), Some(&trend.max));
        }

        #[test]
        fn the_score_lies_between_its_parts(distance in degree(), gap in degree(), scope in degree()) {
            let score = Weights::default().score(distance, gap, scope);
            prop_assert!(score >= distance.min(gap).min(scope) && score <= distance.max(gap).max(scope));
        }
    }
}
