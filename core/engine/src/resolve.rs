//! How the policies that matched become one decision.

use countersign_schemas::{
    Action, ApprovalRule, Decision, Deferral, DeferralKind, Escalation, PolicyRef, Severity, Verdict,
};
use serde_json::{Map, Value};

use crate::policies::{Policies, Posture};
use crate::reads::covers;
use crate::rule::{Outcome, PolicyClass, Rule, Wait};

/// A reason longer than this helps nobody.
const REASON_BYTES_MAX: usize = 1_024;

/// What Cedar found, as indices of rules in ascending order, which is the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// Policies that could not be evaluated for another reason than missing context, and what it was. Cedar's own
    /// text is not kept: it quotes parameters.
    pub(crate) faults: Vec<(usize, &'static str)>,
    /// MODIFYs that match but whose patch would change nothing.
    pub(crate) fulfilled: Vec<usize>,
    pub(crate) satisfied: Vec<usize>,
    /// Policies that could not be evaluated because context is missing.
    pub(crate) undecidable: Vec<usize>,
    /// Dotted paths that some policy reads and nobody knows.
    pub(crate) unpopulated: Vec<&'static str>,
}

/// What comes of the matches.
#[derive(Debug)]
pub(crate) enum Resolution {
    Decided(Decision),
    /// The parameters a MODIFY wants, which have to be judged in turn, and the decision if they pass.
    Modify(Map<String, Value>, Decision),
}

/// Combines the matches. In this order:
///
/// 1. A satisfied `@class("forbidden")` is a DENY, whatever else is missing or of better priority.
/// 2. A policy that failed for another reason than missing context is a DENY.
/// 3. An undecidable `@class("forbidden")` is a DEFER.
/// 4. The best priority among the satisfied policies gives the tentative outcome. Within one priority a forbid
///    beats a permit; forbids that want different things are a DEFER; without a match the default applies.
/// 5. An undecidable policy that could change the tentative outcome is a DEFER.
/// 6. Otherwise the tentative outcome.
pub(crate) fn resolve(policies: &Policies, matches: &Matches, action: &Action) -> Resolution {
    let resolver = Resolver { policies, action };
    let forbidden = |rules: &[usize]| -> Vec<usize> {
        let is_forbidden = |rule: &&usize| resolver.rule(**rule).info.class == PolicyClass::Forbidden;
        rules.iter().filter(is_forbidden).copied().collect()
    };
    let vetoes = forbidden(&matches.satisfied);
    if !vetoes.is_empty() {
        return Resolution::Decided(resolver.of(Verdict::Deny, &vetoes, resolver.reasons(&vetoes)));
    }
    if !matches.faults.is_empty() {
        return Resolution::Decided(resolver.fault(&matches.faults));
    }
    let undecided_vetoes = forbidden(&matches.undecidable);
    if !undecided_vetoes.is_empty() {
        return Resolution::Decided(resolver.missing(&undecided_vetoes, &matches.unpopulated));
    }
    let tentative = resolver.tentative(&matches.satisfied);
    let blockers: Vec<usize> = matches
        .undecidable
        .iter()
        .filter(|rule| policies.options().strict_reference || resolver.could_change(**rule, &tentative))
        .copied()
        .collect();
    if !blockers.is_empty() {
        return Resolution::Decided(resolver.missing(&blockers, &matches.unpopulated));
    }
    resolver.settle(&tentative)
}

/// The outcome of the best tier.
struct Tentative {
    /// `None` when the policies in the tier want different things.
    outcome: Option<Outcome>,
    /// `None` when nothing matched: everything outranks the default.
    priority: Option<u32>,
    rules: Vec<usize>,
}

struct Resolver<'a> {
    action: &'a Action,
    policies: &'a Policies,
}

