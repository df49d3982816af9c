//! Degradation: what a vendor is told when it cannot be told what was decided. Written once, driven by the
//! manifest (design: section 2, "Degradation").

use std::collections::BTreeSet;

use countersign_schemas::{ApprovalId, Decision, Expressed, Expression, Verdict};
use countersign_sdk::FrameSpec;
use serde_json::{Map, Value};

/// What a decision becomes for one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What is said.
    pub expression: Expression,
    /// The parameters to run with, when MODIFY is said.
    pub modified: Option<Map<String, Value>>,
    /// Whether a ticket is opened, and whether the vendor waits for a callback meanwhile.
    pub wait: Wait,
}

/// Whether something has to wait for a person or for context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    No,
    /// A ticket is open; the agent may retry.
    Ticket,
    /// A ticket is open; the vendor waits for our callback.
    Held,
    /// A ticket is open; the vendor's call is kept waiting for the answer.
    Hold,
}

/// Says `decision` in a frame that can be told what `spec` lists. `ticket` is what a new question would be called,
/// or `None` when there is no room for another.
#[must_use]
pub fn degrade(
    decision: &Decision,
    asked: &Map<String, Value>,
    spec: &FrameSpec,
    ticket: Option<&ApprovalId>,
) -> Told {
    let native = |verdict| spec.native.contains(&verdict);
    let reason = decision.reason.as_str();
    match decision.verdict {
        Verdict::Allow if native(Verdict::Allow) => say(Expressed::Allow, reason, None, Wait::No),
        Verdict::Allow => say(Expressed::Deny, reason, Some("this frame can only be denied"), Wait::No),
        Verdict::Deny => say(Expressed::Deny, reason, None, Wait::No),
        Verdict::Modify => modify(decision, asked, native(Verdict::Modify), spec.merges),
        Verdict::StepUp | Verdict::Defer => {
            let Some(ticket) = ticket else {
                return say(Expressed::Deny, reason, Some("too many approvals are open already"), Wait::No);
            };
            wait(decision, spec, ticket)
        }
    }
}

fn say(expressed: Expressed, reason: &str, degraded: Option<&str>, wait: Wait) -> Told {
    let expression =
        Expression { degraded: degraded.map(str::to_owned), expressed, reason: reason.to_owned() };
    Told { expression, modified: None, wait }
}

fn modify(decision: &Decision, asked: &Map<String, Value>, native: bool, merges: bool) -> Told {
    let wanted = decision.modified.clone().unwrap_or_default();
    // Where parameters are merged, one that was taken away would still be there.
    if native && !(merges && asked.keys().any(|key| !wanted.contains_key(key))) {
        let told = say(Expressed::Modify, &decision.reason, None, Wait::No);
        return Told { modified: Some(wanted), ..told };
    }
    let keys: BTreeSet<_> =
        asked.keys().chain(wanted.keys()).filter(|key| asked.get(*key) != wanted.get(*key)).collect();
    let changes: Vec<_> =
        keys.into_iter().map(|key| format!("`{key}` to {}", describe(wanted.get(key)))).collect();
    let reason = format!("{}; retry with {} changed", decision.reason, changes.join(", "));
    say(Expressed::Deny, &reason, Some("the vendor cannot change parameters"), Wait::No)
}

fn describe(value: Option<&Value>) -> String {
    const SHOWN_MAX: usize = 200;
    let text = value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if text.chars().count() > SHOWN_MAX { "another value".to_owned() } else { text }
}

fn wait(decision: &Decision, spec: &FrameSpec, ticket: &ApprovalId) -> Told {
    let what = match (&decision.approval, &decision.deferral) {
        (Some(rule), _) if !rule.approvers.is_empty() => {
            format!("needs approval by {}", rule.approvers.join(", "))
        }
        (_, Some(deferral)) if !deferral.needs.is_empty() => {
            format!("waits for {}", deferral.needs.join(", "))
        }
        _ if decision.verdict == Verdict::Defer => "waits for more context".to_owned(),
        _ => "needs approval".to_owned(),
    };
    let reason = format!("{}; {what} (ticket {ticket})", decision.reason);
    let native = spec.native.contains(&decision.verdict);
    if spec.held || (spec.holds && !native) {
        let wait = if spec.held { Wait::Held } else { Wait::Hold };
        return say(Expressed::Held, &reason, None, wait);
    }
    let retry = format!("{reason}; retry the same call once it is approved");
    match decision.verdict {
        Verdict::StepUp if native => say(Expressed::StepUp, &reason, None, Wait::Ticket),
        Verdict::Defer if native => say(Expressed::Defer, &reason, None, Wait::Ticket),
        _ => say(Expressed::Deny, &retry, Some("the vendor cannot wait"), Wait::Ticket),
    }
}

/// One answer covers all actions of the frame: any DENY denies all, and says which. Actions that run with other
/// parameters run beside those that run unchanged.
pub fn one_answer_for_all(told: &mut [Told]) {
    let runs = |told: &Told| matches!(told.expression.expressed, Expressed::Allow | Expressed::Modify);
    let Some(first) = told.iter().find(|told| !runs(told)).map(|told| told.expression.reason.clone()) else {
        return;
    };
    for told in told {
        if runs(told) {
            told.expression.degraded = Some("another call of the same frame is denied".to_owned());
            told.expression.reason.clone_from(&first);
        }
        told.expression.expressed = Expressed::Deny;
        told.modified = None;
    }
}

