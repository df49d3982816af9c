//! OpenID Connect Client-Initiated Backchannel Authentication (CIBA Core 1.0), poll mode, ping accepted: the approver's
//! own identity provider asks them on their device, and its ID token says who approved.
//!
//! A binding message is short, so the approver sees the title and the ticket there and everything else in the console.

use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::channel::{
    Ask, Channel, ChannelKind, ChannelTraits, Click, HearError, Heard, Message, Outcome, Polled, Sent, Told,
};
use countersign_sdk::http::{Answer, Egress};
use countersign_sdk::jwks::KeySet;
use countersign_sdk::parse::cut;
use countersign_sdk::schemas::{Assurance, Timestamp};
use countersign_sdk::signature::{Bearers, bearer};
use countersign_sdk::{
    CallError, Caller, ConnectError, Env, Inbound, Reply, Secret, SecretRef, Site, Unverified, Verified,
    VerifyError,
};
use http::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::{accepted, text, unreached};

const GRANT: &str = "urn:openid:params:grant-type:ciba";
/// CIBA Core 1.0 section 7.3: without an `interval`, five seconds; section 11: `slow_down` adds five.
const INTERVAL_S: u64 = 5;
const SLOW_DOWN_S: u64 = 5;
const INTERVAL_MAX_S: u64 = 300;
const LEEWAY_S: i64 = 60;
/// Providers document between 64 and 256 characters.
const BINDING_CHARS: usize = 64;

/// Settings of a `ciba` channel. Addresses are the `sub` that the provider gives the approver.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The provider, exactly as in its ID tokens' `iss`.
    pub issuer: String,
    /// The backchannel authentication endpoint.
    pub authorize_url: String,
    /// The token endpoint.
    pub token_url: String,
    /// The provider's keys.
    pub jwks_url: String,
    /// Our client id.
    pub client_id: String,
    /// Our client secret.
    pub client_secret: SecretRef,
    /// How approvers are named to the provider: `sub` sends their address, `iss_sub` the JSON form that Auth0 wants.
    #[serde(default)]
    pub login_hint: LoginHint,
    /// Values of `acr` that count as strong, in order of the provider's own; asked for, and receipted as `ciba+mfa`.
    #[serde(default)]
    pub acr_values: Vec<String>,
    /// For ping mode: what the provider sends as bearer token to our URL.
    #[serde(default)]
    pub notification_token: Option<SecretRef>,
}

/// How approvers are named to the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginHint {
    /// Their address as it stands.
    #[default]
    Sub,
    /// `{"format":"iss_sub","iss":…,"sub":…}`.
    IssSub,
}

/// The kind.
pub struct Ciba;

impl ChannelKind for Ciba {
    const NAME: &'static str = "ciba";
    type Settings = Settings;

