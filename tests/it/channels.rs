//! A question, through a channel, to an answer: in this process, with the channel's vendor on loopback.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_schemas::Timestamp;
use countersign_sdk::Inbound;
use countersign_sdk::signature::hmac_sha256;
use countersign_service::export::statement_of;
use countersign_service::notify::HearingError;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use url::form_urlencoded;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{NOON, Plan, Site, action};

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
const POLICIES: &str = r#"
    @id("known") @reason("fine") permit (principal, action, resource);
    @id("pay") @decision("step_up") @approvers("group:finance") @timeout("PT10M") @reason("payments are approved")
    forbid (principal, action == Action::"pay", resource);
"#;

/// A Slack that takes every message.
async fn slack() -> MockServer {
    let server = MockServer::start().await;
    let message = json!({"ok": true, "channel": "C0FIN", "ts": "1.5"});
    for (method, answer) in [
        ("/chat.postMessage", message.clone()),
        ("/chat.update", message),
        ("/chat.postEphemeral", json!({"ok": true})),
    ] {
        let answer = ResponseTemplate::new(200).set_body_json(answer);
        Mock::given(path(method)).respond_with(answer).mount(&server).await;
    }
    server
}

/// What was posted to a method, oldest first.
async fn posted(server: &MockServer, method: &str) -> Vec<Value> {
    let requests = server.received_requests().await.unwrap();
    let of_method = requests.iter().filter(|request| request.url.path() == method);
    of_method.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn approvers() -> Value {
    json!({
        "ann": {"groups": ["finance"], "channels": {"slack": "U0ANN"}},
        "bob": {"groups": ["finance"], "channels": {"slack": "U0BOB"}, "identities": ["bob@acme.example"]},
        "eve": {"groups": ["guests"], "channels": {"slack": "U0EVE"}},
    })
}

async fn site(server: &MockServer, secrets: &Path) -> Site {
    std::fs::write(secrets.join("token"), "xoxb-1").unwrap();
    std::fs::write(secrets.join("signing"), SECRET).unwrap();
    let channel = json!({
        "api_url": server.uri(), "bot_token": {"file": secrets.join("token")},
        "signing_secret": {"file": secrets.join("signing")}, "rooms": {"finance": "C0FIN"},
    });
    let hosts = json!({"allow_hosts": [server.address().to_string()]});
    let config = [("channels", json!({"slack": channel})), ("approvers", approvers()), ("egress", hosts)];
    Site::with(Plan { config: config.into(), policies: Some(POLICIES), on_disk: true, ..Plan::default() })
        .await
}

/// What the service's task does in its short intervals.
async fn tick(site: &Site) {
    let (notifier, pipeline) = (site.service.notifier(), site.service.pipeline());
    notifier.reconcile(pipeline).await.unwrap();
    while notifier.work(pipeline, site.service.routes()).await {}
}

fn pay(id: &str, amount: u32) -> Value {
    action(id, "s", "pay", json!({"amount": amount, "token": "ghp_16C7e42F292c6912E7710c838347Ae178B4a"}))
}

fn click(user: &str, verb: &str, value: &str, at: Timestamp, serial: u32) -> Inbound {
    let payload = json!({
        "type": "block_actions", "user": {"id": user}, "channel": {"id": "C0FIN"},
        "container": {"message_ts": "1.5", "channel_id": "C0FIN"},
        "actions": [{"action_id": verb, "value": value, "action_ts": format!("{}.{serial:06}", at.unix_seconds())}],
    });
    let body =
        form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    let time = at.unix_seconds().to_string();
    let tag = hmac_sha256(SECRET.as_bytes(), &[b"v0:", time.as_bytes(), b":", body.as_bytes()]);
    let mut headers = HeaderMap::new();
    headers.insert("x-slack-request-timestamp", HeaderValue::from_str(&time).unwrap());
    headers.insert("x-slack-signature", HeaderValue::from_str(&format!("v0={}", hex::encode(tag))).unwrap());
    Inbound::new(String::new(), String::new(), headers, Bytes::from(body), at)
}

async fn hear(site: &Site, channel: &str, request: Inbound) -> Result<(u16, String), HearingError> {
    let (pipeline, routes) = (site.service.pipeline().clone(), site.service.routes().clone());
    let reply = site.service.notifier().clone().hear(pipeline, routes, channel, request).await?;
    Ok((reply.status, String::from_utf8(reply.body).unwrap()))
}

fn value_of(message: &Value) -> String {
    let actions = message["blocks"].as_array().unwrap().last().unwrap();
    actions["elements"][0]["value"].as_str().unwrap().to_owned()
}

async fn is_open(site: &Site) -> usize {
    site.service.pipeline().store.approvals().await.unwrap().len()
}

#[tokio::test]
async fn a_question_goes_to_its_room_and_the_click_of_an_approver_settles_it() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    assert_eq!("STEP_UP", site.ask("1", pay("1", 10)).await["decision"]);
    tick(&site).await;
    let messages = posted(&server, "/chat.postMessage").await;
    assert_eq!(1, messages.len(), "the room stands for its members");
    let text = messages[0].to_string();
    assert!(
        text.contains("payments are approved") && text.contains("u-bob") | text.contains("bob@acme.example")
    );
    assert!(!text.contains("ghp_16C7"), "no secret is shown");
    let value = value_of(&messages[0]);
    assert_eq!(
        (200, String::new()),
        hear(&site, "slack", click("U0ANN", "approve", &value, NOON, 1)).await.unwrap()
    );
    assert_eq!(0, is_open(&site).await);
    tick(&site).await;
    let updates = posted(&server, "/chat.update").await;
    assert!(updates[0].to_string().contains("Approved by ann through slack"), "{updates:?}");
    assert!(!updates[0].to_string().contains("\"button\""));
    assert!(site.service.pipeline().store.outbox().await.unwrap().is_empty(), "nothing is owed");
    let receipts = site.receipts().await;
    let statement = statement_of(&receipts.last().unwrap().bytes);
    assert_eq!(json!("slack"), statement["predicate"]["approval"]["channel"]);
    assert_eq!("ALLOW", site.ask("2", pay("2", 10)).await["decision"], "the grant");
    assert!(site.audit().await.findings.is_empty());
}