#[cfg(test)]
mod tests {
    use countersign_schemas::ApprovalRule;
    use serde_json::json;

    use super::*;

    fn decision(verdict: Verdict) -> Decision {
        let approval = (verdict == Verdict::StepUp).then(|| ApprovalRule {
            approvers: vec!["group:oncall".into()],
            escalation: None,
            grant: countersign_schemas::GrantLimit::default(),
            on_timeout: Verdict::Deny,
            quorum: 1,
            timeout_seconds: 60,
        });
        let modified = (verdict == Verdict::Modify)
            .then(|| json!({"limit": 100}).as_object().cloned().unwrap_or_default());
        Decision { approval, modified, verdict, ..Decision::deny("because") }
    }

    #[track_caller]
    fn check(verdict: Verdict, native: &[Verdict], held: bool, want: Expressed, want_wait: Wait) -> String {
        let spec = FrameSpec { held, ..FrameSpec::gate("f", native) };
        let asked = json!({"limit": 500}).as_object().cloned().unwrap_or_default();
        let ticket = ApprovalId::derived(&["t"]);
        let told = degrade(&decision(verdict), &asked, &spec, Some(&ticket));
        assert_eq!((want, want_wait), (told.expression.expressed, told.wait));
        assert_eq!(want == Expressed::Modify, told.modified.is_some());
        told.expression.reason
    }

    #[test]
    fn what_a_vendor_cannot_say_becomes_the_nearest_safer_thing() {
        use Verdict::{Allow, Defer, Deny, Modify, StepUp};
        let all = [Allow, Modify, StepUp, Defer];
        check(Allow, &[Allow], false, Expressed::Allow, Wait::No);
        check(Allow, &[], false, Expressed::Deny, Wait::No);
        check(Deny, &all, false, Expressed::Deny, Wait::No);
        check(Modify, &all, false, Expressed::Modify, Wait::No);
        assert_eq!(
            "because; retry with `limit` to 100 changed",
            check(Modify, &[Allow], false, Expressed::Deny, Wait::No)
        );
        check(StepUp, &all, false, Expressed::StepUp, Wait::Ticket);
        check(StepUp, &[Allow], false, Expressed::Deny, Wait::Ticket);
        check(StepUp, &[Allow], true, Expressed::Held, Wait::Held);
        check(Defer, &all, false, Expressed::Defer, Wait::Ticket);
        check(Defer, &[Allow], false, Expressed::Deny, Wait::Ticket);
        check(Defer, &[Allow], true, Expressed::Held, Wait::Held);
    }

    #[test]
    fn where_parameters_are_merged_none_can_be_taken_away() {
        let spec = FrameSpec { merges: true, ..FrameSpec::gate("f", &[Verdict::Modify]) };
        for (asked, want) in [
            (json!({"limit": 500}), Expressed::Modify),
            (json!({"limit": 500, "all": true}), Expressed::Deny),
        ] {
            let asked = asked.as_object().cloned().unwrap_or_default();
            let told = degrade(&decision(Verdict::Modify), &asked, &spec, None);
            assert_eq!(
                (want, told.modified.is_some()),
                (told.expression.expressed, want == Expressed::Modify)
            );
        }
    }

    #[test]
    fn a_call_that_can_be_kept_waiting_is() {
        let spec = FrameSpec { holds: true, ..FrameSpec::gate("f", &[Verdict::Allow, Verdict::Defer]) };
        for (verdict, want) in
            [(Verdict::StepUp, Wait::Hold), (Verdict::Defer, Wait::Ticket), (Verdict::Deny, Wait::No)]
        {
            let told = degrade(&decision(verdict), &Map::new(), &spec, Some(&ApprovalId::derived(&["t"])));
            assert_eq!(want, told.wait, "{verdict:?}");
        }
    }

    #[test]
    fn without_room_for_a_ticket_waiting_is_denied() {
        let spec = FrameSpec { held: true, ..FrameSpec::gate("f", &[Verdict::StepUp]) };
        let told = degrade(&decision(Verdict::StepUp), &Map::new(), &spec, None);
        assert_eq!((Expressed::Deny, Wait::No), (told.expression.expressed, told.wait));
    }

    #[test]
    fn a_changed_call_runs_beside_others_and_is_denied_with_them() {
        let spec = FrameSpec::gate("f", &[Verdict::Allow, Verdict::Modify]);
        let tell = |verdicts: &[Verdict]| {
            let mut told: Vec<_> =
                verdicts.iter().map(|v| degrade(&decision(*v), &Map::new(), &spec, None)).collect();
            one_answer_for_all(&mut told);
            told.iter().map(|t| (t.expression.expressed, t.modified.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(
            vec![(Expressed::Allow, false), (Expressed::Modify, true)],
            tell(&[Verdict::Allow, Verdict::Modify])
        );
        assert_eq!(vec![(Expressed::Deny, false); 2], tell(&[Verdict::Modify, Verdict::Deny]));
    }

    #[test]
    fn one_denied_call_denies_its_frame() {
        let spec = FrameSpec::gate("f", &[Verdict::Allow]);
        let mut told =
            [Verdict::Allow, Verdict::Deny].map(|v| degrade(&decision(v), &Map::new(), &spec, None));
        one_answer_for_all(&mut told);
        assert!(told.iter().all(|t| t.expression.expressed == Expressed::Deny));
        assert!(told[0].expression.degraded.is_some() && told[1].expression.degraded.is_none());
    }
}
