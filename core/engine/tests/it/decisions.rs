//! One test a rule of combination.

use countersign_engine::{Finding, Options, Posture, explain};
use countersign_schemas::{
    ApprovalRule, Context, DeferralKind, Effect, Facets, GrantLimit, Severity, Timestamp, Verdict,
};
use serde_json::{Value, json};

use crate::{NOW, action, evaluate, ids, load, options, read, try_load};

const PERMIT: &str = r#"@id("permit") permit (principal, action, resource);"#;

/// A forbid that is satisfied.
fn forbid(id: &str, annotations: &str) -> String {
    format!(r#"@id("{id}") @reason("{id} says so") {annotations} forbid (principal, action, resource);"#)
}

/// A policy that nobody can evaluate, because no request was seen.
fn undecidable(id: &str, annotations: &str) -> String {
    format!(
        r#"@id("{id}") @reason("{id} says so") {annotations} forbid (principal, action, resource)
           when {{ context.session.request like "*x*" }};"#
    )
}

#[track_caller]
fn check(policies: &[&str], verdict: Verdict, want: &[&str]) {
    let decision = evaluate(&load(&policies.concat()), &read());
    assert_eq!((verdict, want), (decision.verdict, ids(&decision).as_slice()), "{}", decision.reason);
}

#[test]
fn without_a_policy_the_default_applies() {
    check(&[], Verdict::Deny, &[]);
    let lenient = try_load("", Options { default: Posture::Allow, ..options() }).unwrap();
    assert_eq!(Verdict::Allow, evaluate(&lenient, &read()).verdict);
}

#[test]
fn a_forbid_beats_a_permit_of_its_priority_and_is_beaten_by_a_better_one() {
    check(&[PERMIT, &forbid("no", "")], Verdict::Deny, &["no"]);
    check(
        &[r#"@id("yes") @priority("10") permit (principal, action, resource);"#, &forbid("no", "")],
        Verdict::Allow,
        &["yes"],
    );
}

#[test]
fn nothing_outranks_a_forbidden_policy() {
    let yes = r#"@id("yes") @priority("0") permit (principal, action, resource);"#;
    let veto = forbid("veto", r#"@class("forbidden") @priority("1000")"#);
    check(&[yes, &veto, &undecidable("maybe", r#"@class("forbidden")"#)], Verdict::Deny, &["veto"]);
}

#[test]
fn a_forbidden_policy_that_cannot_be_evaluated_defers_whatever_its_priority() {
    let yes = r#"@id("yes") @priority("0") permit (principal, action, resource);"#;
    let veto = undecidable("veto", r#"@class("forbidden") @priority("1000")"#);
    check(&[yes, &veto], Verdict::Defer, &["veto"]);
}

#[test]
fn missing_context_defers_and_is_named() {
    let decision = evaluate(&load(&[PERMIT, &undecidable("maybe", "")].concat()), &read());
    let deferral = decision.deferral.unwrap();
    assert_eq!(Verdict::Defer, decision.verdict);
    assert_eq!(DeferralKind::MissingContext, deferral.kind);
    assert_eq!(["session.request"], deferral.needs.as_slice());
    assert_eq!(["maybe"], deferral.policies.as_slice());
    assert_eq!(300, deferral.timeout_seconds);
}

#[test]
fn missing_context_that_cannot_change_the_answer_does_not_defer() {
    check(&[&forbid("no", ""), &undecidable("maybe", "")], Verdict::Deny, &["no"]);
    check(&[PERMIT, &undecidable("maybe", r#"@priority("200")"#)], Verdict::Allow, &["permit"]);
    let maybe =
        r#"@id("maybe") permit (principal, action, resource) when { context.session.request == "x" };"#;
    check(&[&forbid("no", ""), maybe], Verdict::Deny, &["no"]);
    check(&[maybe], Verdict::Defer, &["maybe"]);
}

#[test]
fn an_author_who_asks_first_is_not_deferred() {
    let asks = r#"@id("asks") @reason("r") forbid (principal, action, resource)
                  when { context.session has request && context.session.request like "*x*" };"#;
    check(&[PERMIT, asks], Verdict::Allow, &["permit"]);
}

#[test]
fn the_strict_reading_defers_even_when_it_could_not_matter() {
    let text = [&forbid("no", ""), &undecidable("maybe", "")].map(String::as_str).concat();
    let strict = try_load(&text, Options { strict_reference: true, ..options() }).unwrap();
    assert_eq!(Verdict::Defer, evaluate(&strict, &read()).verdict);
}

#[test]
fn an_engine_fault_is_a_deny_that_names_the_policy_and_no_value() {
    let policies = load(&format!(
        r#"{PERMIT} @id("sum") @reason("r") @priority("900") forbid (principal, action, resource)
           when {{ context.params has limit && context.params.limit * 2 > 10 }};"#
    ));
    let decision = evaluate(&policies, &action(Effect::Read, json!({"limit": i64::MAX})));
    assert_eq!((Verdict::Deny, Severity::Critical), (decision.verdict, decision.severity));
    assert_eq!("policies could not be evaluated: `sum` (integer overflow)", decision.reason);
}

#[test]
fn different_wishes_in_one_tier_are_a_conflict() {
    let step_up = forbid("ask", r#"@decision("step_up") @approvers("ann")"#);
    let decision = evaluate(&load(&[PERMIT, &step_up, &forbid("no", "")].concat()), &read());
    assert_eq!(Verdict::Defer, decision.verdict);
    assert_eq!(DeferralKind::Conflict, decision.deferral.unwrap().kind);
    assert_eq!("policies of the same priority disagree: `ask` (STEP_UP), `no` (DENY)", decision.reason);
    check(&[&step_up, &forbid("no", r#"@priority("99")"#)], Verdict::Deny, &["no"]);
}

#[test]
fn step_ups_for_the_same_people_are_one_and_the_stricter_terms_hold() {
    let a = forbid(
        "a",
        r#"@decision("step_up") @approvers("group:x, ann") @quorum("2") @grant("session, window:1h")"#,
    );
    let b =
        forbid("b", r#"@decision("step_up") @approvers("ann,group:x") @timeout("PT1M") @grant("session")"#);
    let decision = evaluate(&load(&[a.as_str(), &b].concat()), &read());
    let approvers = vec!["ann".to_owned(), "group:x".to_owned()];
    let rule = ApprovalRule {
        approvers,
        escalation: None,
        grant: GrantLimit { session: true, window_seconds: None },
        on_timeout: Verdict::Deny,
        quorum: 2,
        timeout_seconds: 60,
    };
    assert_eq!((Verdict::StepUp, Some(rule)), (decision.verdict, decision.approval));
    let other = forbid("c", r#"@decision("step_up") @approvers("bob")"#);
    check(&[&a, &other], Verdict::Defer, &["a", "c"]);
}

#[test]
fn a_defer_says_what_it_needs_and_whom_it_escalates_to() {
    let policy = forbid(
        "wait",
        r#"@decision("defer") @defer_needs("ticket, window") @timeout("PT2M") @on_timeout("step_up") @approvers("ann")"#,
    );
    let decision = evaluate(&load(&policy), &read());
    let (deferral, approval) = (decision.deferral.unwrap(), decision.approval.unwrap());
    assert_eq!((DeferralKind::Policy, 120), (deferral.kind, deferral.timeout_seconds));
    assert_eq!(["ticket", "window"], deferral.needs.as_slice());
    assert_eq!((Verdict::StepUp, 900), (approval.on_timeout, approval.timeout_seconds));
}

/// Wants `/limit` to be `value` when it is larger.
fn cap(id: &str, pointer: &str, value: i64) -> String {
    format!(
        r#"@id("{id}") @reason("capped") @decision("modify")
           @modify("[{{\"op\":\"replace\",\"path\":\"{pointer}\",\"value\":{value}}}]")
           forbid (principal, action, resource) when {{ context.params has limit && context.params.limit > 0 }};"#
    )
}

#[track_caller]
fn check_modified(policies: &[&str], parameters: Value, want: Result<Value, &str>) {
    let decision = evaluate(&load(&policies.concat()), &action(Effect::Read, parameters));
    match want {
        Ok(want) => {
            assert_eq!(Verdict::Modify, decision.verdict, "{}", decision.reason);
            assert_eq!(want.as_object(), decision.modified.as_ref());
        }
        Err(reason) => {
            assert_eq!((Verdict::Deny, None), (decision.verdict, decision.modified));
            assert_eq!(reason, decision.reason);
        }
    }
}

#[test]
fn a_modify_changes_the_parameters_if_the_result_is_allowed() {
    check_modified(&[PERMIT, &cap("cap", "/limit", 100)], json!({"limit": 500}), Ok(json!({"limit": 100})));
    check_modified(
        &[&cap("cap", "/limit", 100)],
        json!({"limit": 500}),
        Err("still DENY after modification: no policy matches; the configured default applies"),
    );
}

#[test]
fn a_modified_action_meets_the_policies_that_its_modification_hid() {
    let ask = forbid("ask", r#"@decision("step_up") @approvers("ann")"#);
    let cap = cap("cap", "/limit", 100).replace("@decision", r#"@priority("1") @decision"#);
    check_modified(
        &[PERMIT, &cap, &ask],
        json!({"limit": 500}),
        Err("still STEP_UP after modification: ask says so"),
    );
}

#[test]
fn a_fulfilled_modify_lets_the_action_pass_unchanged() {
    let policies = load(&[PERMIT, &cap("cap", "/limit", 100)].concat());
    let asked = action(Effect::Read, json!({"limit": 100}));
    assert_eq!(Verdict::Allow, evaluate(&policies, &asked).verdict);
    let explanation = explain(&policies, &asked, &Context::default(), NOW);
    assert_eq!(Finding::Fulfilled, explanation.considered[0].finding);
}

#[test]
fn modifications_compose_when_they_touch_different_things_and_conflict_otherwise() {
    let (a, b) = (cap("a", "/limit", 1), cap("b", "/offset", 2));
    check_modified(&[PERMIT, &a, &b], json!({"limit": 9, "offset": 9}), Ok(json!({"limit": 1, "offset": 2})));
    let policies = load(&[PERMIT, &a, &cap("c", "/limit", 3)].concat());
    let decision = evaluate(&policies, &action(Effect::Read, json!({"limit": 9})));
    assert_eq!(DeferralKind::Conflict, decision.deferral.unwrap().kind);
    assert_eq!(["a", "c"], ids(&evaluate(&policies, &action(Effect::Read, json!({"limit": 9})))).as_slice());
}

#[test]
fn a_patch_that_does_not_apply_is_a_deny() {
    check_modified(
        &[PERMIT, &cap("cap", "/absent", 1)],
        json!({"limit": 9}),
        Err("policy `cap`: operation 0 of its patch does not apply"),
    );
}

#[test]
fn facets_of_a_modified_action_are_unknown_unless_they_can_be_made_anew() {
    let text = [
        PERMIT,
        &cap("cap", "/limit", 100),
        r#"@id("hosts") @reason("bad host") forbid (principal, action, resource)
           when { context.facets.hosts.contains("evil.example") };"#,
    ]
    .concat();
    let asked = action(Effect::Read, json!({"limit": 500}));
    let unknown = try_load(&text, Options { refacet: None, ..options() }).unwrap();
    assert_eq!(Verdict::Deny, evaluate(&unknown, &asked).verdict);
    let evil = |_: &_| Facets { hosts: vec!["evil.example".to_owned()], ..Facets::default() };
    let anew = try_load(&text, Options { refacet: Some(evil), ..options() }).unwrap();
    assert_eq!("still DENY after modification: bad host", evaluate(&anew, &asked).reason);
    assert_eq!(Verdict::Modify, evaluate(&load(&text), &asked).verdict);
}

#[test]
fn a_parameter_of_the_wrong_type_is_a_signal() {
    let policies = load(&format!(
        r#"{PERMIT} @id("typed") @reason("limit must be a number") forbid (principal, action, resource)
           when {{ context.signals.contains("param_type:limit") }};"#
    ));
    for (limit, verdict) in [
        (json!("500"), Verdict::Deny),
        (json!(1.5), Verdict::Deny),
        (json!(u64::MAX), Verdict::Deny),
        (json!(500), Verdict::Allow),
        (json!(null), Verdict::Allow),
    ] {
        assert_eq!(
            verdict,
            evaluate(&policies, &action(Effect::Read, json!({"limit": limit}))).verdict,
            "{limit}"
        );
    }
}

#[test]
fn policies_see_who_asks_for_what_and_when() {
    let holds = |condition: &str| {
        let policies =
            load(&format!(r#"@id("p") permit (principal, action, resource) when {{ {condition} }};"#));
        let mut asked = action(Effect::Pay, json!({"to": ["a", "b"]}));
        asked.identity = serde_json::from_value(json!({
            "agent": {"id": "agent", "kind": "sub", "model": "m"},
            "assurance": "oauth_verified",
            "device": "d", "tenant": "t", "service": "svc", "role": "admin", "scope": ["x"],
            "human": {"id": "h", "email": "ann@example.com"},
        }))
        .unwrap();
        asked.facets.hosts = vec!["api.example.com".to_owned()];
        asked.facets.paths =
            vec!["/Repo/x/../.Claude//settings.json".to_owned(), "C:\\Users\\a\\.ssh\\id".to_owned()];
        let started_at = Some(Timestamp(NOW.0 - 5_000));
        let context = Context { started_at, action_count: 3, ..Context::default() };
        let verdict = countersign_engine::evaluate(&policies, &asked, &context, NOW).verdict;
        assert_eq!(Verdict::Allow, verdict, "{condition}");
    };
    holds(r#"principal == Agent::"c/agent" && principal in Connector::"c" && principal in Role::"admin""#);
    holds(
        r#"principal in Human::"h" && principal in Human::"ann@example.com" && principal in Service::"svc""#,
    );
    holds(r#"action in Action::"egress" && action in Action::"mutate" && action in Action::"any""#);
    holds(r#"resource == Tool::"mcp/s/t" && resource in Server::"s" && resource in Vendor::"v""#);
    holds(
        r#"context.assuranceLevel == 3 && context.assurance == "oauth_verified" && context.agentKind == "sub""#,
    );
    holds(
        r#"context.tenant == "t" && context.device == "d" && context.scopes.contains("x") && context.human == "h""#,
    );
    holds(r#"context.params has to && context.params.to.containsAll(["a", "b"])"#);
    holds(
        r#"context.facets.domains.contains("example.com") && !context.facets.domains.contains("ample.com")"#,
    );
    holds(
        r#"context.facets.pathEnds.contains(".claude/settings.json") && context.facets.pathParts.contains(".ssh")"#,
    );
    holds(r#"!context.facets.pathParts.contains("x")"#);
    holds(
        r#"context.session.secondsSinceStart == 5 && context.session.actionCount == 3 && !context.session.hasRequest"#,
    );
    holds(r#"context.now > datetime("2026-11-01") && context.now.toTime() > duration("0ms")"#);
}

#[test]
fn a_time_that_cedar_cannot_hold_is_a_deny() {
    let policies = load(
        r#"@id("p") permit (principal, action, resource) when { context.now > datetime("2026-11-01") };"#,
    );
    let decision = countersign_engine::evaluate(&policies, &read(), &Context::default(), Timestamp(i64::MAX));
    assert_eq!((Verdict::Deny, Severity::Critical), (decision.verdict, decision.severity));
}
