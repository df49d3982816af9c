//! What fixtures cannot show: settings that are refused, and callbacks against a fake receiver.

use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::{ApprovalId, ReceiptId};
use countersign_sdk::{CallError, CallOutcome, Callback, Secret};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;

const KEY: &str = "whsec_ZHVtbXktdGVzdC1zZWNyZXQtMzItYnl0ZXMtbG9uZyEh";

fn connect(settings: Value, allow: &[&str]) -> Result<Parts, ConnectError> {
    let env = Env {
        egress: &Egress::new(allow.iter().map(|host| (*host).to_owned())).unwrap(),
        instance: "generic",
        keys: &KeySets::default(),
        lookup: &|name| match name {
            "KEY" => Some(KEY.to_owned()),
            "SHORT" => Some("short".to_owned()),
            "TOKEN" => Some("dummy-token-of-team-a".to_owned()),
            _ => None,
        },
        public_url: "https://countersign.example.com",
    };
    Generic::connect(serde_json::from_value(settings).unwrap(), &env)
}

fn unverified(body: &Value) -> Inbound {
    let body = body.to_string().into();
    Inbound::new(String::new(), String::new(), http::HeaderMap::new(), body, Timestamp(0))
}

fn said(expressed: Expressed, ticket: bool) -> Said<'static> {
    Said {
        action: None,
        expression: Expression { degraded: None, expressed, reason: "because".to_owned() },
        modified: None,
        receipt_id: Some(ReceiptId::derived(&["r"])),
        ticket: ticket.then(|| ApprovalId::derived(&["t"])),
        verdict: Verdict::Deny,
    }
}

#[track_caller]
fn check_refused(settings: Value, key: &str) {
    let refused =
        connect(settings, &["127.0.0.1", "agents.example.com"]).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|text| text.starts_with(&format!("`{key}`"))), "{refused:?}");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let secret = json!([{"env": "KEY"}]);
    let callback = |urls: Value| json!({"secret": {"env": "KEY"}, "urls": urls});
    check_refused(json!({}), "secrets");
    check_refused(json!({"secrets": [{"env": "SHORT"}]}), "secrets[0]");
    check_refused(json!({"secrets": [{"env": "UNSET"}]}), "secrets[0]");
    check_refused(json!({"tokens": {"a": {"env": "SHORT"}}}), "tokens.a");
    check_refused(json!({"secrets": secret, "timeout_ms": 499}), "timeout_ms");
    check_refused(json!({"secrets": secret, "callback": callback(json!([]))}), "callback.urls");
    check_refused(
        json!({"secrets": secret, "callback": callback(json!(["https://evil.example/"]))}),
        "callback.urls[0]",
    );
    let mut oauth = callback(json!(["https://agents.example.com/"]));
    oauth["oauth"] =
        json!({"token_url": "https://evil.example/", "client_id": "c", "client_secret": {"env": "KEY"}});
    check_refused(json!({"secrets": secret, "callback": oauth}), "callback.oauth.token_url");
}

#[test]
fn without_callback_settings_nothing_is_held() {
    let parts = connect(json!({"secrets": [{"env": "KEY"}]}), &[]).unwrap();
    assert!(parts.held.is_none() && parts.frames.iter().all(|frame| !frame.held));
    let body = json!({
        "version": 1, "id": "r", "type": "action", "session": {"id": "s"}, "agent": {"id": "a"},
        "tool": {"name": "t"}, "callback_url": "https://agents.example.com/"
    });
    let refused = parts.gate.normalize(&unverified(&body).assume_verified(Caller::default())).unwrap_err();
    assert_eq!(Some(Frame::named("action")), refused.frame);
}

#[test]
fn parameters_that_are_missing_make_a_denial_of_modify() {
    let parts = connect(json!({"secrets": [{"env": "KEY"}]}), &[]).unwrap();
    let answer = parts.gate.answer(&Frame::named("action"), &[said(Expressed::Modify, false)]);
    let answer: GenericAnswer = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((Expressed::Deny, None), (answer.decision, answer.parameters));
}

#[test]
fn published_schemas_accept_what_is_answered_and_name_every_key() {
    let schemas = schemas();
    let keys = |at: usize| schemas[at].1.as_value()["properties"].as_object().unwrap().clone();
    let answer = json!(GenericAnswer::of(&said(Expressed::StepUp, true)));
    assert!(answer.as_object().unwrap().keys().all(|key| keys(0).contains_key(key)));
    for (key, schema) in keys(0).iter().chain(&keys(1)) {
        let described = schema.get("description").or_else(|| schema.get("$ref"));
        assert!(described.is_some(), "`{key}` has no description");
    }
}

