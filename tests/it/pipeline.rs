//! The request path: whatever happens after a call is verified, it ends in an answer that can be proved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign_receipt::{Checkpoint, leaf_hash, open_disclosure, verify_inclusion};
use countersign_schemas::{ApprovalId, Halt, HaltScope, ReceiptKind, Timestamp, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, ConnectorSpec, Env, Frame, Gate, Inbound, Manifest, NormalizeError,
    Normalized, Parts, Reply, Said, Unverified, Verified, VerifyError,
};
use countersign_service::approval::{Answer, AnswerError, Resolved};
use countersign_service::export::statement_of;
use futures::future::join_all;
use serde_json::{Map, Value, json};

use crate::support::{NOON, Plan, Site, action, approver, scene};

#[tokio::test]
async fn calls_of_one_session_at_once_all_get_their_place_in_its_chain() {
    decided_side_by_side(1, 64).await;
}

/// The same for very many sessions: `docs/TESTING.md` says how to run it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "640,000 decisions; a release build takes minutes"]
async fn calls_of_ten_thousand_sessions_at_once_all_get_their_places_in_their_chains() {
    decided_side_by_side(10_000, 64).await;
}

/// Decides `calls` calls side by side in each of `sessions` sessions. In the order of the log every receipt must name
/// the one before it in its session, and the context behind it must hold exactly the calls before it.
async fn decided_side_by_side(sessions: usize, calls: usize) {
    let site = Site::ordinary().await;
    let mut ends: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for session in 0..sessions {
        let id = format!("s-{session}");
        let asked = (0..calls).map(|call| {
            let name = format!("{id}-{call}");
            let body = action(&name, &id, "read", json!({"n": call}));
            let site = &site;
            async move { site.ask(&name, body).await }
        });
        for answer in join_all(asked).await {
            assert_eq!("ALLOW", answer["decision"]);
        }
    }
    let mut from = 0;
    loop {
        let leaves = site.service.pipeline().store.leaves(from, 4_096).await.unwrap();
        let Some(last) = leaves.last() else { break };
        from = last.index + 1;
        for leaf in leaves.iter().filter(|leaf| leaf.summary.connector == "generic") {
            let predicate = &statement_of(&leaf.bytes)["predicate"];
            let session = leaf.summary.session_id.to_string();
            let (seq, head) = ends.remove(&session).unwrap_or((0, "0".repeat(64)));
            assert_eq!(
                (json!(seq), json!(head)),
                (predicate["session"]["seq"].clone(), predicate["session"]["prev"].clone())
            );
            assert_eq!(json!(seq), predicate["context"]["actionCount"], "an update was lost");
            ends.insert(session, (seq + 1, hex::encode(leaf_hash(&leaf.bytes))));
        }
    }
    assert_eq!(sessions, ends.len());
    assert!(ends.values().all(|(seq, _)| *seq == calls as u64));
}

#[tokio::test]
async fn a_repeated_delivery_gets_the_same_bytes_and_one_receipt() {
    let site = Site::ordinary().await;
    let scene = scene("generic", action("same", "s", "read", json!({})));
    let replies = join_all((0..50).map(|_| site.send(&scene, "same"))).await;
    let bodies: BTreeSet<_> = replies.into_iter().map(|reply| reply.unwrap().body).collect();
    assert_eq!(1, bodies.len());
    assert_eq!([Verdict::Allow], site.verdicts().await.as_slice());
}