#[tokio::test]
async fn who_may_not_answer_is_told_so_alone_and_nothing_changes() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let value = value_of(&posted(&server, "/chat.postMessage").await[0]);
    for (serial, user) in ["U0EVE", "U0NOBODY", "U0BOB"].into_iter().enumerate() {
        let request = click(user, "approve", &value, NOON, u32::try_from(serial).unwrap());
        assert_eq!(200, hear(&site, "slack", request).await.unwrap().0);
    }
    let forged = hear(&site, "slack", click("U0ANN", "approve", "obx_0.1.x", NOON, 9)).await;
    assert_eq!(200, forged.unwrap().0, "Slack shows its own error for anything else");
    let until = Instant::now() + Duration::from_secs(5);
    while posted(&server, "/chat.postEphemeral").await.len() < 4 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = posted(&server, "/chat.postEphemeral").await;
    let users: std::collections::BTreeSet<_> = told.iter().map(|one| one["user"].as_str().unwrap()).collect();
    assert_eq!(["U0ANN", "U0BOB", "U0EVE", "U0NOBODY"], users.into_iter().collect::<Vec<_>>().as_slice());
    assert_eq!(1, is_open(&site).await);
}

#[tokio::test]
async fn a_stale_or_forged_click_is_not_heard_and_a_repeated_one_changes_nothing() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let value = value_of(&posted(&server, "/chat.postMessage").await[0]);
    let old = click("U0ANN", "approve", &value, Timestamp(NOON.0 - 301_000), 1);
    assert!(matches!(hear(&site, "slack", old).await, Err(HearingError::Unverified(_))));
    let mut forged = click("U0ANN", "approve", &value, NOON, 1);
    forged.body = Bytes::from([&forged.body[..], b"&x=1"].concat());
    assert!(matches!(hear(&site, "slack", forged).await, Err(HearingError::Unverified(_))));
    assert_eq!(1, is_open(&site).await);
    for _ in 0..2 {
        let denied = hear(&site, "slack", click("U0ANN", "deny", &value, NOON, 1)).await.unwrap();
        assert_eq!((200, String::new()), denied);
    }
    assert_eq!(0, is_open(&site).await);
    assert!(posted(&server, "/chat.postEphemeral").await.is_empty(), "a double click is no mistake");
}

#[tokio::test]
async fn alike_questions_share_a_message_and_an_answer_covers_those_that_were_shown() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let one = value_of(&posted(&server, "/chat.postMessage").await[0]);
    site.ask("2", pay("2", 20)).await;
    tick(&site).await;
    assert_eq!(1, posted(&server, "/chat.postMessage").await.len());
    let update = posted(&server, "/chat.update").await.pop().unwrap();
    assert!(update.to_string().contains("2 alike requests"));
    // Clicked before the message had changed: the second payment was not seen.
    hear(&site, "slack", click("U0ANN", "approve", &one, NOON, 1)).await.unwrap();
    assert_eq!(1, is_open(&site).await);
    hear(&site, "slack", click("U0ANN", "approve", &value_of(&update), NOON, 2)).await.unwrap();
    assert_eq!(0, is_open(&site).await);
}

