//! Callbacks against a far side that is faked on the wire: what is fetched, what is sent, and when nothing is.

#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions beside the tests")]

use std::fs;
use std::path::Path;

use countersign_connectors::registry;
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::{Action, Event, Expressed, Expression, ReceiptId, Timestamp, Verdict};
use countersign_sdk::{CallError, CallOutcome, Caller, Env, Inbound, Parts, Said, Verified};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const NOW: Timestamp = Timestamp(1_795_496_400_000);

/// The connector as its fixtures configure it, calling `server` instead of the vendor.
fn connect(name: &str, server: &MockServer) -> Parts {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap().parse::<toml::Table>().unwrap();
    let mut settings = serde_json::to_value(read("settings.toml")).unwrap();
    settings["api_base"] = json!(server.uri());
    let secrets = read("secrets.toml");
    let env = Env {
        egress: &Egress::new(["127.0.0.1".to_owned()]).unwrap(),
        instance: name,
        keys: &KeySets::default(),
        lookup: &|name| secrets.get(name)?.as_str().map(str::to_owned),
        public_url: "https://countersign.example.com",
    };
    (registry().get(name).unwrap().connect)(settings, &env).unwrap()
}

fn delivery(body: &Value) -> Inbound<Verified> {
    let body = body.to_string().into_bytes().into();
    Inbound::new(String::new(), String::new(), HeaderMap::new(), body, NOW).assume_verified(Caller::default())
}

/// What a thin notification is about, once it is completed.
async fn actions(parts: &Parts, thin: &Value) -> Vec<Action> {
    let request = delivery(thin);
    let body = parts.held.as_ref().unwrap().complete(&request, NOW).await.unwrap().unwrap();
    let events = parts.gate.normalize(&request.completed(body)).unwrap().events;
    let action = |event| match event {
        Event::Action(action) => Some(*action),
        _ => None,
    };
    events.into_iter().filter_map(action).collect()
}

async fn tell(
    parts: &Parts,
    action: &Action,
    expressed: Expressed,
    modified: Option<Map<String, Value>>,
) -> Result<CallOutcome, CallError> {
    let said = Said {
        action: Some(action),
        expression: Expression { degraded: None, expressed, reason: "because".to_owned() },
        modified,
        receipt_id: Some(ReceiptId::derived(&["test"])),
        ticket: None,
        verdict: Verdict::Allow,
    };
    let held = parts.held.as_ref().unwrap();
    held.call(&held.callback(action, &said), NOW).await
}

fn because() -> String {
    format!("because (receipt {})", ReceiptId::derived(&["test"]))
}

async fn serve(server: &MockServer, verb: &str, at: &str, answer: Value) {
    let answer = ResponseTemplate::new(200).set_body_json(answer);
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

#[tokio::test]
async fn a_managed_agents_calls_are_confirmed_one_by_one() {
    let server = MockServer::start().await;
    let parts = connect("managed-agents", &server);
    let call = |id: &str| json!({"type": "agent.tool_use", "id": id, "name": "bash", "input": {}, "processed_at": "1"});
    let reason = json!({"type": "requires_action", "event_ids": ["sevt_1", "sevt_2"]});
    let events = json!({"data": [
        {"type": "session.status_idle", "id": "i", "stop_reason": reason, "processed_at": "2"},
        call("sevt_1"), call("sevt_2"),
    ]});
    let at = "/v1/sessions/sesn_1/events";
    serve(&server, "GET", at, events).await;
    let wanted = json!({"events": [{
        "type": "user.tool_confirmation", "tool_use_id": "sevt_2", "result": "deny", "deny_message": because(),
    }]});
    Mock::given(method("POST"))
        .and(path(at))
        .and(header("x-api-key", "dummy-api-key"))
        .and(header("anthropic-beta", "managed-agents-2026-04-01"))
        .and(body_json(wanted))
        .respond_with(ResponseTemplate::new(200))
        .expect(1)
        .mount(&server)
        .await;
    let thin =
        json!({"type": "event", "id": "whe_1", "data": {"type": "session.status_idled", "id": "sesn_1"}});
    let actions = actions(&parts, &thin).await;
    assert_eq!(2, actions.len());
    assert_eq!(CallOutcome::Delivered, tell(&parts, &actions[1], Expressed::Deny, None).await.unwrap());
}

#[tokio::test]
async fn a_session_id_that_climbs_out_of_its_path_is_never_asked_for() {
    let server = MockServer::start().await;
    let parts = connect("managed-agents", &server);
    let data = json!({"type": "session.status_idled", "id": "../agents", "events": []});
    let request = delivery(&json!({"type": "event", "data": data, "events": []}));
    let body = parts.held.as_ref().unwrap().complete(&request, NOW).await.unwrap().unwrap();
    assert!(parts.gate.normalize(&request.completed(body)).is_err());
    assert!(server.received_requests().await.unwrap().is_empty());
}

fn response() -> Value {
    let ask = |id: &str| json!({"type": "mcp_approval_request", "id": id, "server_label": "crm", "name": "x", "arguments": "{}"});
    json!({"id": "resp_1", "model": "m", "output": [ask("mcpr_1"), ask("mcpr_2")]})
}

const EVENT: &str = r#"{"id": "evt_1", "type": "response.completed", "data": {"id": "resp_1"}}"#;

#[tokio::test]
async fn a_responses_approvals_are_sent_together_and_once() {
    let server = MockServer::start().await;
    let parts = connect("openai", &server);
    serve(&server, "GET", "/responses/resp_1", response()).await;
    let answer = |id: &str, approve| json!({"type": "mcp_approval_response", "approval_request_id": id, "approve": approve, "reason": because()});
    let wanted = json!({
        "previous_response_id": "resp_1", "background": true, "model": "m",
        "input": [answer("mcpr_1", true), answer("mcpr_2", false)],
    });
    Mock::given(method("POST"))
        .and(path("/responses"))
        .and(header("authorization", "Bearer dummy-api-key"))
        .and(body_json(wanted))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({})))
        .expect(1)
        .mount(&server)
        .await;
    let actions = actions(&parts, &serde_json::from_str(EVENT).unwrap()).await;
    let waits = tell(&parts, &actions[1], Expressed::Deny, None).await;
    assert!(matches!(waits, Err(CallError::Retry(_))));
    assert_eq!(CallOutcome::Delivered, tell(&parts, &actions[0], Expressed::Allow, None).await.unwrap());
    assert_eq!(CallOutcome::Delivered, tell(&parts, &actions[1], Expressed::Deny, None).await.unwrap());
}

