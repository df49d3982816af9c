//! Each channel against its vendor's contract: their signatures, their shapes, their rules.

#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` does not reach functions beside the tests")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign_sdk::channel::{Ask, Channel, Heard, Message, Polled, Recipient, Told};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::question::{Fact, Question};
use countersign_sdk::schemas::{Severity, Timestamp};
use countersign_sdk::{Caller, Env, Inbound, VerifyError};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const NOW: Timestamp = Timestamp(1_795_521_600_000);

/// A channel of this kind with these settings; every secret is in the variable of its key's name.
fn connect(
    kind: &str,
    settings: Value,
    keys: &KeySets,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Box<dyn Channel> {
    let egress = Egress::new(["127.0.0.1".to_owned()]).unwrap();
    let env = Env { egress: &egress, instance: kind, keys, lookup, public_url: "https://c.example" };
    let spec = countersign_channels::all().into_iter().find(|spec| spec.name == kind).unwrap();
    (spec.connect)(settings, &env).unwrap()
}

fn request(headers: &[(&'static str, String)], body: impl Into<Bytes>) -> Inbound {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    Inbound::new(String::new(), String::new(), map, body.into(), NOW)
}

fn question() -> Question {
    Question {
        count: 1,
        expires_at: Timestamp(NOW.0 + 600_000),
        facts: vec![Fact { label: "Why", text: "<!channel> *bold* [x](y)".into() }],
        parameters: vec!["{}".into()],
        prior: vec!["then".into()],
        severity: Severity::High,
        title: "bot asks to pay <x> & go".into(),
    }
}

fn recipient(address: &str) -> Recipient {
    Recipient { address: address.into(), room: true }
}

/// A key pair of an issuer: its private half, and its keys as it would publish them.
fn issuer() -> (EncodingKey, Value) {
    let pem = include_str!("../../../fixtures/channels/test-only-issuer.pem");
    let jwk: Value =
        serde_json::from_str(include_str!("../../../fixtures/channels/issuer.jwk.json")).unwrap();
    (EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), json!({"keys": [jwk]}))
}

fn token(key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::RS256) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

#[test]
fn signatures_of_slacks_own_library_are_accepted_for_five_minutes_and_nothing_else_is() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../fixtures/channels/slack/signatures.json")).unwrap();
    let secret = vectors["secret"].as_str().unwrap().to_owned();
    let settings = json!({"bot_token": {"env": "TOKEN"}, "signing_secret": {"env": "SIGNING"}});
    let slack = connect("slack", settings, &KeySets::default(), &|name| {
        Some(if name == "SIGNING" { secret.clone() } else { "xoxb".into() })
    });
    for case in vectors["cases"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        let headers =
            [("x-slack-request-timestamp", text("timestamp")), ("x-slack-signature", text("signature"))];
        let signed_at = Timestamp::from_unix_seconds(text("timestamp").parse().unwrap());
        let check = |body: String, now: i64| slack.verify(&request(&headers, body), Timestamp(now));
        assert!(check(text("body"), signed_at.0 + 300_000).is_ok(), "{}", text("name"));
        assert!(matches!(check(text("body"), signed_at.0 + 301_000), Err(VerifyError::Stale { .. })));
        assert_eq!(Err(VerifyError::Mismatch), check(text("body") + "x", signed_at.0));
    }
}

#[tokio::test]
async fn text_from_outside_has_no_meaning_in_a_slack_message() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({"ok": true, "channel": "C1", "ts": "1.2"}));
    Mock::given(path("/chat.postMessage")).respond_with(answer).mount(&server).await;
    let settings =
        json!({"api_url": server.uri(), "bot_token": {"env": "T"}, "signing_secret": {"env": "S"}});
    let slack = connect("slack", settings, &KeySets::default(), &|_| Some("s".into()));
    let question = question();
    let ask = Ask { question: &question, reference: "obx_0.1.ab", to: &recipient("C1") };
    let sent = slack.ask(&ask, NOW).await.unwrap();
    assert_eq!(Message(json!({"channel": "C1", "ts": "1.2"})), sent.message);
    let body: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    assert_eq!("bot asks to pay &lt;x&gt; &amp; go", body["text"]);
    let mut markup = Vec::new();
    collect(&body["blocks"], &mut markup);
    assert!(!markup.is_empty() && !markup.iter().any(|text| text.contains("channel")), "{markup:?}");
    assert!(body["blocks"].to_string().contains("<!channel>"), "it is shown, as plain text");
}