impl Resolver<'_> {
    fn rule(&self, index: usize) -> &Rule {
        self.policies.rule(index)
    }

    fn tentative(&self, satisfied: &[usize]) -> Tentative {
        let Some(best) = satisfied.iter().map(|rule| self.rule(*rule).info.priority).min() else {
            let outcome = match self.policies.options().default {
                Posture::Allow => Outcome::Allow,
                Posture::Deny => Outcome::Deny,
            };
            return Tentative { outcome: Some(outcome), priority: None, rules: Vec::new() };
        };
        let tier = satisfied.iter().copied().filter(|rule| self.rule(*rule).info.priority == best);
        let (permits, forbids): (Vec<usize>, Vec<usize>) =
            tier.partition(|rule| self.rule(*rule).outcome == Outcome::Allow);
        let rules = if forbids.is_empty() { permits } else { forbids };
        Tentative { outcome: self.common_outcome(&rules), priority: Some(best), rules }
    }

    /// What all of `rules` want, if they do not contradict one another. Several MODIFYs that touch nothing in
    /// common agree; [`Resolver::settle`] applies them all.
    fn common_outcome(&self, rules: &[usize]) -> Option<Outcome> {
        let mut outcomes = rules.iter().map(|rule| &self.rule(*rule).outcome);
        let mut common = outcomes.next()?.clone();
        for (place, outcome) in outcomes.enumerate() {
            common = match (common, outcome) {
                (Outcome::Deny, Outcome::Deny) => Outcome::Deny,
                (Outcome::Allow, Outcome::Allow) => Outcome::Allow,
                (Outcome::StepUp(a), Outcome::StepUp(b)) => Outcome::StepUp(stricter(a, b)?),
                (Outcome::Defer(a), Outcome::Defer(b)) => Outcome::Defer(joined(a, b)),
                (Outcome::Modify(first), Outcome::Modify(edit)) => {
                    let earlier = rules.iter().take(place + 1).map(|rule| &self.rule(*rule).outcome);
                    let mut edits = earlier.filter_map(|outcome| match outcome {
                        Outcome::Modify(edit) => Some(edit),
                        _ => None,
                    });
                    edits.all(|earlier| earlier.is_disjoint_from(edit)).then_some(Outcome::Modify(first))?
                }
                _ => return None,
            };
        }
        Some(common)
    }

    /// Whether the answer could become another one, if the undecidable `rule` turned out to be satisfied.
    fn could_change(&self, rule: usize, tentative: &Tentative) -> bool {
        let rule = self.rule(rule);
        // Tiers that contradict themselves are a DEFER anyway.
        let Some(outcome) = &tentative.outcome else { return false };
        // Two equal patches are not one patch: they contradict each other.
        let differs = rule.outcome != *outcome || matches!(rule.outcome, Outcome::Modify(_));
        let Some(priority) = tentative.priority else { return differs };
        // A permit does not beat a forbid of its own priority.
        let beaten = rule.outcome == Outcome::Allow && rule.info.priority == priority;
        rule.info.priority <= priority && !beaten && differs
    }

    fn settle(&self, tentative: &Tentative) -> Resolution {
        let rules = &tentative.rules;
        let Some(outcome) = &tentative.outcome else { return Resolution::Decided(self.conflict(rules)) };
        let mut decision = self.of(outcome.verdict(), rules, self.reasons(rules));
        match outcome {
            Outcome::Allow | Outcome::Deny => {}
            Outcome::StepUp(approval) => decision.approval = Some(approval.clone()),
            Outcome::Defer(wait) => {
                decision.approval.clone_from(&wait.escalation);
                decision.deferral = Some(Deferral {
                    kind: DeferralKind::Policy,
                    needs: wait.needs.clone(),
                    policies: self.ids(rules),
                    timeout_seconds: wait.timeout_seconds,
                });
            }
            Outcome::Modify(_) => {
                return match self.modified(rules) {
                    Ok(parameters) => {
                        decision.modified = Some(parameters.clone());
                        Resolution::Modify(parameters, decision)
                    }
                    Err(why) => Resolution::Decided(self.of(Verdict::Deny, rules, why)),
                };
            }
        }
        Resolution::Decided(decision)
    }

    /// The parameters after the patches of all of `rules`, in the order of their ids.
    fn modified(&self, rules: &[usize]) -> Result<Map<String, Value>, String> {
        let mut parameters = self.action.parameters.clone();
        for rule in rules.iter().map(|rule| self.rule(*rule)) {
            if let Outcome::Modify(edit) = &rule.outcome {
                parameters =
                    edit.apply(&parameters).map_err(|why| format!("policy `{}`: {why}", rule.info.id))?;
            }
        }
        Ok(parameters)
    }

    fn missing(&self, rules: &[usize], unpopulated: &[&'static str]) -> Decision {
        let mut needs: Vec<String> = unpopulated
            .iter()
            .filter(|path| rules.iter().any(|rule| relies_on(self.rule(*rule), path)))
            .map(|path| (*path).to_owned())
            .collect();
        needs.sort();
        let reason = format!("context is missing: {}, for {}", needs.join(", "), quoted(&self.ids(rules)));
        self.deferred(DeferralKind::MissingContext, rules, needs, reason)
    }

    fn conflict(&self, rules: &[usize]) -> Decision {
        let wants: Vec<String> = rules
            .iter()
            .map(|rule| &self.rule(*rule).info)
            .map(|info| format!("`{}` ({})", info.id, info.verdict))
            .collect();
        let reason = format!("policies of the same priority disagree: {}", wants.join(", "));
        self.deferred(DeferralKind::Conflict, rules, Vec::new(), reason)
    }

    fn deferred(&self, kind: DeferralKind, rules: &[usize], needs: Vec<String>, reason: String) -> Decision {
        let timeout_seconds = self.policies.options().deferral_timeout.as_secs();
        let mut decision = self.of(Verdict::Defer, rules, reason);
        decision.deferral = Some(Deferral { kind, needs, policies: self.ids(rules), timeout_seconds });
        decision
    }

    fn fault(&self, faults: &[(usize, &'static str)]) -> Decision {
        let rules: Vec<usize> = faults.iter().map(|(rule, _)| *rule).collect();
        let faults: Vec<String> =
            faults.iter().map(|(rule, fault)| format!("`{}` ({fault})", self.rule(*rule).info.id)).collect();
        let reason = format!("policies could not be evaluated: {}", faults.join(", "));
        Decision { severity: Severity::Critical, ..self.of(Verdict::Deny, &rules, reason) }
    }

    fn of(&self, verdict: Verdict, rules: &[usize], reason: String) -> Decision {
        let infos = || rules.iter().map(|rule| &self.rule(*rule).info);
        Decision {
            bundle_sha256: self.policies.bundle_sha256().to_owned(),
            policies: infos().map(|info| info.to_ref()).collect::<Vec<PolicyRef>>(),
            severity: infos().map(|info| info.severity).max().unwrap_or_default(),
            verdict,
            ..Decision::deny(cut(reason))
        }
    }

    fn ids(&self, rules: &[usize]) -> Vec<String> {
        rules.iter().map(|rule| self.rule(*rule).info.id.clone()).collect()
    }

    /// The reasons of `rules`, each once, in the order of their ids.
    fn reasons(&self, rules: &[usize]) -> String {
        let mut reasons: Vec<&str> = Vec::new();
        for info in rules.iter().map(|rule| &self.rule(*rule).info) {
            if !info.reason.is_empty() && !reasons.contains(&info.reason.as_str()) {
                reasons.push(&info.reason);
            }
        }
        match (reasons.is_empty(), rules.is_empty()) {
            (false, _) => reasons.join("; "),
            (true, false) => format!("permitted by {}", quoted(&self.ids(rules))),
            (true, true) => "no policy matches; the configured default applies".to_owned(),
        }
    }
}

/// Whether the rule needs `path` to be evaluated at all.
pub(crate) fn relies_on(rule: &Rule, path: &str) -> bool {
    rule.reads.relied_on().any(|read| covers(read, path))
}

/// Two approval rules as one, when the same people would answer both.
fn stricter(a: ApprovalRule, b: &ApprovalRule) -> Option<ApprovalRule> {
    let escalation = sooner(a.escalation.clone(), b.escalation.as_ref())?;
    (a.approvers == b.approvers).then(|| ApprovalRule {
        escalation,
        grant: a.grant.and(b.grant),
        quorum: a.quorum.max(b.quorum),
        timeout_seconds: a.timeout_seconds.min(b.timeout_seconds),
        ..a
    })
}

/// Two escalations as one, when the same people would be asked besides. `None` when they differ in that.
fn sooner(a: Option<Escalation>, b: Option<&Escalation>) -> Option<Option<Escalation>> {
    match (a, b) {
        (Some(a), Some(b)) if a.approvers != b.approvers => None,
        (Some(a), Some(b)) => {
            Some(Some(Escalation { after_seconds: a.after_seconds.min(b.after_seconds), ..a }))
        }
        (a, b) => Some(a.or_else(|| b.cloned())),
    }
}

/// Two waits as one. It escalates only when both do, to the same people; a silence is otherwise a DENY.
fn joined(a: Wait, b: &Wait) -> Wait {
    let mut needs = a.needs;
    needs.extend(b.needs.iter().cloned());
    needs.sort();
    needs.dedup();
    Wait {
        escalation: a.escalation.zip(b.escalation.as_ref()).and_then(|(a, b)| stricter(a, b)),
        needs,
        timeout_seconds: a.timeout_seconds.min(b.timeout_seconds),
    }
}

fn quoted(ids: &[String]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    quoted.join(", ")
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text
}
