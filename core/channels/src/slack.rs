//! Slack: a message with buttons in a channel or to a person.
//!
//! Source: Slack, "Verifying requests from Slack", "Handling user interaction", `chat.postMessage`, `chat.update`,
//! `chat.postEphemeral`. Clicks are signed over the raw form body, must be acknowledged within 3 seconds, and can come
//! from anybody who sees the message: the service looks at who it was.

use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::channel::{
    Ask, Channel, ChannelKind, ChannelTraits, Click, HearError, Heard, Message, Outcome, Sent, Told,
};
use countersign_sdk::http::Egress;
use countersign_sdk::parse::cut;
use countersign_sdk::question::Question;
use countersign_sdk::schemas::{Assurance, Severity, Timestamp};
use countersign_sdk::signature::{check_age, equal, hmac_sha256};
use countersign_sdk::{
    CallError, Caller, ConnectError, Env, Inbound, Reply, Secret, SecretRef, Site, Unverified, Verified,
    VerifyError,
};
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{accepted, text, unreached};

/// How old a click may be. Slack documents five minutes and leaves the check to the receiver.
const WINDOW: Duration = Duration::from_secs(300);
const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";
const APPROVE: &str = "approve";
const DENY: &str = "deny";
/// `plain_text` objects of sections end at 3,000 characters, those of a section's fields at 2,000.
const TEXT_CHARS: usize = 2_900;
const HEADER_CHARS: usize = 150;
/// How many requests' parameters are written out; a message has at most 50 blocks.
const SHOWN_MAX: usize = 5;
/// Errors of Slack's methods after which trying again may help.
const PASSING: [&str; 5] =
    ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"];

/// Settings of a `slack` channel. Addresses are Slack's ids: `U…` for a person, `C…` for a channel.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The app's bot token (`xoxb-…`).
    pub bot_token: SecretRef,
    /// The app's signing secret.
    pub signing_secret: SecretRef,
    /// Slack's web API.
    #[serde(default = "default_api_url")]
    pub api_url: String,
}

fn default_api_url() -> String {
    "https://slack.com/api".to_owned()
}

/// The kind.
pub struct Slack;

impl ChannelKind for Slack {
    const NAME: &'static str = "slack";
    type Settings = Settings;

    fn traits() -> ChannelTraits {
        ChannelTraits { assurance: "chat", rooms: true, changes: true }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. At https://api.slack.com/apps create an app from scratch in your workspace.\n\
             2. OAuth & Permissions, Bot Token Scopes: `chat:write`, and `im:write` for people who are asked directly. \
             Install the app; put the Bot User OAuth Token where `bot_token` of channel `{name}` points.\n\
             3. Basic Information: put the Signing Secret where `signing_secret` points.\n\
             4. Interactivity & Shortcuts: switch it on, Request URL `{url}`. Save.\n\
             5. Invite the app to each channel under `[channels.{name}.rooms]` (`/invite @app`); write the channel's \
             id (`C…`, at the end of its details), not its name.\n\
             6. Give every approver their member id (`U…`, in their profile's menu): `[approvers.NAME.channels]` \
             `{name} = \"U…\"`. Whoever is not listed may click and is refused.\n\
             7. Allow the calls: add `slack.com` to `[egress] allow_hosts`.\n",
            name = site.instance,
            url = site.channel_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError> {
        Ok(Box::new(Connected {
            api_url: settings.api_url.trim_end_matches('/').to_owned(),
            bot_token: env.secret("bot_token", &settings.bot_token)?,
            egress: env.egress.clone(),
            signing_secret: env.secret("signing_secret", &settings.signing_secret)?,
        }))
    }
}

struct Connected {
    api_url: String,
    bot_token: Secret,
    egress: Egress,
    signing_secret: Secret,
}

#[async_trait]
impl Channel for Connected {
    async fn ask(&self, ask: &Ask<'_>, _now: Timestamp) -> Result<Sent, CallError> {
        let body = json!({
            "channel": ask.to.address,
            "text": escape(&ask.question.title),
            "blocks": blocks(ask),
            "unfurl_links": false,
            "unfurl_media": false,
        });
        let answer = self.call("chat.postMessage", &body).await?;
        let (Some(channel), Some(ts)) = (text(&answer, "/channel"), text(&answer, "/ts")) else {
            return Err(CallError::Permanent("the answer names no message".into()));
        };
        Ok(Sent { message: Message(json!({"channel": channel, "ts": ts})), poll_at: None })
    }