    fn traits() -> ChannelTraits {
        ChannelTraits { assurance: "ciba", rooms: false, changes: false }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. At your identity provider register a confidential client with the grant `{GRANT}`, token delivery \
             mode poll (or ping, with notification endpoint `{url}`).\n\
             2. Put its id under `client_id`, its secret where `client_secret` of channel `{name}` points, and the \
             provider's `issuer`, `backchannel_authentication_endpoint`, `token_endpoint` and `jwks_uri` (all in its \
             `/.well-known/openid-configuration`) under `issuer`, `authorize_url`, `token_url` and `jwks_url`.\n\
             3. Give every approver their `sub`: `[approvers.NAME.channels]` `{name} = \"…\"`. An ID token of anybody \
             else is refused.\n\
             4. Auth0: `login_hint = \"iss_sub\"`. Okta: poll only, and a custom authenticator app.\n\
             5. Allow the calls: add the provider's host to `[egress] allow_hosts`.\n",
            name = site.instance,
            url = site.channel_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError> {
        let ping = settings.notification_token.as_ref();
        let ping = ping.map(|token| env.secret("notification_token", token)).transpose()?;
        Ok(Box::new(Connected {
            client_secret: env.secret("client_secret", &settings.client_secret)?,
            egress: env.egress.clone(),
            keys: env.keys.at(&settings.jwks_url),
            pings: Bearers::new(ping.iter().map(|token| ("provider".to_owned(), token.clone()))),
            ping,
            settings,
        }))
    }
}

struct Connected {
    client_secret: Secret,
    egress: Egress,
    keys: KeySet,
    ping: Option<Secret>,
    pings: Bearers,
    settings: Settings,
}

#[async_trait]
impl Channel for Connected {
    async fn ask(&self, ask: &Ask<'_>, now: Timestamp) -> Result<Sent, CallError> {
        let life = now.until(ask.question.expires_at).as_secs().max(1).to_string();
        let hint = match self.settings.login_hint {
            LoginHint::Sub => ask.to.address.clone(),
            LoginHint::IssSub => {
                json!({"format": "iss_sub", "iss": self.settings.issuer, "sub": ask.to.address}).to_string()
            }
        };
        let binding = binding(&ask.question.title);
        let acr = self.settings.acr_values.join(" ");
        let mut form = vec![
            ("scope", "openid"),
            ("login_hint", hint.as_str()),
            ("binding_message", binding.as_str()),
            ("requested_expiry", life.as_str()),
        ];
        form.extend((!acr.is_empty()).then_some(("acr_values", acr.as_str())));
        form.extend(self.ping.as_ref().map(|token| ("client_notification_token", token.expose())));
        let answer = self.post(&self.settings.authorize_url, &form).await?;
        let body = accepted(&answer).map_err(|error| explained(error, &answer))?;
        let id = text(&body, "/auth_req_id");
        let id = id.ok_or_else(|| CallError::Permanent("the provider gave no `auth_req_id`".into()))?;
        let interval = body["interval"].as_u64().unwrap_or(INTERVAL_S).clamp(1, INTERVAL_MAX_S);
        let message = json!({"request": id, "interval": interval, "sub": ask.to.address});
        Ok(Sent { message: Message(message), poll_at: Some(now.after(Duration::from_secs(interval))) })
    }

    /// The device shows what it was sent.
    async fn update(&self, _message: &Message, _ask: &Ask<'_>, _now: Timestamp) -> Result<(), CallError> {
        Ok(())
    }

    /// The provider ends the request by itself: it was given the question's life.
    async fn replace(
        &self,
        _message: &Message,
        _outcome: &Outcome,
        _now: Timestamp,
    ) -> Result<(), CallError> {
        Ok(())
    }

    async fn poll(&self, message: &Message, now: Timestamp) -> Result<Polled, CallError> {
        let request = text(&message.0, "/request").unwrap_or_default();
        let sub = text(&message.0, "/sub").unwrap_or_default();
        let interval = message.0["interval"].as_u64().unwrap_or(INTERVAL_S);
        if !self.keys.ready() {
            // The provider gives its tokens once: not before they can be checked.
            return Ok(Polled::Waiting {
                message: message.clone(),
                at: now.after(Duration::from_secs(interval)),
            });
        }
        let form = [("grant_type", GRANT), ("auth_req_id", request)];
        let answer = self.post(&self.settings.token_url, &form).await?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.is_success() {
            let token = text(&body, "/id_token").unwrap_or_default();
            return match self.identified(token, sub, request, now) {
                Ok(assurance) => Ok(Polled::Answered(click(sub, true, Some(assurance)))),
                Err(error) => Ok(Polled::Over(format!("the provider's ID token is refused: {error}"))),
            };
        }
        let waiting = |interval: u64| {
            let mut message = message.clone();
            message.0["interval"] = json!(interval);
            Polled::Waiting { message, at: now.after(Duration::from_secs(interval)) }
        };
        match body["error"].as_str() {
            Some("authorization_pending") => Ok(waiting(interval)),
            Some("slow_down") => Ok(waiting((interval + SLOW_DOWN_S).min(INTERVAL_MAX_S))),
            Some("access_denied") => Ok(Polled::Answered(click(sub, false, None))),
            Some("expired_token") => Ok(Polled::Over("the provider's request has ended".into())),
            Some(error @ ("invalid_grant" | "transaction_failed")) => {
                Ok(Polled::Over(format!("the provider gave up: {error}")))
            }
            _ => accepted(&answer).map(|_| waiting(interval)).map_err(|error| explained(error, &answer)),
        }
    }