/// Every text that Slack reads as its own markup.
fn collect(value: &Value, found: &mut Vec<String>) {
    if value["type"] == "mrkdwn" {
        found.extend(value["text"].as_str().map(str::to_owned));
    }
    match value {
        Value::Array(list) => list.iter().for_each(|one| collect(one, found)),
        Value::Object(map) => map.values().for_each(|one| collect(one, found)),
        _ => {}
    }
}

#[test]
fn teams_believes_bot_framework_about_the_activity_it_names_only() {
    let (key, keys) = issuer();
    let sets = KeySets::default();
    sets.preset("https://keys.example", serde_json::from_value(keys).unwrap());
    let settings = json!({"app_id": "app", "app_secret": {"env": "S"}, "jwks_url": "https://keys.example"});
    let teams = connect("teams", settings, &sets, &|_| Some("s".into()));
    let activity = json!({
        "type": "invoke", "name": "adaptiveCard/action", "id": "f:1", "channelId": "msteams",
        "serviceUrl": "https://smba.trafficmanager.net/teams/", "from": {"id": "29:x", "aadObjectId": "ann-oid"},
        "value": {"action": {"type": "Action.Execute", "verb": "deny", "data": {"reference": "obx_0.1.ab", "comment": "no"}},
                  "trigger": "manual"},
    });
    let claims = json!({
        "iss": "https://api.botframework.com", "aud": "app", "exp": NOW.unix_seconds() + 60,
        "nbf": NOW.unix_seconds(), "serviceurl": "https://smba.trafficmanager.net/teams/",
    });
    let check = |changed: Value, activity: &Value| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let headers = [("authorization", format!("Bearer {}", token(&key, &claims)))];
        teams.verify(&request(&headers, activity.to_string()), NOW)
    };
    assert!(check(json!({}), &activity).is_ok());
    for wrong in [
        json!({"iss": "https://sts.example"}),
        json!({"aud": "other"}),
        json!({"exp": NOW.unix_seconds() - 301}),
        json!({"nbf": NOW.unix_seconds() + 301}),
        json!({"serviceurl": "https://evil.example/"}),
    ] {
        assert!(check(wrong.clone(), &activity).is_err(), "{wrong}");
    }
    let mut elsewhere = activity.clone();
    elsewhere["serviceUrl"] = json!("https://evil.example/");
    assert!(check(json!({}), &elsewhere).is_err());
    let request = request(&[], activity.to_string()).assume_verified(Caller::default());
    let heard = teams.read(&request, NOW).unwrap();
    let Heard::Click(click) = &heard else { panic!("{heard:?}") };
    assert_eq!(
        ("ann-oid", "obx_0.1.ab", false, Some("no")),
        (click.who.as_str(), click.reference.as_str(), click.approved, click.comment.as_deref())
    );
    let reply = teams.answer(&heard, &Told::Refused("you are not an approver"), NOW);
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((200, 403), (reply.status, body["statusCode"].as_u64().unwrap()));
    assert_eq!("application/vnd.microsoft.error", body["type"]);
}

#[test]
fn a_webhook_answer_is_signed_with_another_key_than_our_posts() {
    let (ours, theirs) =
        ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_ZHVtbXktdGVzdC1zZWNyZXQtMzItYnl0ZXMtbG9uZyEh");
    let settings = json!({
        "url": "http://127.0.0.1:9/x", "secret": {"env": "OURS"}, "answer_secrets": [{"env": "THEIRS"}],
    });
    let lookup = |name: &str| Some(if name == "OURS" { ours } else { theirs }.to_owned());
    let webhook = connect("webhook", settings, &KeySets::default(), &lookup);
    let body = r#"{"reference":"obx_0.1.ab","approved":true,"who":"ann","more":1}"#;
    let signed = |secret: &str| {
        let key =
            countersign_sdk::signature::standard_webhooks_key(&countersign_sdk::Secret::new(secret)).unwrap();
        request(
            &countersign_sdk::signature::sign_standard_webhooks(&key, "msg_1", NOW, body.as_bytes()),
            body,
        )
    };
    assert!(webhook.verify(&signed(ours), NOW).is_err());
    let verified = signed(theirs).verified_by(|request| webhook.verify(request, NOW)).unwrap();
    let Heard::Click(click) = webhook.read(&verified, NOW).unwrap() else { panic!("an answer") };
    assert_eq!(("ann", "msg_1", true), (click.who.as_str(), click.delivery.as_str(), click.approved));
}