    async fn update(&self, message: &Message, ask: &Ask<'_>, _now: Timestamp) -> Result<(), CallError> {
        self.change(message, &ask.question.title, blocks(ask)).await
    }

    async fn replace(&self, message: &Message, outcome: &Outcome, _now: Timestamp) -> Result<(), CallError> {
        let lines = outcome.lines.iter().take(SHOWN_MAX).map(|line| plain(line));
        let blocks = std::iter::once(header(&outcome.title)).chain(lines).collect();
        self.change(message, &outcome.title, blocks).await
    }

    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let time = request.require_header(TIMESTAMP)?;
        let given = request.require_header(SIGNATURE)?;
        let given = given.strip_prefix("v0=").ok_or(VerifyError::MalformedHeader(SIGNATURE))?;
        let given = hex::decode(given).map_err(|_| VerifyError::MalformedHeader(SIGNATURE))?;
        let seconds: i64 = time.parse().map_err(|_| VerifyError::MalformedHeader(TIMESTAMP))?;
        let key = self.signing_secret.expose().as_bytes();
        let want = hmac_sha256(key, &[b"v0:", time.as_bytes(), b":", &request.body]);
        if !equal(&given, &want) {
            return Err(VerifyError::Mismatch);
        }
        check_age(Timestamp::from_unix_seconds(seconds), now, WINDOW)?;
        let assurance = Assurance::VendorSigned;
        Ok(Caller { assurance, verified_by: "slack-signature", ..Caller::default() })
    }

    fn read(&self, request: &Inbound<Verified>, _now: Timestamp) -> Result<Heard, HearError> {
        let payload = form_urlencoded::parse(&request.body).find(|(name, _)| name == "payload");
        let (_, payload) = payload.ok_or_else(|| HearError("the form has no `payload`".into()))?;
        let payload: Value =
            serde_json::from_str(&payload).map_err(|_| HearError("`payload` is not JSON".into()))?;
        let action = payload.pointer("/actions/0").filter(|_| payload["type"] == "block_actions");
        let approved = match action.and_then(|action| text(action, "/action_id")) {
            Some(APPROVE) => true,
            Some(DENY) => false,
            // Other interactions of the app are acknowledged, or Slack shows the person an error.
            _ => return Ok(Heard::Other(acknowledged())),
        };
        let Some(action) = action else { return Ok(Heard::Other(acknowledged())) };
        let need = |value: &Value, pointer: &str| {
            let found = text(value, pointer).map(str::to_owned);
            found.ok_or_else(|| HearError(format!("`{pointer}` is missing")))
        };
        let who = need(&payload, "/user/id")?;
        let channel = text(&payload, "/container/channel_id").or_else(|| text(&payload, "/channel/id"));
        let delivery = format!("{who} {} {}", need(action, "/action_id")?, need(action, "/action_ts")?);
        Ok(Heard::Click(Click {
            approved,
            back: json!({"channel": channel, "user": who}),
            delivery,
            reference: need(action, "/value")?,
            who,
            ..Click::default()
        }))
    }

    fn answer(&self, _heard: &Heard, _told: &Told<'_>, _now: Timestamp) -> Reply {
        acknowledged()
    }

    async fn refuse(&self, click: &Click, why: &str) -> Result<(), CallError> {
        let mut body = click.back.clone();
        body["text"] = json!(escape(&format!("Your answer was not taken: {why}")));
        self.call("chat.postEphemeral", &body).await.map(|_| ())
    }
}

