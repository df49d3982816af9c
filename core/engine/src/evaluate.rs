//! The decision function, and the same with its reasons laid open.

use cedar_policy::{AuthorizationError, Authorizer, EvaluationError, PolicyId, Response};
use countersign_schemas::{Action, Context, Decision, Severity, Timestamp, Verdict};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::index::Names;
use crate::policies::Policies;
use crate::reads::covers;
use crate::request::Subject;
use crate::resolve::{Matches, Resolution, relies_on, resolve};
use crate::rule::{Outcome, PolicyClass, PolicyInfo};

/// Decides: the same policies, action, context and time always give the same decision.
///
/// Every satisfied and every undecidable policy is found; then, in this order:
///
/// 1. A satisfied `@class("forbidden")` policy is a DENY, whatever else is missing and whatever outranks it.
/// 2. A policy that failed (integer overflow, a type error, the recursion limit) is a DENY of severity critical.
/// 3. A `@class("forbidden")` policy that cannot be evaluated for lack of context is a DEFER.
/// 4. The best `@priority` among the satisfied policies gives the tentative outcome. Within one priority a forbid
///    beats a permit. Forbids that want different things are a DEFER of kind conflict; STEP_UPs that name the same
///    approvers and MODIFYs whose patches touch nothing in common are one. When nothing matches, the configured
///    default applies.
/// 5. A policy that cannot be evaluated for lack of context and could change that outcome is a DEFER.
/// 6. Otherwise the tentative outcome.
///
/// A MODIFY whose patch would change nothing is fulfilled and counts as not satisfied. The changed action of a
/// MODIFY is judged once more, with its facets made anew by [`crate::Options::refacet`]; anything but ALLOW is
/// then a DENY.
#[must_use]
pub fn evaluate(policies: &Policies, action: &Action, context: &Context, now: Timestamp) -> Decision {
    judge(policies, action, context, now).decision
}

/// A decision and everything that was looked at for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What [`evaluate`] answers.
    pub decision: Decision,
    /// What became of each policy whose scope admits the action, in the order of their ids.
    pub considered: Vec<Considered>,
    /// The same for the action as a MODIFY changed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub considered_after_modify: Vec<Considered>,
    /// Dotted context paths that some policy whose scope admits the action reads and nobody knows.
    pub unpopulated: Vec<String>,
}

/// One policy whose scope admits the action.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// `@class`.
    pub class: PolicyClass,
    /// The source it came from.
    pub file: String,
    /// What became of it.
    pub finding: Finding,
    /// `@id`.
    pub id: String,
    /// Line in the source, from 1.
    pub line: usize,
    /// Unpopulated paths that it relies on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Its tier; lower wins.
    pub priority: u32,
    /// `@reason`.
    pub reason: String,
    /// What it decides when it is satisfied.
    pub verdict: Verdict,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Its condition holds.
    Satisfied,
    /// Its condition holds, but its patch would change nothing.
    Fulfilled,
    /// Context that it needs is missing.
    Undecidable,
    /// It could not be evaluated for another reason.
    Fault,
    /// Its condition does not hold.
    NotSatisfied,
}

/// Decides as [`evaluate`] does, and tells what became of every policy that could have had a say.
#[must_use]
pub fn explain(policies: &Policies, action: &Action, context: &Context, now: Timestamp) -> Explanation {
    let judgement = judge(policies, action, context, now);
    let considered = |pass: Option<&Pass>| pass.map(|pass| pass.considered(policies)).unwrap_or_default();
    let unpopulated = judgement.first.iter().flat_map(|pass| pass.unpopulated(policies));
    Explanation {
        considered: considered(judgement.first.as_ref()),
        considered_after_modify: considered(judgement.second.as_ref()),
        unpopulated: unpopulated.map(str::to_owned).collect(),
        decision: judgement.decision,
    }
}

/// A decision and the one or two passes behind it.
struct Judgement {
    decision: Decision,
    first: Option<Pass>,
    second: Option<Pass>,
}

fn judge(policies: &Policies, action: &Action, context: &Context, now: Timestamp) -> Judgement {
    let subject = Subject { action, facets: Some(&action.facets), now, session: context };
    let Some(first) = Pass::run(policies, &subject) else {
        return Judgement { decision: unaskable(policies), first: None, second: None };
    };
    match resolve(policies, &first.matches, action) {
        Resolution::Decided(decision) => Judgement { decision, first: Some(first), second: None },
        Resolution::Modify(parameters, decision) => {
            let (decision, second) = judge_modified(policies, &subject, parameters, decision);
            Judgement { decision, first: Some(first), second }
        }
    }
}

/// Judges the action as the MODIFY `decision` would have it run.
fn judge_modified(
    policies: &Policies,
    subject: &Subject<'_>,
    parameters: Map<String, Value>,
    decision: Decision,
) -> (Decision, Option<Pass>) {
    let changed = Action { parameters, ..subject.action.clone() };
    let facets = policies.options().refacet.map(|refacet| refacet(&changed));
    let subject = Subject { action: &changed, facets: facets.as_ref(), ..*subject };
    let Some(pass) = Pass::run(policies, &subject) else { return (unaskable(policies), None) };
    let again = match resolve(policies, &pass.matches, &changed) {
        Resolution::Decided(again) | Resolution::Modify(_, again) => again,
    };
    if again.verdict == Verdict::Allow {
        return (decision, Some(pass));
    }
    let mut policies = decision.policies;
    policies.extend(again.policies);
    policies.sort_by(|a, b| a.id.cmp(&b.id));
    policies.dedup();
    let refused = Decision {
        bundle_sha256: decision.bundle_sha256,
        policies,
        severity: decision.severity.max(again.severity),
        ..Decision::deny(format!("still {} after modification: {}", again.verdict, again.reason))
    };
    (refused, Some(pass))
}