    /// A ping: CIBA Core 1.0 section 10.2.
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        let _token = bearer(request)?;
        self.pings.check(request)?;
        let assurance = Assurance::ClientAsserted;
        Ok(Caller { assurance, verified_by: "client-notification-token", ..Caller::default() })
    }

    fn read(&self, request: &Inbound<Verified>, _now: Timestamp) -> Result<Heard, HearError> {
        let body: Value =
            serde_json::from_slice(&request.body).map_err(|_| HearError("the body is not JSON".into()))?;
        let id = text(&body, "/auth_req_id").ok_or_else(|| HearError("`auth_req_id` is missing".into()))?;
        Ok(Heard::Nudge(id.to_owned()))
    }

    fn answer(&self, _heard: &Heard, _told: &Told<'_>, _now: Timestamp) -> Reply {
        Reply { body: Vec::new(), content_type: "application/json".into(), status: 204 }
    }
}

impl Connected {
    async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<Answer, CallError> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("client_secret", self.client_secret.expose())
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
        self.egress.call(Method::POST, url, &headers, body.into_bytes()).await.map_err(unreached)
    }

    /// Who approved must be who was asked. Returns the assurance.
    fn identified(
        &self,
        token: &str,
        sub: &str,
        request: &str,
        now: Timestamp,
    ) -> Result<String, VerifyError> {
        let refused = |error: jsonwebtoken::errors::Error| VerifyError::Token(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        let kid = header.kid.unwrap_or_default();
        let key = self.keys.find(&kid).ok_or(VerifyError::NoKey(kid))?;
        // The key's own kind decides, never the token alone; symmetric ones are no option.
        let algorithms = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
        if !algorithms.contains(&header.alg) {
            return Err(VerifyError::Token("its algorithm is not one we take".into()));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&self.settings.client_id]);
        validation.set_issuer(&[&self.settings.issuer]);
        // Times are compared below, with the time of this call.
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&key).map_err(refused)?;
        let claims: Map<String, Value> =
            jsonwebtoken::decode(token, &key, &validation).map_err(refused)?.claims;
        if claims.get("exp").and_then(Value::as_i64).is_none_or(|exp| exp + LEEWAY_S <= now.unix_seconds()) {
            return Err(VerifyError::Token("it has ended".into()));
        }
        if claims.get("sub").and_then(Value::as_str) != Some(sub) {
            return Err(VerifyError::NotAllowed("it names somebody else than was asked".into()));
        }
        let bound = claims.get("urn:openid:params:jwt:claim:auth_req_id").and_then(Value::as_str);
        if bound.is_some_and(|bound| bound != request) {
            return Err(VerifyError::Token("it is of another request".into()));
        }
        Ok(self.assurance(&claims))
    }

    fn assurance(&self, claims: &Map<String, Value>) -> String {
        let acr = claims.get("acr").and_then(Value::as_str);
        let strong = acr.is_some_and(|acr| self.settings.acr_values.iter().any(|value| value == acr));
        let methods = claims.get("amr").and_then(Value::as_array).into_iter().flatten();
        let mfa = methods.filter_map(Value::as_str).any(|method| method == "mfa");
        if strong || mfa { "ciba+mfa".to_owned() } else { "ciba".to_owned() }
    }
}

fn click(sub: &str, approved: bool, assurance: Option<String>) -> Click {
    Click { approved, assurance, who: sub.to_owned(), ..Click::default() }
}

/// Providers refuse binding messages with characters that some device cannot show (section 7.1).
fn binding(title: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ',' | ':' | '/');
    let text: String = title.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    cut(&text, BINDING_CHARS).to_owned()
}

/// OAuth's error code says more than the status.
fn explained(error: CallError, answer: &Answer) -> CallError {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (error, body["error"].as_str()) {
        (CallError::Permanent(problem), Some(code)) => {
            CallError::Permanent(format!("{problem}: {}", cut(code, 100).escape_debug()))
        }
        (error, _) => error,
    }
}
