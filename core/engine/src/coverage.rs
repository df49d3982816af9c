//! What cases show of each policy of a set.

use serde::Serialize;

use crate::cases::Cases;
use crate::{Finding, Policies, explain};

/// What the cases show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Policies that no case satisfies, in the order of their ids.
    pub never_satisfied: Vec<String>,
    /// The share of policies that some case satisfies, in whole percent, rounded down; 100 for an empty set.
    pub percent: usize,
    /// Every policy, in the order of their ids.
    pub policies: Vec<PolicyCoverage>,
}

/// How often a policy was found to be what, over all cases within its scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCoverage {
    /// It failed.
    pub faults: u64,
    /// `@id`.
    pub id: String,
    /// Its condition did not hold.
    pub not_satisfied: u64,
    /// Its condition held, whether or not it decided the case.
    pub satisfied: u64,
    /// Context that it needs was missing.
    pub undecidable: u64,
}

/// Counts what becomes of each policy in each case.
#[must_use]
pub fn measure(policies: &Policies, cases: &Cases) -> Coverage {
    let blank = |id: &String| PolicyCoverage { id: id.clone(), ..PolicyCoverage::default() };
    let mut counts: Vec<PolicyCoverage> = policies.iter().map(|info| blank(&info.id)).collect();
    for case in &cases.cases {
        let action = case.action.to_action(case.now);
        for considered in explain(policies, &action, &case.context, case.now).considered {
            let Ok(at) = counts.binary_search_by(|count| count.id.cmp(&considered.id)) else { continue };
            let count = &mut counts[at];
            *match considered.finding {
                Finding::Satisfied | Finding::Fulfilled => &mut count.satisfied,
                Finding::NotSatisfied => &mut count.not_satisfied,
                Finding::Undecidable => &mut count.undecidable,
                Finding::Fault => &mut count.faults,
            } += 1;
        }
    }
    let never: Vec<String> =
        counts.iter().filter(|count| count.satisfied == 0).map(|count| count.id.clone()).collect();
    let percent = ((counts.len() - never.len()) * 100).checked_div(counts.len()).unwrap_or(100);
    Coverage { never_satisfied: never, percent, policies: counts }
}