#[tokio::test]
async fn approvals_that_may_have_been_taken_are_not_sent_again() {
    let server = MockServer::start().await;
    let parts = connect("openai", &server);
    let mut only = response();
    only["output"].as_array_mut().unwrap().pop();
    serve(&server, "GET", "/responses/resp_1", only).await;
    let failing = Mock::given(method("POST")).respond_with(ResponseTemplate::new(502)).expect(1);
    failing.mount(&server).await;
    let actions = actions(&parts, &serde_json::from_str(EVENT).unwrap()).await;
    let given_up = tell(&parts, &actions[0], Expressed::Allow, None).await;
    assert!(matches!(given_up, Err(CallError::Permanent(_))));
}

const THREAD: &str = "/threads/6a6ff0e4-6d5d-4f6f-8d0a-0a1b2c3d4e5f";

fn thread() -> Value {
    json!({"run_id": "r", "thread_id": "6a6ff0e4-6d5d-4f6f-8d0a-0a1b2c3d4e5f", "assistant_id": "agent", "state": {"tasks": []}})
}

#[tokio::test]
async fn an_interrupted_thread_goes_on_with_all_its_decisions_in_their_order() {
    let server = MockServer::start().await;
    let parts = connect("langgraph", &server);
    let requests = json!([{"name": "pay", "args": {"amount": 5}}, {"name": "mail", "args": {}}]);
    let state = json!({"values": {}, "tasks": [{"interrupts": [{"id": "i", "value": {"action_requests": requests}}]}]});
    serve(&server, "GET", &format!("{THREAD}/state"), state).await;
    let wanted = json!({
        "assistant_id": "agent", "multitask_strategy": "reject",
        "webhook": "https://countersign.example.com/hooks/langgraph",
        "command": {"resume": {"decisions": [
            {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 1}}},
            {"type": "reject", "message": because()},
        ]}},
    });
    Mock::given(method("POST"))
        .and(path(format!("{THREAD}/runs")))
        .and(body_json(wanted))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({})))
        .expect(1)
        .mount(&server)
        .await;
    let actions = actions(&parts, &thread()).await;
    let waits = tell(&parts, &actions[1], Expressed::Deny, None).await;
    assert!(matches!(waits, Err(CallError::Retry(_))));
    let less = Map::from_iter([("amount".to_owned(), json!(1))]);
    let told = tell(&parts, &actions[0], Expressed::Modify, Some(less)).await;
    assert_eq!(CallOutcome::Delivered, told.unwrap());
}

#[tokio::test]
async fn a_thread_that_waits_for_something_else_by_now_is_left_alone() {
    let server = MockServer::start().await;
    let parts = connect("langgraph", &server);
    let state = |id: &str| json!({"tasks": [{"interrupts": [{"id": id, "value": {"action_requests": [{"name": "pay", "args": {}}]}}]}]});
    let once = ResponseTemplate::new(200).set_body_json(state("first"));
    Mock::given(method("GET")).respond_with(once).up_to_n_times(1).mount(&server).await;
    let actions = actions(&parts, &thread()).await;
    serve(&server, "GET", &format!("{THREAD}/state"), state("second")).await;
    let told = tell(&parts, &actions[0], Expressed::Allow, None).await.unwrap();
    assert!(matches!(told, CallOutcome::Moot(_)));
}