#[tokio::test]
async fn what_was_shown_is_replaced_after_a_restart_and_when_nobody_answers() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let site = site.restarted().await;
    tick(&site).await;
    assert_eq!(1, posted(&server, "/chat.postMessage").await.len(), "it is not asked again");
    site.clock.set(Timestamp(NOON.0 + 601_000));
    site.service.pipeline().expire_approvals(site.service.routes()).await;
    tick(&site).await;
    let update = posted(&server, "/chat.update").await.pop().unwrap();
    assert!(update.to_string().contains("Nobody answered in time"), "{update}");
}

#[tokio::test]
async fn an_acknowledgement_is_there_in_time_also_when_hundreds_click_at_once() {
    let (server, secrets) = (slack().await, tempfile::tempdir().unwrap());
    let site = site(&server, secrets.path()).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let value = value_of(&posted(&server, "/chat.postMessage").await[0]);
    let clicks = (0..300).map(|serial| {
        let (site, value) = (&site, &value);
        async move {
            let begun = Instant::now();
            let request = click("U0ANN", "approve", value, NOON, serial);
            assert_eq!(200, hear(site, "slack", request).await.unwrap().0);
            begun.elapsed()
        }
    });
    let slowest = futures::future::join_all(clicks).await.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(0, is_open(&site).await);
}

/// An SMTP server that takes one mail and hands it over (RFC 5321, as much as a client without extensions needs).
async fn mailbox(listener: TcpListener) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test\r\n").await.unwrap();
    let (mut mail, mut in_data) = (String::new(), false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return mail;
        }
        let answer: &[u8] = match line.trim_end() {
            "." if in_data => {
                stream.write_all(b"250 taken\r\n").await.unwrap();
                return mail;
            }
            _ if in_data => {
                mail.push_str(&line);
                continue;
            }
            "DATA" => {
                in_data = true;
                b"354 go on\r\n"
            }
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn a_mailed_link_shows_the_question_and_only_its_form_answers_it_once() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("link"), "k".repeat(40)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mail = tokio::spawn(mailbox(listener));
    let channel = json!({
        "host": "127.0.0.1", "port": port, "tls": "none", "from": "Countersign <c@acme.example>",
        "link_secret": {"file": secrets.path().join("link")},
    });
    let config = [
        ("channels", json!({"email": channel})),
        ("approvers", json!({"ann": {"groups": ["finance"], "channels": {"email": "ann@acme.example"}}})),
        ("egress", json!({"allow_hosts": ["127.0.0.1"]})),
    ];
    let site = Site::with(Plan { config: config.into(), policies: Some(POLICIES), ..Plan::default() }).await;
    site.ask("1", pay("1", 10)).await;
    tick(&site).await;
    let mail = mail.await.unwrap().replace("=\r\n", "").replace("=3D", "=");
    let token = mail.split("/channels/email/").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let get = |path: &str| Inbound::new(path.into(), String::new(), HeaderMap::new(), Bytes::new(), NOON);
    let post =
        |form: String| Inbound::new(token.clone(), String::new(), HeaderMap::new(), Bytes::from(form), NOON);
    for _ in 0..2 {
        let (status, page) = hear(&site, "email", get(&token)).await.unwrap();
        assert!(
            status == 200 && page.contains("payments are approved") && !page.contains("<script"),
            "{page}"
        );
    }
    assert_eq!(1, is_open(&site).await, "a link that is followed decides nothing");
    let (_, page) = hear(&site, "email", get(&token)).await.unwrap();
    let hidden = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = format!("token={hidden}&answer=approve&comment=fine");
    assert!(hear(&site, "email", post(form.replace(&hidden[..9], "AAAAAAAAA"))).await.is_err(), "forged");
    let (status, page) = hear(&site, "email", post(form.clone())).await.unwrap();
    assert!(status == 200 && page.contains("Approved"), "{page}");
    assert_eq!(0, is_open(&site).await);
    for used in [post(form), get(&token)] {
        let (status, page) = hear(&site, "email", used).await.unwrap();
        assert!(status == 409 && page.contains("not open any more"), "{page}");
    }
}
