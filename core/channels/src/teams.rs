//! Microsoft Teams: a bot's adaptive card with `Action.Execute` buttons (universal actions).
//!
//! Source: Bot Framework REST API reference ("Connector authentication", "Send and receive activities") and the
//! schemas of botframework-schema 4.23. The caller proves itself with a token of Bot Framework's; the body is not
//! signed, so the token's `serviceUrl` must be the activity's, and answers go to that URL only.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::channel::{
    Ask, Channel, ChannelKind, ChannelTraits, Click, HearError, Heard, Message, Outcome, Sent, Told,
};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySet;
use countersign_sdk::parse::cut;
use countersign_sdk::schemas::{Assurance, Timestamp};
use countersign_sdk::signature::bearer;
use countersign_sdk::{
    CallError, Caller, ConnectError, Env, Inbound, Reply, Secret, SecretRef, Site, Unverified, Verified,
    VerifyError,
};
use http::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::info;
use url::form_urlencoded;

use crate::{accepted, text, unreached};

/// Who signs what Teams sends.
const ISSUER: &str = "https://api.botframework.com";
/// How far Bot Framework's clock may differ from ours, as its documentation says.
const LEEWAY_S: i64 = 300;
/// A token is asked for again this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(120);
const CARD: &str = "application/vnd.microsoft.card.adaptive";
/// A card may have about 28 KB.
const SHOWN_MAX: usize = 4;

/// Settings of a `teams` channel. Addresses are conversation ids; approvers are known by their Entra object id.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The bot's application id.
    pub app_id: String,
    /// The bot's client secret.
    pub app_secret: SecretRef,
    /// The tenant of a single-tenant bot.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Where Teams takes a bot's messages. Requests that name another one are refused.
    #[serde(default = "default_service_url")]
    pub service_url: String,
    /// Who gives the bot its tokens.
    #[serde(default = "default_login_url")]
    pub login_url: String,
    /// The keys of Bot Framework.
    #[serde(default = "default_jwks_url")]
    pub jwks_url: String,
}

fn default_tenant() -> String {
    "botframework.com".to_owned()
}

fn default_service_url() -> String {
    "https://smba.trafficmanager.net/teams".to_owned()
}

fn default_login_url() -> String {
    "https://login.microsoftonline.com".to_owned()
}

fn default_jwks_url() -> String {
    "https://login.botframework.com/v1/.well-known/keys".to_owned()
}

/// The kind.
pub struct Teams;

impl ChannelKind for Teams {
    const NAME: &'static str = "teams";
    type Settings = Settings;

    fn traits() -> ChannelTraits {
        ChannelTraits { assurance: "chat", rooms: true, changes: true }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. In the Azure portal create an Azure Bot (single tenant). Put its Microsoft App ID under `app_id`, the \
             tenant's id under `tenant`, and a client secret of the app where `app_secret` of channel `{name}` \
             points.\n\
             2. Configuration, Messaging endpoint: `{url}`. Channels: add Microsoft Teams.\n\
             3. In the Teams Developer Portal make an app with this bot, scopes Personal and Team; publish it to the \
             organisation and add it to the team (and to each approver who is to be asked directly).\n\
             4. When it is added, Countersign logs the conversation's id. Put it under `[channels.{name}.rooms]`.\n\
             5. Give every approver their Entra object id: `[approvers.NAME.channels]` `{name} = \"…\"`.\n\
             6. Allow the calls: add `login.botframework.com`, `login.microsoftonline.com` and \
             `smba.trafficmanager.net` to `[egress] allow_hosts`.\n",
            name = site.instance,
            url = site.channel_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError> {
        Ok(Box::new(Connected {
            app_secret: env.secret("app_secret", &settings.app_secret)?,
            egress: env.egress.clone(),
            keys: env.keys.at(&settings.jwks_url),
            service_url: settings.service_url.trim_end_matches('/').to_owned(),
            token: Mutex::default(),
            settings,
        }))
    }
}

struct Connected {
    app_secret: Secret,
    egress: Egress,
    keys: KeySet,
    service_url: String,
    settings: Settings,
    /// The bot's own token and when it is to be renewed.
    token: Mutex<Option<(Secret, Timestamp)>>,
}

#[async_trait]
impl Channel for Connected {
    async fn ask(&self, ask: &Ask<'_>, now: Timestamp) -> Result<Sent, CallError> {
        let conversation = self.conversation(ask, now).await?;
        let path = self.activities(&conversation, None);
        let answer = self.call(Method::POST, &path, &activity(question(ask)), now).await?;
        let id =
            text(&answer, "/id").ok_or_else(|| CallError::Permanent("the answer names no message".into()))?;
        let message = Message(json!({"conversation": conversation, "activity": id}));
        Ok(Sent { message, poll_at: None })
    }