/// The decision when Cedar does not take the request.
fn unaskable(policies: &Policies) -> Decision {
    Decision {
        bundle_sha256: policies.bundle_sha256().to_owned(),
        severity: Severity::Critical,
        ..Decision::deny("the action could not be put to the policies")
    }
}

/// One look at all policies.
struct Pass {
    matches: Matches,
    /// Indices of the rules whose scope admits the action.
    scoped: Vec<usize>,
}

impl Pass {
    /// `None` when there is no request to evaluate.
    fn run(policies: &Policies, subject: &Subject<'_>) -> Option<Self> {
        let names = policies.builder().names(subject.action);
        let slices = policies.index().slices(subject.action.effect, &names);
        let wanted = slices.iter().fold(0, |wanted, slice| wanted | slice.wanted);
        let built = policies.builder().build(subject, &names, wanted)?;
        let authorizer = Authorizer::new();
        let mut pass = Self { matches: Matches::default(), scoped: Vec::new() };
        for slice in slices {
            for set in &slice.sets {
                let response = authorizer.is_authorized(&built.request, set, &built.entities);
                pass.note(policies, &response);
            }
            pass.scoped.extend(&slice.rules);
        }
        pass.finish(policies, subject, &names, built.unpopulated);
        Some(pass)
    }

    fn note(&mut self, policies: &Policies, response: &Response) {
        let number = |id: &PolicyId| policies.number(id);
        self.matches.satisfied.extend(response.diagnostics().reason().filter_map(number));
        for error in response.diagnostics().errors() {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let Some(rule) = number(error.policy_id()) else { continue };
            match fault(error.inner()) {
                None => self.matches.undecidable.push(rule),
                Some(fault) => self.matches.faults.push((rule, fault)),
            }
        }
    }

    /// Sorts what was found, since Cedar reports in no order, and sets aside what does not count.
    fn finish(
        &mut self,
        policies: &Policies,
        subject: &Subject<'_>,
        names: &Names,
        unpopulated: Vec<&'static str>,
    ) {
        self.matches.unpopulated = unpopulated;
        self.scoped.sort_unstable();
        let (effect, matches) = (subject.action.effect, &mut self.matches);
        self.scoped.retain(|rule| policies.rule(*rule).scope.admits(effect, names));
        if policies.options().strict_reference {
            let lacking =
                |rule: &&usize| matches.unpopulated.iter().any(|path| relies_on(policies.rule(**rule), path));
            matches.undecidable = self.scoped.iter().filter(lacking).copied().collect();
        }
        matches.satisfied.sort_unstable();
        matches.undecidable.sort_unstable();
        matches.faults.sort_unstable();
        let parameters = &subject.action.parameters;
        let fulfilled = |rule: &usize| match &policies.rule(*rule).outcome {
            Outcome::Modify(edit) => edit.is_fulfilled_by(parameters),
            _ => false,
        };
        matches.fulfilled = matches.satisfied.iter().copied().filter(fulfilled).collect();
        matches.satisfied.retain(|rule| !matches.fulfilled.contains(rule));
    }

    /// What is not known, of all that the policies in scope read.
    fn unpopulated(&self, policies: &Policies) -> impl Iterator<Item = &'static str> {
        let reads =
            |rule: &usize, path: &str| policies.rule(*rule).reads.paths().any(|read| covers(read, path));
        let known = self.matches.unpopulated.iter().copied();
        known.filter(move |path| self.scoped.iter().any(|rule| reads(rule, path)))
    }

    fn considered(&self, policies: &Policies) -> Vec<Considered> {
        let matches = &self.matches;
        let finding = |rule: &usize| match rule {
            rule if matches.faults.iter().any(|(fault, _)| fault == rule) => Finding::Fault,
            rule if matches.satisfied.contains(rule) => Finding::Satisfied,
            rule if matches.undecidable.contains(rule) => Finding::Undecidable,
            rule if matches.fulfilled.contains(rule) => Finding::Fulfilled,
            _ => Finding::NotSatisfied,
        };
        let considered = |number: &usize| {
            let rule = policies.rule(*number);
            let PolicyInfo { class, file, id, line, priority, reason, verdict, .. } = rule.info.clone();
            let needs = matches.unpopulated.iter().filter(|path| relies_on(rule, path));
            let needs = needs.map(|path| (*path).to_owned()).collect();
            Considered { class, file, finding: finding(number), id, line, needs, priority, reason, verdict }
        };
        self.scoped.iter().map(considered).collect()
    }
}

/// What went wrong, in our words; `None` when it is only that context is missing.
fn fault(error: &EvaluationError) -> Option<&'static str> {
    match error {
        EvaluationError::EntityDoesNotExist(_)
        | EvaluationError::EntityAttrDoesNotExist(_)
        | EvaluationError::RecordAttrDoesNotExist(_) => None,
        EvaluationError::IntegerOverflow(_) => Some("integer overflow"),
        EvaluationError::RecursionLimit(_) => Some("too deeply nested"),
        EvaluationError::TypeError(_) => Some("type error"),
        _ => Some("not evaluable"),
    }
}
