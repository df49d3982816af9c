//! Questions to people: a call is kept waiting or gets a ticket, and nothing runs without the answer.

use std::time::Duration;

use countersign_schemas::{
    ApprovalId, BreakGlass, BreakGlassId, GrantScope, HaltScope, ReceiptKind, Timestamp, Verdict,
};
use countersign_service::approval::{Answer, AnswerError, Approver, Resolved};
use countersign_service::export::statement_of;
use countersign_service::fatigue::figures;
use serde_json::{Value, json};

use crate::support::{NOON, Plan, Site, action, approver, scene};

const POLICIES: &str = r#"
    @id("all") @reason("all") permit (principal, action, resource);
    @id("ask") @decision("step_up") @approvers("group:oncall") @reason("somebody has to look at this")
    @grant("session, window:1h") @escalate("5m: group:managers") @timeout("PT10M")
    forbid (principal, action == Action::"execute", resource);
    @id("ask-two") @decision("step_up") @approvers("group:oncall") @quorum("2") @reason("two have to look at this")
    forbid (principal, action == Action::"deploy", resource);
    @id("never") @reason("never") forbid (principal, action == Action::"delete", resource);
"#;

/// A site whose Claude Code calls are kept waiting for at most about two seconds.
async fn holding() -> Site {
    let connectors = json!({
        "claude-code": {"tokens": {"laptop-7": {"env": "REHEARSAL_TOKEN"}}, "timeout_s": 5},
        "generic": {"secrets": [{"env": "REHEARSAL_WEBHOOK"}]},
    });
    let config = [("connectors", connectors)].into();
    Site::with(Plan { config, policies: Some(POLICIES), ..Plan::default() }).await
}

fn bash(id: &str) -> Value {
    json!({
        "hook_event_name": "PreToolUse", "session_id": "s-1", "tool_name": "Bash", "tool_use_id": id,
        "tool_input": {"command": "make release"}, "cwd": "/work", "permission_mode": "default",
    })
}

async fn call(site: &Site, id: &str) -> Value {
    let reply = site.send(&scene("claude-code", bash(id)), id).await.unwrap();
    assert_eq!(200, reply.status);
    serde_json::from_slice(&reply.body).unwrap()
}