    async fn update(&self, message: &Message, ask: &Ask<'_>, now: Timestamp) -> Result<(), CallError> {
        self.change(message, question(ask), now).await
    }

    async fn replace(&self, message: &Message, outcome: &Outcome, now: Timestamp) -> Result<(), CallError> {
        self.change(message, closed(&outcome.title, &outcome.lines), now).await
    }

    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let claims = self.claims(bearer(request)?, now)?;
        let activity: Value = serde_json::from_slice(&request.body)
            .map_err(|_| VerifyError::Token("it is of no activity".into()))?;
        let named = text(&activity, "/serviceUrl").unwrap_or_default().trim_end_matches('/');
        let signed = claims.get("serviceurl").or_else(|| claims.get("serviceUrl")).and_then(Value::as_str);
        if signed.map(|url| url.trim_end_matches('/')) != Some(named) {
            return Err(VerifyError::Token("its `serviceUrl` is not the activity's".into()));
        }
        if text(&activity, "/channelId") != Some("msteams") {
            return Err(VerifyError::NotAllowed("the activity is not of Teams".into()));
        }
        let assurance = Assurance::OauthVerified;
        Ok(Caller { assurance, claims, verified_by: "botframework-jwt", ..Caller::default() })
    }

    fn read(&self, request: &Inbound<Verified>, _now: Timestamp) -> Result<Heard, HearError> {
        let activity: Value =
            serde_json::from_slice(&request.body).map_err(|_| HearError("the body is not JSON".into()))?;
        let need = |pointer: &str| {
            let found = text(&activity, pointer).map(str::to_owned);
            found.ok_or_else(|| HearError(format!("`{pointer}` is missing")))
        };
        if activity["type"] != "invoke" || activity["name"] != "adaptiveCard/action" {
            if activity["type"] == "conversationUpdate" {
                let conversation = cut(text(&activity, "/conversation/id").unwrap_or_default(), 300);
                info!(channel.conversation = %conversation.escape_debug(), "the bot was added to a conversation");
            }
            return Ok(Heard::Other(Reply::json(&json!({}))));
        }
        let approved = match need("/value/action/verb")?.as_str() {
            "approve" => true,
            "deny" => false,
            _ => return Err(HearError("the card's action is none of ours".into())),
        };
        Ok(Heard::Click(Click {
            approved,
            comment: text(&activity, "/value/action/data/comment")
                .filter(|comment| !comment.trim().is_empty())
                .map(|comment| cut(comment, 1_000).to_owned()),
            delivery: need("/id")?,
            reference: need("/value/action/data/reference")?,
            who: need("/from/aadObjectId")?,
            ..Click::default()
        }))
    }

    /// The person who clicked sees the answer in place of the card; everybody else sees `replace`.
    fn answer(&self, _heard: &Heard, told: &Told<'_>, _now: Timestamp) -> Reply {
        let message = match told {
            Told::Settled { approved: true } => "Approved. Your answer is on record.".to_owned(),
            Told::Settled { approved: false } => "Denied. Your answer is on record.".to_owned(),
            Told::Counted { approved, quorum } => {
                format!("Counted: {approved} of {quorum} approvals so far.")
            }
            Told::Taken | Told::Asked(_) => "Your answer is being put on record.".to_owned(),
            Told::Refused(why) => {
                return Reply::json(&json!({
                    "statusCode": 403,
                    "type": "application/vnd.microsoft.error",
                    "value": {"code": "Forbidden", "message": format!("Your answer was not taken: {why}")},
                }));
            }
        };
        Reply::json(&json!({
            "statusCode": 200,
            "type": "application/vnd.microsoft.activity.message",
            "value": message,
        }))
    }
}

