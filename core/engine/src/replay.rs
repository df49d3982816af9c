//! Decides anew what was decided before, when not everything is known any more that was known then.

use std::collections::BTreeSet;

use countersign_schemas::{Action, Context, Decision, DeferralKind, Timestamp};

use crate::evaluate::{Considered, Explanation, Finding, explain};
use crate::policies::Policies;
use crate::resolve::{Matches, Resolution, resolve};

/// What a set would decide.
#[derive(Clone, Debug, PartialEq)]
pub enum Replay {
    /// It decides this, whatever the values are that are not known. Its reason and its policies are those of the
    /// values that were given.
    Decided(Box<Explanation>),
    /// That depends on values that are not known.
    Unknown {
        /// Dotted context paths that are read and not known, in order.
        needs: Vec<String>,
        /// Ids of the policies that read them and could change the answer, in order.
        policies: Vec<String>,
    },
}

/// Decides as [`crate::evaluate`] does, but believes no policy that reads a path which `known` does not vouch for: such
/// a policy is taken for undecidable. Paths are dotted, the empty path is the context as a whole.
#[must_use]
pub fn replay(
    policies: &Policies,
    action: &Action,
    context: &Context,
    now: Timestamp,
    known: &dyn Fn(&str) -> bool,
) -> Replay {
    let explanation = explain(policies, action, context, now);
    let doubt = Doubt { known, policies };
    let mut blockers = BTreeSet::new();
    if let Resolution::Modify(parameters, _) = doubt.resolve(&explanation.considered, action, &mut blockers) {
        let changed = Action { parameters, ..action.clone() };
        doubt.resolve(&explanation.considered_after_modify, &changed, &mut blockers);
    }
    if blockers.is_empty() {
        return Replay::Decided(Box::new(explanation));
    }
    let reads = blockers.iter().filter_map(|id| doubt.unknown(id)).flatten();
    Replay::Unknown {
        needs: reads.collect::<BTreeSet<_>>().into_iter().collect(),
        policies: blockers.into_iter().collect(),
    }
}

struct Doubt<'a> {
    known: &'a dyn Fn(&str) -> bool,
    policies: &'a Policies,
}

impl Doubt<'_> {
    /// What is read and not known, if the policy reads any such thing.
    fn unknown(&self, id: &str) -> Option<Vec<String>> {
        let rule = self.policies.rule(self.policies.number(&cedar_policy::PolicyId::new(id))?);
        let unknown: Vec<String> =
            rule.reads.paths().filter(|path| !(self.known)(path)).map(str::to_owned).collect();
        (!unknown.is_empty()).then_some(unknown)
    }

    /// Combines what was found, policies in doubt as undecidable, and adds those of them that the answer waits for to
    /// `blockers`.
    fn resolve(
        &self,
        considered: &[Considered],
        action: &Action,
        blockers: &mut BTreeSet<String>,
    ) -> Resolution {
        let in_doubt: BTreeSet<&str> =
            considered.iter().map(|of| of.id.as_str()).filter(|id| self.unknown(id).is_some()).collect();
        let mut matches = Matches::default();
        for of in considered {
            let Some(rule) = self.policies.number(&cedar_policy::PolicyId::new(&of.id)) else { continue };
            match of.finding {
                _ if in_doubt.contains(of.id.as_str()) => matches.undecidable.push(rule),
                Finding::Satisfied => matches.satisfied.push(rule),
                Finding::Undecidable => matches.undecidable.push(rule),
                Finding::Fulfilled => matches.fulfilled.push(rule),
                Finding::Fault => matches.faults.push((rule, "not evaluable")),
                Finding::NotSatisfied => {}
            }
        }
        let resolution = resolve(self.policies, &matches, action);
        if let Resolution::Decided(decision) = &resolution {
            let waits = waits_for(decision).filter(|id| in_doubt.contains(id)).map(str::to_owned);
            blockers.extend(waits);
        }
        resolution
    }
}

/// The policies that lack context, when that is why it is deferred.
fn waits_for(decision: &Decision) -> impl Iterator<Item = &str> {
    let lacking = decision.deferral.iter().filter(|deferral| deferral.kind == DeferralKind::MissingContext);
    lacking.flat_map(|deferral| deferral.policies.iter().map(String::as_str))
}
