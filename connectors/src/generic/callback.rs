//! Decisions that are sent later: a signed `POST` to a URL that both the client and the operator named.

use async_trait::async_trait;
use countersign_sdk::http::Egress;
use countersign_sdk::oauth::TokenSource;
use countersign_sdk::schemas::{Action, Timestamp};
use countersign_sdk::{
    CallError, CallOutcome, Callback, ConnectError, Env, FetchError, Held, Said, signature,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{CALLBACK_URL, CallbackSettings, GenericAnswer, OauthSettings, value, webhook_key};

/// Where callbacks may go.
#[derive(Clone)]
pub(super) struct Destinations {
    below: Vec<Url>,
    egress: Egress,
}

impl Destinations {
    /// Whether `url` is one of the operator's, or lies below one, on a host that may be called. The token and the
    /// signature go wherever this says yes, so a host alone is not enough.
    pub(super) fn check(&self, url: &str) -> Result<(), String> {
        let url = self.egress.check(url).map_err(|_| "`callback_url` is not on a host that may be called")?;
        let below = |parent: &Url| {
            let rest = url.path().strip_prefix(parent.path());
            url.origin() == parent.origin()
                && rest.is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || parent.path().ends_with('/')
                })
        };
        if self.below.iter().any(below) {
            Ok(())
        } else {
            Err("`callback_url` does not lie below a URL that callbacks may go to".to_owned())
        }
    }
}

/// Sends decisions.
pub(super) struct Outlet {
    destinations: Destinations,
    egress: Egress,
    key: Vec<u8>,
    tokens: Option<TokenSource>,
}

/// What waits in the outbox.
#[derive(Serialize, Deserialize)]
struct Owed {
    answer: GenericAnswer,
    /// `webhook-id`: the same however often the call is repeated.
    message_id: String,
    url: String,
}

impl Outlet {
    pub(super) fn connect(settings: CallbackSettings, env: &Env<'_>) -> Result<Self, ConnectError> {
        if settings.urls.is_empty() {
            return Err(value("callback.urls", "give at least one URL"));
        }
        let mut below = Vec::with_capacity(settings.urls.len());
        for (at, url) in settings.urls.iter().enumerate() {
            let checked = env.egress.check(url);
            below.push(checked.map_err(|error| value(&format!("callback.urls[{at}]"), error.to_string()))?);
        }
        let tokens = settings.oauth.map(|oauth| token_source(&oauth, env)).transpose()?;
        Ok(Self {
            destinations: Destinations { below, egress: env.egress.clone() },
            egress: env.egress.clone(),
            key: webhook_key(env, "callback.secret", &settings.secret)?,
            tokens,
        })
    }

    pub(super) fn destinations(&self) -> &Destinations {
        &self.destinations
    }
}

fn token_source(oauth: &OauthSettings, env: &Env<'_>) -> Result<TokenSource, ConnectError> {
    let secret = env.secret("callback.oauth.client_secret", &oauth.client_secret)?;
    let scopes = oauth.scope.iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned).collect();
    TokenSource::new(env.egress, &oauth.token_url, &oauth.client_id, secret, scopes)
        .map_err(|error| value("callback.oauth.token_url", error.to_string()))
}

#[async_trait]
impl Held for Outlet {
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback {
        let url = action.vendor_fields.get(CALLBACK_URL).and_then(Value::as_str).unwrap_or_default();
        Callback(json!(Owed {
            answer: GenericAnswer { id: action.delivery_id.clone(), ..GenericAnswer::of(said) },
            message_id: action.action_id.to_string(),
            url: url.to_owned(),
        }))
    }

    async fn call(&self, callback: &Callback, now: Timestamp) -> Result<CallOutcome, CallError> {
        let owed = Owed::deserialize(&callback.0)
            .map_err(|_| CallError::Permanent("the callback is not readable".to_owned()))?;
        // Checked when it came, and again: the operator may have taken the URL back since.
        self.destinations.check(&owed.url).map_err(CallError::Permanent)?;
        let body = json!(owed.answer).to_string().into_bytes();
        let signed = signature::sign_standard_webhooks(&self.key, &owed.message_id, now, &body);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(signed.iter().map(|(name, text)| (*name, text.as_str())));
        let bearer = match &self.tokens {
            Some(tokens) => {
                let token = tokens.token(now).await.map_err(retry)?;
                Some(format!("Bearer {}", token.expose()))
            }
            None => None,
        };
        headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
        let answer = self.egress.call(Method::POST, &owed.url, &headers, body).await.map_err(retry)?;
        if let (401, Some(tokens)) = (answer.status, &self.tokens) {
            tokens.forget().await;
            return Err(CallError::Retry("the callback's receiver refused our token".to_owned()));
        }
        outcome(answer.status)
    }

    /// The contract has no list of requests that were missed; clients send again themselves.
    async fn sweep(&self, _since: Timestamp, _now: Timestamp) -> Result<u64, CallError> {
        Ok(0)
    }
}

/// What a status says, by Standard Webhooks 1.0.0, "Delivery success and failure".
fn outcome(status: u16) -> Result<CallOutcome, CallError> {
    match status {
        200..=299 => Ok(CallOutcome::Delivered),
        410 => Ok(CallOutcome::Moot("the client no longer waits".to_owned())),
        408 | 425 | 429 | 500..=599 => Err(CallError::Retry(format!("the callback was answered {status}"))),
        _ => Err(CallError::Permanent(format!("the callback was answered {status}"))),
    }
}

fn retry(error: FetchError) -> CallError {
    match error {
        FetchError::HostNotAllowed(_) | FetchError::Url(_) => CallError::Permanent(error.to_string()),
        _ => CallError::Retry(error.to_string()),
    }
}