/// A provider whose token endpoint answers this.
async fn provider(status: u16, answer: Value) -> (MockServer, Box<dyn Channel>) {
    let server = MockServer::start().await;
    let begun = json!({"auth_req_id": "r-1", "expires_in": 300, "interval": 2});
    Mock::given(method("POST"))
        .and(path("/bc-authorize"))
        .and(body_string_contains("login_hint=ann-sub"))
        .and(body_string_contains("scope=openid"))
        .and(body_string_contains("requested_expiry=600"))
        .respond_with(ResponseTemplate::new(200).set_body_json(begun))
        .mount(&server)
        .await;
    Mock::given(path("/token"))
        .and(body_string_contains("auth_req_id=r-1"))
        .and(body_string_contains("grant_type=urn%3Aopenid%3Aparams%3Agrant-type%3Aciba"))
        .respond_with(ResponseTemplate::new(status).set_body_json(answer))
        .mount(&server)
        .await;
    let sets = KeySets::default();
    sets.preset("https://keys.example", serde_json::from_value(issuer().1).unwrap());
    let settings = json!({
        "issuer": "https://op.example", "authorize_url": format!("{}/bc-authorize", server.uri()),
        "token_url": format!("{}/token", server.uri()), "jwks_url": "https://keys.example", "client_id": "us",
        "client_secret": {"env": "S"},
    });
    let channel = connect("ciba", settings, &sets, &|_| Some("s".into()));
    (server, channel)
}

async fn poll(status: u16, answer: Value) -> Polled {
    let (_server, ciba) = provider(status, answer).await;
    let question = question();
    let to = Recipient { address: "ann-sub".into(), room: false };
    let sent = ciba.ask(&Ask { question: &question, reference: "obx_0.1.ab", to: &to }, NOW).await.unwrap();
    assert_eq!(Some(Timestamp(NOW.0 + 2_000)), sent.poll_at, "the provider's interval");
    ciba.poll(&sent.message, NOW).await.unwrap()
}

#[tokio::test]
async fn a_providers_id_token_approves_only_for_who_was_asked() {
    let (key, _) = issuer();
    let claims = json!({
        "iss": "https://op.example", "aud": "us", "sub": "ann-sub", "exp": NOW.unix_seconds() + 60, "amr": ["mfa"],
    });
    let answer = |changed: Value| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        json!({"id_token": token(&key, &claims), "token_type": "Bearer"})
    };
    let Polled::Answered(click) = poll(200, answer(json!({}))).await else { panic!("an answer") };
    assert_eq!(
        ("ann-sub", true, Some("ciba+mfa")),
        (click.who.as_str(), click.approved, click.assurance.as_deref())
    );
    for wrong in [
        json!({"sub": "eve-sub"}),
        json!({"aud": "them"}),
        json!({"iss": "https://evil.example"}),
        json!({"exp": NOW.unix_seconds() - 61}),
        json!({"urn:openid:params:jwt:claim:auth_req_id": "r-2"}),
    ] {
        let polled = poll(200, answer(wrong.clone())).await;
        assert!(matches!(polled, Polled::Over(_)), "{wrong}: {polled:?}");
    }
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"one"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    assert!(matches!(poll(200, json!({"id_token": unsigned})).await, Polled::Over(_)));
}

#[tokio::test]
async fn a_provider_is_polled_at_its_own_pace_and_its_refusal_is_a_no() {
    for (error, interval) in [("authorization_pending", 2), ("slow_down", 7)] {
        let Polled::Waiting { message, at } = poll(400, json!({"error": error})).await else {
            panic!("{error}")
        };
        assert_eq!(
            (json!(interval), Timestamp(NOW.0 + interval * 1_000)),
            (message.0["interval"].clone(), at)
        );
    }
    let Polled::Answered(click) = poll(400, json!({"error": "access_denied"})).await else {
        panic!("an answer")
    };
    assert!(!click.approved);
    assert!(matches!(poll(400, json!({"error": "expired_token"})).await, Polled::Over(_)));
}