/// The question that is put while `call` waits.
async fn asked(site: &Site) -> ApprovalId {
    loop {
        if let Some(open) = site.service.pipeline().store.approvals().await.unwrap().pop() {
            return open.approval_id;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn answer(site: &Site, id: &ApprovalId, answer: &Answer) -> Result<Resolved, AnswerError> {
    site.service.pipeline().resolve(site.service.routes(), id, &approver("fay"), answer).await
}

/// What the receipts say was decided and told, oldest first.
async fn told(site: &Site) -> Vec<(String, String, String)> {
    let leaves = site.receipts().await;
    let mut told = Vec::new();
    for leaf in leaves.iter().filter(|leaf| leaf.summary.verdict.is_some()) {
        let predicate = statement_of(&leaf.bytes)["predicate"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let decision = &predicate["decision"];
        told.push((text(&predicate["kind"]), text(&decision["verdict"]), text(&decision["expressed"])));
    }
    told
}

fn permission(answer: &Value) -> &str {
    answer["hookSpecificOutput"]["permissionDecision"].as_str().unwrap_or("no objection")
}

fn receipt(kind: &str, decided: &str, told: &str) -> (String, String, String) {
    (kind.to_owned(), decided.to_owned(), told.to_owned())
}

#[tokio::test]
async fn a_call_waits_for_its_answer_and_is_decided_again_with_it() {
    let site = holding().await;
    let approve = async {
        let id = asked(&site).await;
        assert_eq!(1, site.service.pipeline().held());
        answer(&site, &id, &Answer::yes()).await.unwrap();
    };
    let (reply, ()) = tokio::join!(call(&site, "1"), approve);
    assert_eq!("no objection", permission(&reply), "{reply}");
    let want = [
        receipt("decision", "STEP_UP", "HELD"),
        receipt("resolution", "ALLOW", "ALLOW"),
        receipt("decision", "ALLOW", "ALLOW"),
    ];
    assert_eq!(want.as_slice(), told(&site).await);
    assert_eq!(0, site.service.pipeline().held());
    assert!(site.audit().await.findings.is_empty());
}

#[tokio::test]
async fn a_refused_call_is_denied_and_not_asked_about_again() {
    let site = holding().await;
    let refuse = async { answer(&site, &asked(&site).await, &Answer::no()).await.unwrap() };
    let (reply, _) = tokio::join!(call(&site, "1"), refuse);
    assert_eq!("deny", permission(&reply));
    assert!(reply.to_string().contains("refused by fay"), "{reply}");
    assert_eq!("deny", permission(&call(&site, "2").await));
    assert_eq!(0, site.service.pipeline().store.approvals().await.unwrap().len());
    site.clock.set(Timestamp(NOON.0 + 3_600_000));
    let (_, asked_again) = tokio::join!(call(&site, "3"), asked(&site));
    assert!(!asked_again.as_str().is_empty(), "an hour later the answer may be another");
}

#[tokio::test]
async fn a_call_that_nobody_answers_in_time_gets_a_ticket_that_its_retry_uses() {
    let site = holding().await;
    let reply = call(&site, "1").await;
    assert_eq!("deny", permission(&reply));
    assert!(reply.to_string().contains("retry the same call"), "{reply}");
    answer(&site, &asked(&site).await, &Answer::yes()).await.unwrap();
    assert_eq!("no objection", permission(&call(&site, "2").await));
}

#[tokio::test]
async fn what_waits_is_denied_at_a_shutdown_and_its_question_outlives_it() {
    let site = holding().await;
    let stop = async {
        let id = asked(&site).await;
        site.service.pipeline().drain();
        id
    };
    let (reply, id) = tokio::join!(call(&site, "1"), stop);
    assert_eq!("deny", permission(&reply));
    assert!(site.service.pipeline().store.approval(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_halt_stops_what_was_approved_while_it_waited() {
    let site = holding().await;
    let pipeline = site.service.pipeline();
    let approve = async {
        let id = asked(&site).await;
        let what = HaltScope::All;
        let halt = countersign_schemas::Halt { at: NOON, by: "ann".into(), reason: "drill".into(), what };
        pipeline.halt(halt).await.unwrap();
        answer(&site, &id, &Answer::yes()).await.unwrap();
    };
    let (reply, ()) = tokio::join!(call(&site, "1"), approve);
    assert_eq!("deny", permission(&reply));
}

#[tokio::test]
async fn a_client_that_hangs_up_loses_nothing() {
    let site = holding().await;
    let impatient = tokio::time::timeout(Duration::from_millis(300), call(&site, "1")).await;
    assert!(impatient.is_err());
    answer(&site, &asked(&site).await, &Answer::yes()).await.unwrap();
    assert_eq!("no objection", permission(&call(&site, "2").await));
    let again = async { answer(&site, &asked(&site).await, &Answer::no()).await.unwrap() };
    let (reply, _) = tokio::join!(call(&site, "3"), again);
    assert_eq!("deny", permission(&reply), "one approval, one run");
}

#[tokio::test]
async fn questions_end_with_their_session() {
    let site = holding().await;
    let end = async {
        asked(&site).await;
        let end =
            json!({"hook_event_name": "SessionEnd", "session_id": "s-1", "reason": "other", "cwd": "/work"});
        site.send(&scene("claude-code", end), "end").await.unwrap();
    };
    let (reply, ()) = tokio::join!(call(&site, "1"), end);
    assert_eq!("deny", permission(&reply));
    assert!(reply.to_string().contains("the session ended"), "{reply}");
    assert_eq!(0, site.service.pipeline().store.approvals().await.unwrap().len());
    assert!(told(&site).await.contains(&receipt("resolution", "DENY", "DENY")));
}

fn run(id: &str, session: &str) -> Value {
    action(id, session, "execute", json!({"command": "make"}))
}

fn ticket(answer: &Value) -> ApprovalId {
    answer["ticket"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_wider_grant_reaches_as_far_as_the_policy_permits_and_no_farther() {
    let site = holding().await;
    for (scope, same, other) in
        [(GrantScope::Session, "ALLOW", "STEP_UP"), (GrantScope::Window, "ALLOW", "ALLOW")]
    {
        let session = format!("of-{}", scope.as_str());
        let id = ticket(&site.ask(&format!("1{session}"), run(&format!("1{session}"), &session)).await);
        answer(&site, &id, &Answer { scope, ..Answer::yes() }).await.unwrap();
        for (id, session, want) in
            [("2", &session, same), ("3", &session, same), ("4", &format!("{session}-2"), other)]
        {
            let id = format!("{id}{session}");
            assert_eq!(want, site.ask(&id, run(&id, session)).await["decision"], "{scope:?} {id}");
        }
    }
    site.clock.set(Timestamp(NOON.0 + 3_600_001));
    assert_eq!("STEP_UP", site.ask("5", run("5", "later")).await["decision"], "the window is over");
    let deploy = |id| action(id, "s", "deploy", json!({}));
    let id = ticket(&site.ask("6", deploy("6")).await);
    let refused = answer(&site, &id, &Answer { scope: GrantScope::Session, ..Answer::yes() }).await;
    assert!(matches!(refused, Err(AnswerError::Scope(GrantScope::Session))), "{refused:?}");
}

#[tokio::test]
async fn further_people_are_asked_after_a_while_and_then_may_answer() {
    let site = holding().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let id = ticket(&site.ask("1", run("1", "s")).await);
    let max = Approver { groups: vec!["managers".into()], ..approver("max") };
    let early = pipeline.resolve(routes, &id, &max, &Answer::yes()).await;
    assert!(matches!(early, Err(AnswerError::NotAnApprover { .. })), "{early:?}");
    site.clock.set(Timestamp(NOON.0 + 300_000));
    pipeline.expire_approvals(routes).await;
    let approval = pipeline.store.approval(&id).await.unwrap().unwrap();
    assert_eq!((Some(site.clock_now()), None), (approval.escalated_at, approval.escalates_at()));
    let predicate = statement_of(&site.receipts().await.pop().unwrap().bytes)["predicate"].clone();
    assert_eq!(json!(["group:oncall", "group:managers"]), predicate["approval"]["approvers"]);
    pipeline.resolve(routes, &id, &max, &Answer::yes()).await.unwrap();
    assert_eq!("ALLOW", site.ask("2", run("2", "s")).await["decision"]);
}

#[tokio::test]
async fn every_approval_short_of_the_quorum_has_its_receipt() {
    let site = holding().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let id = ticket(&site.ask("1", action("1", "s", "deploy", json!({}))).await);
    let mut names = Vec::new();
    for name in ["sam", "sue"] {
        pipeline.resolve(routes, &id, &approver(name), &Answer::yes()).await.unwrap();
        let leaf = site.receipts().await.pop().unwrap();
        assert_eq!(ReceiptKind::Resolution, leaf.summary.kind);
        names.push(statement_of(&leaf.bytes)["predicate"]["approval"].clone());
    }
    assert_eq!(
        (json!("sam"), json!(["sam"])),
        (names[0]["approver"].clone(), names[0]["approvedBy"].clone())
    );
    assert_eq!(
        (json!("sue"), json!(["sam", "sue"])),
        (names[1]["approver"].clone(), names[1]["approvedBy"].clone())
    );
    assert_eq!((json!(2), json!("test")), (names[1]["quorum"].clone(), names[1]["assurance"].clone()));
}

#[tokio::test]
async fn break_glass_answers_questions_for_a_while_and_lifts_no_prohibition() {
    let site = holding().await;
    let pipeline = site.service.pipeline();
    let glass = BreakGlass {
        at: NOON,
        break_glass_id: BreakGlassId::at(NOON),
        by: "ann".into(),
        expires_at: Timestamp(NOON.0 + 60_000),
        reason: "the approvers cannot be reached".into(),
        what: HaltScope::Connector("generic".into()),
    };
    let no_reason = BreakGlass { reason: " ".into(), ..glass.clone() };
    assert!(pipeline.open_break_glass(no_reason).await.is_err());
    let endless = BreakGlass { expires_at: Timestamp(NOON.0 + 86_400_001), ..glass.clone() };
    assert!(pipeline.open_break_glass(endless).await.is_err());
    assert_eq!("STEP_UP", site.ask("0", run("0", "s0")).await["decision"]);
    pipeline.open_break_glass(glass.clone()).await.unwrap();
    assert_eq!("ALLOW", site.ask("1", run("1", "s")).await["decision"]);
    let used = statement_of(&site.receipts().await.pop().unwrap().bytes)["predicate"].clone();
    assert_eq!(
        (json!("used"), json!(glass.reason)),
        (used["breakGlass"]["step"].clone(), used["breakGlass"]["reason"].clone())
    );
    assert_eq!("DENY", site.ask("2", action("2", "s", "delete", json!({}))).await["decision"]);
    site.clock.set(glass.expires_at);
    assert_eq!("STEP_UP", site.ask("3", run("3", "s")).await["decision"], "its time is up");
    pipeline.end_break_glass(&glass.break_glass_id, "ann").await.unwrap();
    let ended = site.receipts().await.pop().unwrap();
    assert_eq!((ReceiptKind::BreakGlass, None::<Verdict>), (ended.summary.kind, ended.summary.verdict));
    assert!(site.audit().await.findings.is_empty());
}

#[tokio::test]
async fn figures_show_who_is_asked_much_and_who_answers_without_looking() {
    let site = holding().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    for (at, name, seconds, yes) in [(0, "hasty", 1, true), (1, "hasty", 2, true), (2, "slow", 60, false)] {
        let id = ticket(&site.ask(&at.to_string(), run(&at.to_string(), &format!("s{at}"))).await);
        site.clock.set(Timestamp(site.clock_now().0 + seconds * 1_000));
        let answer = if yes { Answer::yes() } else { Answer::no() };
        pipeline.resolve(routes, &id, &approver(name), &answer).await.unwrap();
    }
    site.ask("3", run("3", "s3")).await;
    site.clock.set(Timestamp(site.clock_now().0 + 3_600_000));
    pipeline.expire_approvals(routes).await;
    let figures = figures(&*pipeline.store, NOON).await.unwrap();
    assert_eq!((1, 0), (figures.timed_out, figures.withdrawn));
    let told: Vec<_> = figures
        .approvers
        .iter()
        .map(|of| (of.approver.as_str(), of.approved, of.refused, of.median_ms, of.hasty_share))
        .collect();
    assert_eq!([("hasty", 2, 0, 2_000, 1.0), ("slow", 0, 1, 60_000, 0.0)], told.as_slice());
}
