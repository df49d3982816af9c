//! The schema's numbers with their captions, and which of them a receipt gets.

use countersign_schemas::{
    BreakGlassStep, Effect, Expressed, OutcomeStatus, PolicyChangeView, Predicate, ReceiptKind, Severity,
    Verdict,
};

/// An event class.
pub(super) struct Class {
    pub(super) uid: u32,
    pub(super) name: &'static str,
    pub(super) category_uid: u32,
    pub(super) category_name: &'static str,
}

pub(super) const API_ACTIVITY: Class =
    Class { uid: 6003, name: "API Activity", category_uid: 6, category_name: "Application Activity" };
pub(super) const ENTITY_MANAGEMENT: Class = Class {
    uid: 3004,
    name: "Entity Management",
    category_uid: 3,
    category_name: "Identity & Access Management",
};
pub(super) const DETECTION_FINDING: Class =
    Class { uid: 2004, name: "Detection Finding", category_uid: 2, category_name: "Findings" };

/// A number of an enumeration and its caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: u32,
    pub(super) name: &'static str,
}

const fn named(id: u32, name: &'static str) -> Named {
    Named { id, name }
}

pub(super) const OTHER: Named = named(99, "Other");

const INFORMATIONAL: Named = named(1, "Informational");
const LOW: Named = named(2, "Low");
const MEDIUM: Named = named(3, "Medium");
const HIGH: Named = named(4, "High");
const CRITICAL: Named = named(5, "Critical");

pub(super) const SUCCESS: Named = named(1, "Success");
pub(super) const FAILURE: Named = named(2, "Failure");

/// `activity_id` of API Activity. Only the effects that the class has a word for: an e-mail that is sent is not a
/// resource that is created.
pub(super) fn activity(effect: Option<Effect>) -> Named {
    match effect {
        Some(Effect::Create) => named(1, "Create"),
        Some(Effect::Read | Effect::List) => named(2, "Read"),
        Some(Effect::Update) => named(3, "Update"),
        Some(Effect::Delete) => named(4, "Delete"),
        Some(
            Effect::Send
            | Effect::Execute
            | Effect::Deploy
            | Effect::Pay
            | Effect::Grant
            | Effect::Login
            | Effect::Invoke,
        )
        | None => OTHER,
    }
}

/// `action_id` and `disposition_id`: what became of the action, by what was decided and what the vendor was told.
pub(super) fn control(predicate: &Predicate) -> (Named, Named) {
    const DENIED: Named = named(2, "Denied");
    const BLOCKED: Named = named(2, "Blocked");
    let Some(decision) = &predicate.decision else {
        return match predicate.kind {
            ReceiptKind::Gap => (DENIED, BLOCKED),
            _ => (named(3, "Observed"), named(17, "Logged")),
        };
    };
    let resolved = predicate.kind == ReceiptKind::Resolution;
    match (decision.verdict, decision.expressed) {
        (Verdict::Allow, Expressed::Allow) if resolved => (named(1, "Allowed"), named(8, "Approved")),
        (Verdict::Allow, Expressed::Allow) => (named(1, "Allowed"), named(1, "Allowed")),
        (Verdict::Modify, Expressed::Modify) => (named(4, "Modified"), named(11, "Corrected")),
        (Verdict::StepUp, _) => (DENIED, named(23, "Challenge")),
        (Verdict::Defer, _) => (DENIED, named(14, "Delayed")),
        (Verdict::Deny, _) if resolved => (DENIED, named(25, "Rejected")),
        // Also an ALLOW or MODIFY that the vendor could not be told: it was told to stop, and that is what happened.
        (Verdict::Allow | Verdict::Modify | Verdict::Deny, _) => (DENIED, BLOCKED),
    }
}

/// `severity_id`: how much attention the event wants. An ALLOW wants none, however grave its policy is.
pub(super) fn severity(predicate: &Predicate) -> Named {
    let Predicate { break_glass, decision, gap, halt, outcome, policy_change, .. } = predicate;
    let broken = break_glass.as_ref().is_some_and(|glass| glass.step != BreakGlassStep::Ended);
    let given = halt.as_ref().is_some_and(|halt| halt.active);
    match (decision, outcome, policy_change) {
        // What was allowed only because policy was suspended is looked at by somebody.
        _ if broken => HIGH,
        (Some(decision), _, _) if decision.verdict == Verdict::Allow => INFORMATIONAL,
        (Some(decision), _, _) => of_policy(decision.severity),
        (_, Some(outcome), _) if outcome.status != OutcomeStatus::Succeeded => LOW,
        (_, _, Some(PolicyChangeView { applied: false, .. })) => MEDIUM,
        _ if gap.is_some() || given => HIGH,
        _ => INFORMATIONAL,
    }
}

fn of_policy(severity: Severity) -> Named {
    match severity {
        Severity::Info => INFORMATIONAL,
        Severity::Low => LOW,
        Severity::Medium => MEDIUM,
        Severity::High => HIGH,
        Severity::Critical => CRITICAL,
    }
}

/// `risk_level_id`: how bad it would be, as the policy's author put it.
pub(super) fn risk_level(severity: Severity) -> Named {
    match severity {
        Severity::Info => named(0, "Info"),
        Severity::Low => named(1, "Low"),
        Severity::Medium => named(2, "Medium"),
        Severity::High => named(3, "High"),
        Severity::Critical => named(4, "Critical"),
    }
}

/// `status_id` of API Activity. An action that may run has none yet: its outcome is a receipt of its own.
pub(super) fn status(predicate: &Predicate) -> Option<Named> {
    if let Some(outcome) = &predicate.outcome {
        return Some(match outcome.status {
            OutcomeStatus::Succeeded => SUCCESS,
            OutcomeStatus::Failed => FAILURE,
            OutcomeStatus::Interrupted => named(OTHER.id, "Interrupted"),
        });
    }
    if predicate.gap.is_some() {
        return Some(FAILURE);
    }
    let decision = predicate.decision.as_ref()?;
    match (decision.verdict, decision.expressed) {
        (Verdict::StepUp | Verdict::Defer, _) => Some(named(OTHER.id, "Pending")),
        (_, Expressed::Allow | Expressed::Modify) => None,
        (_, Expressed::Deny | Expressed::StepUp | Expressed::Defer | Expressed::Held) => Some(FAILURE),
    }
}

/// For people, where the receipt itself has no reason.
pub(super) fn message(predicate: &Predicate) -> &'static str {
    match (predicate.kind, predicate.outcome.as_ref().map(|outcome| outcome.status)) {
        (_, Some(OutcomeStatus::Succeeded)) => "the action succeeded",
        (_, Some(OutcomeStatus::Failed)) => "the action failed",
        (_, Some(OutcomeStatus::Interrupted)) => "the action was interrupted",
        (ReceiptKind::Decision | ReceiptKind::Resolution | ReceiptKind::Outcome, None) => "an action",
        (ReceiptKind::Observation, None) => "something happened that was only watched",
        (ReceiptKind::Intent, None) => "a user made a request",
        (ReceiptKind::SessionStart, None) => "a session began",
        (ReceiptKind::SessionEnd, None) => "a session ended",
        (ReceiptKind::Gap, None) => "requests were denied in bulk",
        (ReceiptKind::PolicyChange, None) => "a policy set came into force",
        (ReceiptKind::Halt, None) => "a halt",
        (ReceiptKind::BreakGlass, None) => "policies that ask were suspended, or are in force again",
        (ReceiptKind::KeyEpoch, None) => "a signing key came into use",
        (ReceiptKind::Erasure, None) => "personal data was erased",
    }
}