#[test]
fn every_example_of_the_documentation_is_of_the_contract() {
    let text = include_str!("../../../docs/reference/generic-hook.md");
    let examples: Vec<Value> = text
        .split("```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
        .collect();
    let (requests, answers): (Vec<_>, Vec<_>) =
        examples.into_iter().partition(|example| example.get("type").is_some());
    assert!(requests.len() >= 4 && answers.len() >= 3);
    let parts = connect(json!({"secrets": [{"env": "KEY"}]}), &[]).unwrap();
    for example in requests {
        assert!(
            parts.gate.normalize(&unverified(&example).assume_verified(Caller::default())).is_ok(),
            "{example}"
        );
    }
    for example in answers {
        assert_eq!(example, json!(GenericAnswer::deserialize(&example).unwrap()));
    }
}

/// Settings whose callbacks go to `server`, with or without a token.
fn settings(server: &MockServer, oauth: bool) -> Value {
    let mut callback = json!({"secret": {"env": "KEY"}, "urls": [format!("{}/callbacks", server.uri())]});
    if oauth {
        callback["oauth"] = json!({
            "token_url": format!("{}/token", server.uri()), "client_id": "us", "client_secret": {"env": "TOKEN"},
            "scope": "a b"
        });
    }
    json!({"secrets": [{"env": "KEY"}], "callback": callback})
}

fn owed(parts: &Parts, url: &str) -> Callback {
    let body = json!({
        "version": 1, "id": "req.1", "type": "action", "session": {"id": "s"}, "agent": {"id": "a"},
        "tool": {"name": "t"}, "callback_url": url
    });
    let read = parts.gate.normalize(&unverified(&body).assume_verified(Caller::default())).unwrap();
    let [Event::Action(action)] = read.events.as_slice() else { panic!("{read:?}") };
    parts.held.as_ref().unwrap().callback(action, &said(Expressed::Allow, true))
}

#[track_caller]
fn check_signed(request: &Request, now: Timestamp) -> String {
    let key = signature::standard_webhooks_key(&Secret::new(KEY)).unwrap();
    let headers = request.headers.clone();
    let request = Inbound::new(String::new(), String::new(), headers, request.body.clone().into(), now);
    signature::standard_webhooks(&request, &[key], now).unwrap().to_owned()
}

#[tokio::test]
async fn a_callback_is_signed_authorised_and_repeats_its_message_id() {
    let server = MockServer::start().await;
    let token = json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600});
    Mock::given(path("/token"))
        .respond_with(ResponseTemplate::new(200).set_body_json(token))
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/callbacks/1"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    let parts = connect(settings(&server, true), &["127.0.0.1"]).unwrap();
    let callback = owed(&parts, &format!("{}/callbacks/1", server.uri()));
    let held = parts.held.unwrap();
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    for later in [0, 60] {
        let now = now.after(Duration::from_secs(later));
        assert_eq!(CallOutcome::Delivered, held.call(&callback, now).await.unwrap());
    }
    let received = server.received_requests().await.unwrap();
    let [_token, first, second] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(check_signed(first, now), check_signed(second, now));
    assert_eq!("Bearer at-1", first.headers["authorization"]);
    let body: GenericAnswer = serde_json::from_slice(&first.body).unwrap();
    assert_eq!((Some("req.1"), Expressed::Allow), (body.id.as_deref(), body.decision));
    assert!(!callback.0.to_string().contains("at-1"));
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again() {
    let server = MockServer::start().await;
    let token = json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600});
    let tokens = ResponseTemplate::new(200).set_body_json(token);
    Mock::given(path("/token")).respond_with(tokens).expect(2).mount(&server).await;
    Mock::given(path("/callbacks")).respond_with(ResponseTemplate::new(401)).mount(&server).await;
    let parts = connect(settings(&server, true), &["127.0.0.1"]).unwrap();
    let callback = owed(&parts, &format!("{}/callbacks", server.uri()));
    let held = parts.held.unwrap();
    for _ in 0..2 {
        assert!(matches!(held.call(&callback, Timestamp(0)).await, Err(CallError::Retry(_))));
    }
}

#[tokio::test]
async fn a_status_decides_whether_a_callback_is_tried_again() {
    for (status, want) in [
        (200, "delivered"),
        (410, "moot"),
        (500, "retry"),
        (429, "retry"),
        (404, "permanent"),
        (302, "permanent"),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).insert_header("location", "http://127.0.0.1:1/");
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let parts = connect(settings(&server, false), &["127.0.0.1"]).unwrap();
        let callback = owed(&parts, &format!("{}/callbacks", server.uri()));
        let got = match parts.held.unwrap().call(&callback, Timestamp(0)).await {
            Ok(CallOutcome::Delivered) => "delivered",
            Ok(CallOutcome::Moot(_)) => "moot",
            Err(CallError::Retry(_)) => "retry",
            Err(CallError::Permanent(_)) => "permanent",
        };
        assert_eq!(want, got, "{status}");
    }
}

#[tokio::test]
async fn a_callback_whose_url_was_taken_back_is_not_made() {
    let server = MockServer::start().await;
    let parts = connect(settings(&server, false), &["127.0.0.1"]).unwrap();
    let callback = owed(&parts, &format!("{}/callbacks", server.uri()));
    let mut settings = settings(&server, false);
    settings["callback"]["urls"] = json!([format!("{}/elsewhere", server.uri())]);
    let parts = connect(settings, &["127.0.0.1"]).unwrap();
    let outcome = parts.held.unwrap().call(&callback, Timestamp(0)).await;
    assert!(matches!(outcome, Err(CallError::Permanent(_))));
    assert!(server.received_requests().await.unwrap().is_empty());
}
