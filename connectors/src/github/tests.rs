//! What fixtures cannot show: settings that are refused, and the calls back against a fake GitHub.

use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::{Expressed, Expression, ReceiptId};
use countersign_sdk::{CallError, CallOutcome, Callback, Held};
use wiremock::matchers::{
    body_json, header, header_regex, method, path, query_param, query_param_is_missing,
};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const RUN: &str = "/repos/acme/app/actions/runs/42";
const NOW: Timestamp = Timestamp(1_795_500_000_000);

fn connect(api_base: &str, allow: &str, key: &str) -> Result<Parts, ConnectError> {
    let env = Env {
        egress: &Egress::new([allow.to_owned()]).unwrap(),
        instance: "github",
        keys: &KeySets::default(),
        lookup: &|name| match name {
            "SECRET" => Some("dummy-secret".to_owned()),
            "KEY" => Some(include_str!("../../../fixtures/github/test-only-app-key.pem").to_owned()),
            _ => Some("not a key".to_owned()),
        },
        public_url: "https://countersign.example.com",
    };
    let settings = json!({
        "secrets": [{"env": "SECRET"}], "app_id": 123_456, "private_key": {"env": key}, "api_base": api_base
    });
    GitHub::connect(serde_json::from_value(settings).unwrap(), &env)
}

fn held(server: &MockServer) -> Box<dyn Held> {
    connect(&server.uri(), "127.0.0.1", "KEY").unwrap().held.unwrap()
}

/// A review of `production` in run 42, as the connector itself makes it of a delivery and a decision.
fn owed(server: &MockServer, expressed: Expressed, reason: &str) -> Callback {
    let parts = connect(&server.uri(), "127.0.0.1", "KEY").unwrap();
    let body = json!({
        "action": "requested", "environment": "production", "installation": {"id": 7},
        "deployment_callback_url": format!("{}{RUN}/deployment_protection_rule", server.uri()),
        "repository": {"id": 1, "full_name": "acme/app"}
    });
    let mut headers = http::HeaderMap::new();
    headers.insert("x-github-event", http::HeaderValue::from_static(RULE));
    let request = Inbound::new(String::new(), String::new(), headers, body.to_string().into(), NOW);
    let read = parts.gate.normalize(&request.assume_verified(Caller::default())).unwrap();
    let [Event::Action(action)] = read.events.as_slice() else { panic!("{read:?}") };
    let said = Said {
        action: None,
        expression: Expression { degraded: None, expressed, reason: reason.to_owned() },
        modified: None,
        receipt_id: Some(ReceiptId::derived(&["r"])),
        ticket: None,
        verdict: Verdict::StepUp,
    };
    parts.held.unwrap().callback(action, &said)
}

/// A GitHub that gives tokens for exactly what we may need, and says which environments of run 42 wait.
async fn github(waiting: &[&str]) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/app/installations/7/access_tokens"))
        .and(header_regex("authorization", r"^Bearer ey[\w-]+\.[\w-]+\.[\w-]+$"))
        .and(body_json(json!({
            "repositories": ["app"], "permissions": {"actions": "read", "deployments": "write"}
        })))
        .respond_with(ResponseTemplate::new(201).set_body_json(json!({
            "token": "ghs_123456_dummy", "expires_at": "2026-11-24T07:00:00Z",
            "permissions": {"actions": "read", "deployments": "write"}, "repository_selection": "selected"
        })))
        .mount(&server)
        .await;
    let waiting: Vec<_> =
        waiting.iter().map(|name| json!({"environment": {"id": 1, "name": name}})).collect();
    Mock::given(method("GET"))
        .and(path(format!("{RUN}/pending_deployments")))
        .and(header("authorization", "Bearer ghs_123456_dummy"))
        .respond_with(ResponseTemplate::new(200).set_body_json(waiting))
        .mount(&server)
        .await;
    server
}

async fn review_is_answered(server: &MockServer, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path(format!("{RUN}/deployment_protection_rule")))
        .and(header("authorization", "Bearer ghs_123456_dummy"))
        .and(header("x-github-api-version", "2022-11-28"))
        .respond_with(answer)
        .mount(server)
        .await;
}