impl Connected {
    fn claims(&self, token: &str, now: Timestamp) -> Result<Map<String, Value>, VerifyError> {
        let refused = |error: jsonwebtoken::errors::Error| VerifyError::Token(error.to_string());
        let kid = jsonwebtoken::decode_header(token).map_err(refused)?.kid.unwrap_or_default();
        let key = self.keys.find(&kid).ok_or(VerifyError::NoKey(kid))?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&self.settings.app_id]);
        validation.set_issuer(&[ISSUER]);
        // Times are compared below, with the time of this request.
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&key).map_err(refused)?;
        let claims: Map<String, Value> =
            jsonwebtoken::decode(token, &key, &validation).map_err(refused)?.claims;
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        let seconds = now.unix_seconds();
        if time("exp").is_none_or(|exp| exp + LEEWAY_S <= seconds) {
            return Err(VerifyError::Token("it has ended".into()));
        }
        if time("nbf").is_some_and(|nbf| nbf - LEEWAY_S > seconds) {
            return Err(VerifyError::Token("it is not valid yet".into()));
        }
        Ok(claims)
    }

    fn activities(&self, conversation: &str, activity: Option<&str>) -> String {
        let escape = |part: &str| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
        let path = format!("{}/v3/conversations/{}/activities", self.service_url, escape(conversation));
        activity.map_or(path.clone(), |id| format!("{path}/{}", escape(id)))
    }

    /// A room is a conversation already; with a person one is begun (or found again) by their object id.
    async fn conversation(&self, ask: &Ask<'_>, now: Timestamp) -> Result<String, CallError> {
        if ask.to.room {
            return Ok(ask.to.address.clone());
        }
        let body = json!({
            "bot": {"id": self.settings.app_id},
            "members": [{"id": ask.to.address}],
            "channelData": {"tenant": {"id": self.settings.tenant}},
            "isGroup": false,
        });
        let url = format!("{}/v3/conversations", self.service_url);
        let answer = self.call(Method::POST, &url, &body, now).await?;
        let id = text(&answer, "/id").map(str::to_owned);
        id.ok_or_else(|| CallError::Permanent("the answer names no conversation".into()))
    }

    async fn change(&self, message: &Message, card: Value, now: Timestamp) -> Result<(), CallError> {
        let (Some(conversation), Some(id)) =
            (text(&message.0, "/conversation"), text(&message.0, "/activity"))
        else {
            return Err(CallError::Permanent("the message is not known".into()));
        };
        let path = self.activities(conversation, Some(id));
        let mut activity = activity(card);
        activity["id"] = json!(id);
        self.call(Method::PUT, &path, &activity, now).await.map(|_| ())
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, CallError> {
        let bearer = format!("Bearer {}", self.own_token(now).await?.expose());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = self.egress.call(method, url, &headers, body.to_string().into_bytes()).await;
        accepted(&answer.map_err(unreached)?)
    }

    /// The bot's token (client credentials, RFC 6749 section 4.4), kept until shortly before it ends.
    async fn own_token(&self, now: Timestamp) -> Result<Secret, CallError> {
        let kept = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some((token, _)) = kept.filter(|(_, until)| *until > now) {
            return Ok(token);
        }
        let url = format!("{}/{}/oauth2/v2.0/token", self.settings.login_url, self.settings.tenant);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.settings.app_id)
            .append_pair("client_secret", self.app_secret.expose())
            .append_pair("scope", "https://api.botframework.com/.default")
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.egress.call(Method::POST, &url, &headers, form.into_bytes()).await;
        let answer = accepted(&answer.map_err(unreached)?)?;
        let token = text(&answer, "/access_token").map(Secret::new);
        let token = token.ok_or_else(|| CallError::Retry("the token endpoint gave no token".into()))?;
        let life =
            Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(0)).saturating_sub(RENEW_BEFORE);
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((token.clone(), now.after(life)));
        Ok(token)
    }
}

fn activity(card: Value) -> Value {
    json!({"type": "message", "attachments": [{"contentType": CARD, "content": card}]})
}

/// Text from outside stands in `TextRun`s only: unlike a `TextBlock`, they have no Markdown.
fn question(ask: &Ask<'_>) -> Value {
    let question = ask.question;
    let mut body = vec![heading(&question.title)];
    if question.count > 1 {
        body.push(run(&format!(
            "{} alike requests; one answer covers these, and none later.",
            question.count
        )));
    }
    for fact in &question.facts {
        body.push(json!({"type": "RichTextBlock", "inlines": [
            {"type": "TextRun", "text": format!("{}: ", fact.label), "weight": "Bolder"},
            {"type": "TextRun", "text": fact.text},
        ]}));
    }
    body.extend(question.parameters.iter().take(SHOWN_MAX).map(|parameters| fixed(parameters)));
    if !question.prior.is_empty() {
        body.push(fixed(&question.prior.join("\n")));
    }
    body.push(run(&format!("Without an answer by {} it is denied.", question.expires_at)));
    body.push(json!({"type": "Input.Text", "id": "comment", "placeholder": "Comment", "maxLength": 1000}));
    let button = |title: &str, verb: &str, style: &str| {
        json!({"type": "Action.Execute", "title": title, "verb": verb, "style": style,
               "data": {"reference": ask.reference}})
    };
    let mut card = card(body);
    card["actions"] =
        json!([button("Approve", "approve", "positive"), button("Deny", "deny", "destructive")]);
    card
}

fn closed(title: &str, lines: &[String]) -> Value {
    card(std::iter::once(heading(title)).chain(lines.iter().take(SHOWN_MAX).map(|line| run(line))).collect())
}

fn card(body: Vec<Value>) -> Value {
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    })
}

fn heading(text: &str) -> Value {
    json!({"type": "RichTextBlock", "inlines": [
        {"type": "TextRun", "text": text, "weight": "Bolder", "size": "Medium"},
    ]})
}

fn run(text: &str) -> Value {
    json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]})
}

fn fixed(text: &str) -> Value {
    json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, "fontType": "Monospace"}]})
}