#[tokio::test]
async fn every_answer_has_its_inclusion_proof_already() {
    let site = Site::ordinary().await;
    let answer = site.ask("e", action("e", "s", "read", json!({}))).await;
    let store = &site.service.pipeline().store;
    let leaf =
        store.receipt(&answer["receipt_id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    let head = store.checkpoint().await.unwrap().unwrap();
    let checkpoint = Checkpoint::parse_unverified(&head.note).unwrap();
    let path = store.inclusion(leaf.index, checkpoint.size).await.unwrap();
    verify_inclusion(&leaf_hash(&leaf.bytes), leaf.index, checkpoint.size, &path, &checkpoint.root).unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_denied_and_receipted() {
    let site = Site::ordinary().await;
    let answer = site.ask("e", json!({"version": 1, "type": "action"})).await;
    assert_eq!("DENY", answer["decision"]);
    let last = site.receipts().await.pop().unwrap();
    assert_eq!((ReceiptKind::Decision, Some(Verdict::Deny)), (last.summary.kind, last.summary.verdict));
}

#[tokio::test]
async fn a_call_whose_time_is_up_is_denied_and_receipted_in_bulk() {
    let site = Site::ordinary().await;
    let long_ago = Instant::now() - Duration::from_secs(60);
    let scene = scene("generic", action("late", "s", "read", json!({})));
    let reply = site.send_at(&scene, "late", long_ago).await.unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((200, "DENY"), (reply.status, answer["decision"].as_str().unwrap()));
    assert!(site.receipts().await.iter().all(|leaf| leaf.summary.verdict != Some(Verdict::Allow)));
    site.service.pipeline().receipt_gaps().await;
    let gap = statement_of(&site.receipts().await.pop().unwrap().bytes);
    assert_eq!(
        (json!("gap"), json!(1)),
        (gap["predicate"]["kind"].clone(), gap["predicate"]["gap"]["count"].clone())
    );
}

#[tokio::test]
async fn beyond_the_calls_in_flight_everything_is_denied_at_once() {
    let config = [("limits", json!({"in_flight": 0}))].into();
    let site = Site::with(Plan { config, ..Plan::default() }).await;
    let scene = scene("claude-code", bash("echo"));
    let pipeline = site.service.pipeline().clone();
    let receipting = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        pipeline.receipt_gaps().await;
    };
    let (reply, ()) = tokio::join!(site.send(&scene, "c"), receipting);
    let answer: Value = serde_json::from_slice(&reply.unwrap().body).unwrap();
    assert_eq!("deny", answer["hookSpecificOutput"]["permissionDecision"]);
    assert_eq!(ReceiptKind::Gap, site.receipts().await.pop().unwrap().summary.kind);
}

#[tokio::test]
async fn while_draining_calls_are_denied_and_notices_pass() {
    let site = Site::ordinary().await;
    site.service.pipeline().drain();
    let pipeline = site.service.pipeline().clone();
    let receipting = tokio::spawn(async move {
        loop {
            pipeline.receipt_gaps().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let call = site.send(&scene("claude-code", bash("echo")), "c").await.unwrap();
    let notice = json!({"session_id": "s", "hook_event_name": "Stop", "stop_hook_active": false});
    let stop = site.send(&scene("claude-code", notice), "c").await.unwrap();
    receipting.abort();
    assert!(String::from_utf8_lossy(&call.body).contains("deny"));
    assert_eq!("{}", String::from_utf8_lossy(&stop.body), "a blocked Stop would keep the agent going");
}

#[tokio::test]
async fn a_halt_denies_at_once_and_lifting_it_allows_again() {
    let site = Site::ordinary().await;
    let pipeline = site.service.pipeline();
    let what = HaltScope::Human("bob@acme.example".into());
    let halt = Halt { at: NOON, by: "ann".into(), reason: "odd behaviour".into(), what: what.clone() };
    assert_eq!("ALLOW", site.ask("1", action("1", "s", "read", json!({}))).await["decision"]);
    pipeline.halt(halt).await.unwrap();
    let halted = site.ask("2", action("2", "s", "read", json!({}))).await;
    assert_eq!(
        ("DENY", "halted: odd behaviour"),
        (halted["decision"].as_str().unwrap(), halted["reason"].as_str().unwrap())
    );
    pipeline.lift(what, "ann".into(), "looked at".into()).await.unwrap();
    assert_eq!("ALLOW", site.ask("3", action("3", "s", "read", json!({}))).await["decision"]);
    let halts = site.receipts().await.iter().filter(|leaf| leaf.summary.kind == ReceiptKind::Halt).count();
    assert_eq!(2, halts);
}

fn ticket(answer: &Value) -> ApprovalId {
    answer["ticket"].as_str().unwrap().parse().unwrap()
}

fn payment(id: &str) -> Value {
    let mut body = action(id, "s", "pay", json!({"amount": 5}));
    body["facets"] = json!({"amount_minor": 500, "currency": "eur"});
    body
}

#[tokio::test]
async fn what_a_persons_other_sessions_did_is_known_after_a_restart() {
    let policies = r#"
        @id("all") @reason("all") permit(principal, action, resource);
        @id("other-agent") @reason("another agent of this person was denied twice and has read who knows what")
        forbid(principal, action == Action::"send", resource)
        when { context.person has deniedCount && context.person.deniedCount == 2 && context.person.labels.contains("RESTRICTED") };
        @id("no-deletes") @reason("no deletes") forbid(principal, action == Action::"delete", resource);"#;
    let site = Site::with(Plan { policies: Some(policies), on_disk: true, ..Plan::default() }).await;
    for id in ["1", "2"] {
        assert_eq!("DENY", site.ask(id, action(id, "first", "delete", json!({}))).await["decision"]);
    }
    let read = action("3", "first", "read", json!({}));
    assert_eq!("ALLOW", site.ask("3", read).await["decision"]);
    let send = |id| action(id, "second", "send", json!({}));
    assert_eq!("DENY", site.ask("4", send("4")).await["decision"]);
    let site = site.restarted().await;
    assert_eq!("DENY", site.ask("5", send("5")).await["decision"]);
    let leaf = site.receipts().await.pop().unwrap();
    let context = statement_of(&leaf.bytes)["predicate"]["context"].clone();
    assert_eq!(
        Some(2),
        context["person"]["deniedCount"].as_u64(),
        "the receipt says what the policy saw: {context}"
    );
}

#[tokio::test]
async fn an_approved_action_runs_once_and_is_asked_about_again_after_that() {
    let site = Site::ordinary().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let first = site.ask("1", payment("1")).await;
    assert_eq!("STEP_UP", first["decision"]);
    assert_eq!(
        first["ticket"],
        site.ask("2", payment("2")).await["ticket"],
        "an open question is not asked twice"
    );
    let resolved = pipeline.resolve(routes, &ticket(&first), &approver("fay"), &Answer::yes()).await.unwrap();
    assert!(matches!(resolved, Resolved::Settled(_)));
    assert_eq!("ALLOW", site.ask("3", payment("3")).await["decision"]);
    assert_eq!("STEP_UP", site.ask("4", payment("4")).await["decision"], "a grant is used once");
    let mut other = payment("5");
    other["parameters"]["amount"] = json!(6);
    assert_eq!("STEP_UP", site.ask("5", other).await["decision"], "a grant is for the exact parameters");
}

#[tokio::test]
async fn racing_retries_use_a_grant_once() {
    let site = Site::ordinary().await;
    let first = site.ask("0", payment("0")).await;
    site.service
        .pipeline()
        .resolve(site.service.routes(), &ticket(&first), &approver("fay"), &Answer::yes())
        .await
        .unwrap();
    let ids: Vec<_> = (1..=10).map(|at| at.to_string()).collect();
    let answers = join_all(ids.iter().map(|id| site.ask(id, payment(id)))).await;
    assert_eq!(1, answers.iter().filter(|answer| answer["decision"] == "ALLOW").count());
}

#[tokio::test]
async fn the_same_delivery_is_decided_anew_once_its_ticket_is_answered() {
    let site = Site::ordinary().await;
    let first = site.ask("1", payment("1")).await;
    assert_eq!(first, site.ask("1", payment("1")).await);
    site.service
        .pipeline()
        .resolve(site.service.routes(), &ticket(&first), &approver("fay"), &Answer::yes())
        .await
        .unwrap();
    assert_eq!("ALLOW", site.ask("1", payment("1")).await["decision"]);
    assert_eq!("ALLOW", site.ask("1", payment("1")).await["decision"], "and that answer is repeated");
    assert_eq!(3, site.verdicts().await.len(), "the question, its resolution, the retry");
}

#[tokio::test]
async fn nobody_answers_is_a_denial_with_both_receipts() {
    let site = Site::ordinary().await;
    let first = site.ask("1", payment("1")).await;
    site.clock.set(Timestamp(NOON.0 + 86_400_000));
    site.service.pipeline().expire_approvals(site.service.routes()).await;
    let receipts = site.receipts().await;
    let resolution = statement_of(&receipts.last().unwrap().bytes);
    assert_eq!(json!("resolution"), resolution["predicate"]["kind"]);
    assert_eq!(first["receipt_id"], resolution["predicate"]["parent"]);
    assert_eq!(json!("DENY"), resolution["predicate"]["decision"]["verdict"]);
    let late = site
        .service
        .pipeline()
        .resolve(site.service.routes(), &ticket(&first), &approver("fay"), &Answer::yes())
        .await;
    assert!(matches!(late, Err(AnswerError::NotOpen(_))));
}

#[tokio::test]
async fn a_deferral_that_nobody_resolves_becomes_a_question_when_its_policy_says_so() {
    let policies = r#"@id("all") @reason("fine") permit (principal, action, resource);
        @id("wait") @decision("defer") @defer_needs("ticket_state") @timeout("PT1M") @on_timeout("step_up")
        @approvers("group:oncall") @reason("look it up") forbid (principal, action == Action::"delete", resource);"#;
    let site = Site::with(Plan { policies: Some(policies), ..Plan::default() }).await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let deferred = site.ask("1", action("1", "s", "delete", json!({}))).await;
    assert_eq!("DEFER", deferred["decision"]);
    site.clock.set(Timestamp(NOON.0 + 61_000));
    pipeline.expire_approvals(routes).await;
    let resolved =
        pipeline.resolve(routes, &ticket(&deferred), &approver("dan"), &Answer::yes()).await.unwrap();
    assert!(matches!(resolved, Resolved::Settled(_)));
    assert_eq!("ALLOW", site.ask("2", action("2", "s", "delete", json!({}))).await["decision"]);
    let verdicts = [Verdict::Defer, Verdict::StepUp, Verdict::Allow, Verdict::Allow];
    assert_eq!(verdicts, site.verdicts().await.as_slice());
    let report = site.audit().await;
    assert!(report.findings.is_empty() && report.still_open.is_empty(), "{report:?}");
}

#[tokio::test]
async fn only_the_named_approve_never_their_own_agent_and_a_quorum_takes_two() {
    let site = Site::ordinary().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let grant = site.ask("1", action("1", "s", "grant", json!({"role": "admin"}))).await;
    let id = ticket(&grant);
    let mut stranger = approver("eve");
    stranger.groups.clear();
    let mut bob = approver("bob");
    bob.identities.push("u-bob".into());
    let refused = pipeline.resolve(routes, &id, &stranger, &Answer::yes()).await;
    assert!(matches!(refused, Err(AnswerError::NotAnApprover { .. })));
    assert!(matches!(
        pipeline.resolve(routes, &id, &bob, &Answer::yes()).await,
        Err(AnswerError::OwnAgent(_))
    ));
    let first = pipeline.resolve(routes, &id, &approver("sam"), &Answer::yes()).await.unwrap();
    assert!(matches!(first, Resolved::Counted { approved: 1, quorum: 2, .. }), "{first:?}");
    assert!(matches!(
        pipeline.resolve(routes, &id, &approver("sam"), &Answer::yes()).await,
        Err(AnswerError::Twice(_))
    ));
    let second = pipeline.resolve(routes, &id, &approver("sue"), &Answer::yes()).await.unwrap();
    assert!(matches!(second, Resolved::Settled(_)));
}

#[tokio::test]
async fn approvals_at_once_are_all_counted_and_a_refusal_among_them_stands() {
    let site = Site::ordinary().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let first = ticket(&site.ask("1", action("1", "s", "grant", json!({"role": "admin"}))).await);
    let (sam, sue) = (approver("sam"), approver("sue"));
    let yes = Answer::yes();
    let both = [&sam, &sue].map(|who| pipeline.resolve(routes, &first, who, &yes));
    let settled = join_all(both).await.into_iter().filter(|r| matches!(r, Ok(Resolved::Settled(_)))).count();
    assert_eq!(1, settled, "two of two have agreed, whichever came first");

    let second = ticket(&site.ask("2", action("2", "s", "grant", json!({"role": "root"}))).await);
    let answers = [(&sam, Answer::yes()), (&sue, Answer::no())];
    join_all(answers.iter().map(|(who, answer)| pipeline.resolve(routes, &second, who, answer))).await;
    assert!(pipeline.store.approval(&second).await.unwrap().is_none(), "a refused question stays closed");
}

#[tokio::test]
async fn a_question_whose_time_is_up_is_not_approved_any_more() {
    let site = Site::ordinary().await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let asked = ticket(&site.ask("1", payment("1")).await);
    site.clock.set(Timestamp(NOON.0 + 86_400_000));
    let late = pipeline.resolve(routes, &asked, &approver("fay"), &Answer::yes()).await;
    assert!(matches!(late, Err(AnswerError::NotOpen(_))), "{late:?}");
}

#[tokio::test]
async fn what_was_told_is_bound_to_the_receipt_and_stays_out_of_the_leaf() {
    let site = Site::ordinary().await;
    let mut call =
        site.rehearsal.scenes().unwrap().into_iter().find(|scene| scene.connector == "claude-code").unwrap();
    call.body = json!({
        "session_id": "s", "hook_event_name": "PermissionRequest", "tool_name": "Read",
        "tool_input": {"file_path": "a.txt", "limit": 5000},
    });
    site.send(&call, "1").await.unwrap();
    let leaf = site.receipts().await.pop().unwrap();
    let decision = statement_of(&leaf.bytes)["predicate"]["decision"].clone();
    assert_eq!(
        ("MODIFY", "DENY"),
        (decision["verdict"].as_str().unwrap(), decision["expressed"].as_str().unwrap())
    );
    assert_eq!("at most 100 rows", decision["reason"], "the policy's own words");
    let told = open_disclosure(&leaf.disclosure.unwrap()).unwrap().told;
    assert_eq!(Some("at most 100 rows; retry with `limit` to 100 changed"), told.as_deref());
}

#[tokio::test]
async fn one_denied_call_denies_its_frame_and_each_has_a_receipt() {
    let site = Site::ordinary().await;
    let call = |id: &str, name: &str, input: Value| json!({"type": "tool_use", "id": id, "tool_name": name, "input": input, "tool_info": {"type": "client", "tool_type": "bash_20250124"}});
    let body = json!({
        "type": "tool_call", "request_id": "r", "tenant_id": "t", "actor": {"type": "user", "id": "user_1"},
        "source": {"application": "claude-ai"}, "session_id": "s", "model": null, "metadata": {},
        "messages": [{"role": "assistant", "content": [
            call("toolu_1", "Read", json!({"file_path": "a.txt"})), call("toolu_2", "bash", json!({"command": "mkfs /dev/sda"})),
        ]}],
    });
    let reply = site.send(&scene("anthropic", body), "r").await.unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!("deny", answer["action"]);
    assert_eq!([Verdict::Allow, Verdict::Deny], site.verdicts().await.as_slice());
    let receipts = site.receipts().await;
    let told: Vec<_> = receipts.iter().filter_map(|leaf| leaf.summary.expressed.clone()).collect();
    assert_eq!(["DENY", "DENY"], told.as_slice());
    let allowed = receipts.iter().find(|leaf| leaf.summary.verdict == Some(Verdict::Allow)).unwrap();
    let reason = statement_of(&allowed.bytes)["predicate"]["decision"]["reason"].clone();
    assert_eq!("a known agent may work", reason, "why it was allowed, not why its neighbour was denied");
}

#[tokio::test]
async fn a_bad_policy_set_never_replaces_a_good_one() {
    let site = Site::ordinary().await;
    let file = site.dir.path().join("policies/extra.cedar");
    let settings = serde_json::from_value(json!({"dir": site.dir.path().join("policies")})).unwrap();
    std::fs::write(&file, "permit (principal").unwrap();
    assert!(site.service.pipeline().reload(&settings).await.is_err());
    assert_eq!("ALLOW", site.ask("1", action("1", "s", "read", json!({}))).await["decision"]);
    let stop = "@id(\"stop\") @class(\"forbidden\") @reason(\"stop\") forbid (principal, action, resource);";
    std::fs::write(&file, stop).unwrap();
    assert!(site.service.pipeline().reload(&settings).await.unwrap().applied);
    assert_eq!("DENY", site.ask("2", action("2", "s", "read", json!({}))).await["decision"]);
    let changes =
        site.receipts().await.iter().filter(|leaf| leaf.summary.kind == ReceiptKind::PolicyChange).count();
    assert_eq!(3, changes, "the start, the refusal, the change");
}

#[tokio::test]
async fn a_connector_that_panics_denies() {
    let site = Site::with(Plan { extra: Some(ConnectorSpec::of::<Brittle>()), ..Plan::default() }).await;
    for (body, told) in
        [(json!("normalize"), "no"), (json!("answer"), "no"), (json!("fine"), "no"), (json!("verify"), "")]
    {
        let answered = site.send(&scene("brittle", body.clone()), "b").await;
        let text =
            answered.map(|reply| String::from_utf8_lossy(&reply.body).into_owned()).unwrap_or_default();
        assert_eq!(told, text, "{body}");
    }
}

/// A connector with a fault in every step, for the body that names it.
struct Brittle;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

impl Connector for Brittle {
    const NAME: &'static str = "brittle";
    type Settings = Nothing;

    fn manifest() -> Manifest {
        let generic =
            countersign_connectors::registry().get("generic").map(|spec| (spec.manifest)()).unwrap();
        Manifest { name: Self::NAME, frames: Vec::new(), ..generic }
    }

    fn setup(_: &countersign_sdk::Site) -> String {
        String::new()
    }

    fn connect(_: Nothing, _: &Env<'_>) -> Result<Parts, ConnectError> {
        Ok(Parts { deadline: Duration::from_secs(1), frames: Vec::new(), gate: Box::new(Self), held: None })
    }
}

impl Gate for Brittle {
    fn verify(&self, request: &Inbound<Unverified>, _: Timestamp) -> Result<Caller, VerifyError> {
        assert_ne!(b"\"verify\"", request.body.as_ref());
        Ok(Caller::default())
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        assert_ne!(b"\"normalize\"", request.body.as_ref());
        let state = serde_json::from_slice(&request.body).unwrap();
        let frame = Frame { name: "brittle".into(), state };
        Ok(Normalized {
            events: Vec::new(),
            frame,
            idempotency: String::from_utf8_lossy(&request.body).into(),
        })
    }

    fn answer(&self, frame: &Frame, said: &[Said]) -> Reply {
        assert_ne!(frame.state, json!("answer"));
        let denied =
            said.iter().all(|said| said.expression.expressed == countersign_schemas::Expressed::Deny);
        Reply {
            body: if denied { b"no".to_vec() } else { b"yes".to_vec() },
            content_type: "text/plain".into(),
            status: 200,
        }
    }
}

fn bash(command: &str) -> Value {
    let input: Map<_, _> = [("command".to_owned(), json!(command))].into_iter().collect();
    json!({
        "session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": input,
        "tool_use_id": format!("toolu_{command}"),
    })
}

#[tokio::test]
async fn a_clock_that_jumps_makes_signatures_stale_and_breaks_no_chain() {
    let site = Site::ordinary().await;
    let signed_at_noon = scene("generic", action("1", "s", "read", json!({})));
    assert!(site.send(&signed_at_noon, "1").await.is_ok());
    for jump in [-3_600_000, 3_600_000] {
        let signed = site.signed(&signed_at_noon, "1");
        site.clock.set(Timestamp(NOON.0 + jump));
        let refused = site.deliver("generic", signed, Instant::now()).await;
        assert_eq!(Err(VerifyError::Stale { age_s: 3600, max_s: 300 }), refused.map(|_| ()), "{jump}");
        let id = format!("after {jump}");
        assert_eq!("ALLOW", site.ask(&id, action(&id, "s", "read", json!({}))).await["decision"]);
        site.clock.set(NOON);
    }
    assert_eq!(3, site.verdicts().await.len());
    assert!(site.audit().await.findings.is_empty());
}

#[tokio::test]
async fn without_the_issuers_keys_a_token_is_refused_at_once() {
    let site = Site::ordinary().await;
    let call = site
        .rehearsal
        .scenes()
        .unwrap()
        .into_iter()
        .find(|scene| scene.path == "analyze-tool-execution")
        .unwrap();
    let started = Instant::now();
    assert!(matches!(site.send(&call, "1").await, Err(VerifyError::NoKey(_))));
    assert!(started.elapsed() < Duration::from_millis(500), "verification never waits for a fetch");
}

#[tokio::test]
async fn a_callback_is_made_again_until_the_vendor_is_back() {
    // A port that was free a moment ago, and where nobody listens yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Site::with(Plan { far_side: Some(address), ..Plan::default() }).await;
    let (pipeline, routes) = (site.service.pipeline(), site.service.routes());
    let deploy = site
        .rehearsal
        .scenes()
        .unwrap()
        .into_iter()
        .find(|scene| scene.title == "deploy to staging")
        .unwrap();
    assert_eq!(202, site.send(&deploy, "1").await.unwrap().status);
    pipeline.call_back(routes).await;
    let owed = pipeline.store.outbox().await.unwrap();
    assert_eq!((1, 1, false), (owed.len(), owed[0].attempts, owed[0].dead), "{owed:?}");

    let far_side = site.serve_far_side(address).await;
    pipeline.call_back(routes).await;
    assert_eq!(1, pipeline.store.outbox().await.unwrap().len(), "not before it is due again");
    site.clock.set(Timestamp(NOON.0 + 60_000));
    pipeline.call_back(routes).await;
    assert_eq!(0, pipeline.store.outbox().await.unwrap().len());
    far_side.abort();
}