/// Bodies that were posted to the rule.
async fn reviews(server: &MockServer) -> Vec<Value> {
    let received = server.received_requests().await.unwrap();
    let reviews =
        received.iter().filter(|request| request.url.path().ends_with("/deployment_protection_rule"));
    reviews.map(|request| request.body_json().unwrap()).collect()
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let key_of = |parts: Result<Parts, ConnectError>| match parts.err() {
        Some(ConnectError::Value { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    assert_eq!("api_base", key_of(connect("https://api.github.com", "github.com", "KEY")));
    assert_eq!("api_base", key_of(connect("http://api.github.com", "api.github.com", "KEY")));
    assert_eq!("private_key", key_of(connect("https://api.github.com", "api.github.com", "NOT_A_KEY")));
}

#[tokio::test]
async fn a_decision_is_answered_with_a_token_for_this_repository_only() {
    for (expressed, state) in [(Expressed::Allow, "approved"), (Expressed::Deny, "rejected")] {
        let server = github(&["staging", "production"]).await;
        review_is_answered(&server, ResponseTemplate::new(204)).await;
        let callback = owed(&server, expressed, &"x".repeat(2_000));
        assert_eq!(CallOutcome::Delivered, held(&server).call(&callback, NOW).await.unwrap());
        let [review] = reviews(&server).await.try_into().unwrap();
        assert_eq!(
            ("production", state),
            (review["environment_name"].as_str().unwrap(), review["state"].as_str().unwrap())
        );
        let comment = review["comment"].as_str().unwrap();
        assert!(comment.len() == 1024 && comment.contains(ReceiptId::derived(&["r"]).as_str()));
    }
}

#[tokio::test]
async fn an_environment_that_no_longer_waits_is_not_answered() {
    let server = github(&["staging"]).await;
    let callback = owed(&server, Expressed::Allow, "");
    assert!(matches!(held(&server).call(&callback, NOW).await, Ok(CallOutcome::Moot(_))));
    assert_eq!(Vec::<Value>::new(), reviews(&server).await);
}

#[tokio::test]
async fn a_token_is_kept_until_five_minutes_before_its_end() {
    let server = github(&["production"]).await;
    review_is_answered(&server, ResponseTemplate::new(204)).await;
    let (callback, held) = (owed(&server, Expressed::Allow, ""), held(&server));
    let ends: Timestamp = "2026-11-24T07:00:00Z".parse().unwrap();
    let mut tokens = Vec::new();
    for now in [NOW, Timestamp(ends.0 - 300_001), Timestamp(ends.0 - 300_000)] {
        held.call(&callback, now).await.unwrap();
        let received = server.received_requests().await.unwrap();
        tokens.push(received.iter().filter(|request| request.url.path().ends_with("/access_tokens")).count());
    }
    assert_eq!([1, 1, 2], tokens.as_slice());
}

#[tokio::test]
async fn a_status_decides_whether_a_review_is_tried_again() {
    let message = |text: &str| json!({"message": text, "documentation_url": "https://docs.github.com"});
    let forbidden =
        ResponseTemplate::new(403).set_body_json(message("Resource not accessible by integration"));
    let limited = forbidden.clone().insert_header("x-ratelimit-remaining", "0");
    let secondary =
        ResponseTemplate::new(403).set_body_json(message("You have exceeded a secondary rate limit"));
    for (answer, again) in [
        (ResponseTemplate::new(502), true),
        (ResponseTemplate::new(429), true),
        (ResponseTemplate::new(401), true),
        (limited, true),
        (secondary, true),
        (forbidden, false),
        (ResponseTemplate::new(404), false),
        (ResponseTemplate::new(422), false),
        (ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"), false),
    ] {
        let server = github(&["production"]).await;
        review_is_answered(&server, answer.clone()).await;
        let callback = owed(&server, Expressed::Allow, "");
        match held(&server).call(&callback, NOW).await {
            Err(CallError::Retry(text)) if again => assert!(!text.contains("ghs_"), "{text}"),
            Err(CallError::Permanent(_)) if !again => {}
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_github_that_cannot_be_reached_is_tried_again() {
    // From the builder, because a pooled server goes on listening after it is dropped.
    let server = MockServer::builder().start().await;
    let (callback, held) = (owed(&server, Expressed::Allow, ""), held(&server));
    drop(server);
    assert!(matches!(held.call(&callback, NOW).await, Err(CallError::Retry(_))));
}

#[tokio::test]
async fn the_sweep_asks_again_for_what_never_arrived_and_for_nothing_else() {
    let server = MockServer::start().await;
    let delivery = |id: u64, guid: &str, event: &str, status: &str, at: &str| json!({"id": id, "guid": guid, "event": event, "status": status, "delivered_at": at, "redelivery": false});
    let link = format!("<{}/app/hook/deliveries?per_page=100&cursor=v1_9%2B>; rel=\"next\"", server.uri());
    let first = json!([
        delivery(9, "lost", RULE, "Service Unavailable", "2026-11-24T05:30:00Z"),
        delivery(8, "arrived later", RULE, "OK", "2026-11-24T05:20:00Z"),
        delivery(7, "notice", "workflow_run", "timed out", "2026-11-24T05:10:00Z"),
    ]);
    let second = json!([
        delivery(6, "lost", RULE, "timed out", "2026-11-24T05:00:00Z"),
        delivery(5, "arrived later", RULE, "timed out", "2026-11-24T04:00:00Z"),
        delivery(4, "too old", RULE, "timed out", "2026-11-20T00:00:00Z"),
    ]);
    let list =
        || Mock::given(method("GET")).and(path("/app/hook/deliveries")).and(query_param("per_page", "100"));
    list()
        .and(query_param_is_missing("cursor"))
        .respond_with(ResponseTemplate::new(200).set_body_json(first).insert_header("link", link))
        .mount(&server)
        .await;
    // The last page names a next one, too: what is too old ends the sweep.
    list()
        .and(query_param("cursor", "v1_9+"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(second)
                .insert_header("link", "<https://x.example/?cursor=z>; rel=\"next\""),
        )
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/app/hook/deliveries/9/attempts"))
        .respond_with(ResponseTemplate::new(202).set_body_json(json!({})))
        .expect(1)
        .mount(&server)
        .await;
    assert_eq!(1, held(&server).sweep(Timestamp(0), NOW).await.unwrap());
    let asked = server.received_requests().await.unwrap().into_iter();
    assert_eq!(1, asked.filter(|request| request.method.as_str() == "POST").count());
}