impl Connected {
    async fn change(&self, message: &Message, title: &str, blocks: Vec<Value>) -> Result<(), CallError> {
        let mut body = message.0.clone();
        body["text"] = json!(escape(title));
        body["blocks"] = json!(blocks);
        match self.call("chat.update", &body).await {
            // Whoever deleted the message has replaced it well enough.
            Err(CallError::Permanent(problem)) if problem.ends_with("message_not_found") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Slack answers 200 also when it refuses, and says so in `ok`.
    async fn call(&self, method: &str, body: &Value) -> Result<Value, CallError> {
        let url = format!("{}/{method}", self.api_url);
        let bearer = format!("Bearer {}", self.bot_token.expose());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "application/json"),
        ];
        let sent = self.egress.call(Method::POST, &url, &headers, body.to_string().into_bytes()).await;
        let answer = accepted(&sent.map_err(unreached)?)?;
        if answer["ok"] == true {
            return Ok(answer);
        }
        let error = cut(answer["error"].as_str().unwrap_or("no reason given"), 100);
        let problem = format!("{method}: {error}");
        Err(if PASSING.contains(&error) { CallError::Retry(problem) } else { CallError::Permanent(problem) })
    }
}

/// 200 without a body: with one, Slack would show it.
fn acknowledged() -> Reply {
    Reply { body: Vec::new(), content_type: "text/plain".into(), status: 200 }
}

/// Text from outside stands in `plain_text` and `rich_text` only: nothing in it is a mention, a link or formatting.
fn blocks(ask: &Ask<'_>) -> Vec<Value> {
    let question = ask.question;
    let mut blocks = vec![header(&question.title)];
    if question.count > 1 {
        blocks.push(plain(&format!(
            "{} alike requests; one answer covers these, and none later.",
            question.count
        )));
    }
    blocks.extend(question.facts.chunks(5).map(fields));
    for parameters in question.parameters.iter().take(SHOWN_MAX) {
        blocks.push(preformatted(cut(parameters, TEXT_CHARS)));
    }
    if question.parameters.len() > SHOWN_MAX {
        blocks.push(plain("The arguments of the others are in `countersign approvals show`."));
    }
    if !question.prior.is_empty() {
        blocks.push(preformatted(cut(&question.prior.join("\n"), TEXT_CHARS)));
    }
    blocks.push(plain(&format!("Without an answer by {} it is denied.", question.expires_at)));
    blocks.push(json!({
        "type": "actions",
        "block_id": "countersign",
        "elements": [
            button(APPROVE, "Approve", "primary", ask.reference, question),
            button(DENY, "Deny", "danger", ask.reference, question),
        ],
    }));
    blocks
}

fn header(title: &str) -> Value {
    json!({"type": "header", "text": {"type": "plain_text", "text": cut(title, HEADER_CHARS), "emoji": false}})
}

fn plain(line: &str) -> Value {
    json!({"type": "section", "text": {"type": "plain_text", "text": cut(line, TEXT_CHARS), "emoji": false}})
}

/// A section has at most ten fields: five labels and five texts.
fn fields(facts: &[countersign_sdk::question::Fact]) -> Value {
    let pair = |fact: &countersign_sdk::question::Fact| {
        let text = if fact.text.is_empty() { "none" } else { &fact.text };
        [
            json!({"type": "mrkdwn", "text": format!("*{}*", fact.label)}),
            json!({"type": "plain_text", "text": text, "emoji": false}),
        ]
    };
    json!({"type": "section", "fields": facts.iter().flat_map(pair).collect::<Vec<_>>()})
}

fn preformatted(text: &str) -> Value {
    let element = json!({"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text}]});
    json!({"type": "rich_text", "elements": [element]})
}

fn button(id: &str, label: &str, style: &str, reference: &str, question: &Question) -> Value {
    let many = if question.count > 1 { format!(" all {}", question.count) } else { String::new() };
    let mut button = json!({
        "type": "button",
        "action_id": id,
        "style": style,
        "value": reference,
        "text": {"type": "plain_text", "text": format!("{label}{many}"), "emoji": false},
    });
    // Only what is grave asks twice: a question that always comes is one that nobody reads.
    if id == APPROVE && (question.severity >= Severity::High || question.count > 1) {
        button["confirm"] = json!({
            "title": {"type": "plain_text", "text": format!("{label}{many}?")},
            "text": {"type": "plain_text", "text": cut(&question.title, 300)},
            "confirm": {"type": "plain_text", "text": label},
            "deny": {"type": "plain_text", "text": "Back"},
        });
    }
    button
}

/// The three characters that mean something in Slack's own markup; `text` has no plain form.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
