//! The calls back to GitHub, as the App. octocrab knows GitHub's authentication and words; the bytes go through our own
//! [`Egress`], so that the allow list and the bounds hold for them too.
//!
//! Source: GitHub REST API 2022-11-28, "Workflow runs", "Apps" and "App webhooks".

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::http::Egress;
use countersign_sdk::schemas::{Action, Expressed, Timestamp};
use countersign_sdk::{
    CallError, CallOutcome, Callback, ConnectError, Env, FetchError, Held, Said, Secret, parse,
};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::BodyExt as _;
use octocrab::auth::AppAuth;
use octocrab::models::AppId;
use octocrab::models::apps::CreateInstallationAccessToken;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::warn;
use url::Url;

use super::payload::{is_full_name, rule_path, run_path};
use super::{RULE, Settings, value};

/// GitHub cuts nothing: it refuses a longer comment.
const COMMENT_CHARS_MAX: usize = 1024;
/// An installation token this near to its end is replaced.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// GitHub forgets deliveries after three days.
const SWEEP_AGE_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Pages of 100 deliveries that one sweep reads, newest first.
const SWEEP_PAGES_MAX: usize = 20;
/// Deliveries that one sweep asks for again, so that the answer to an outage is not a flood.
const SWEEP_REQUESTS_MAX: u64 = 100;
/// Installation tokens that are kept: one for each repository that deploys.
const TOKENS_MAX: usize = 1024;

/// Our GitHub App.
pub(super) struct App {
    api_base: String,
    auth: AppAuth,
    base_uri: Uri,
    egress: Egress,
    tokens: Mutex<BTreeMap<(u64, String), Token>>,
}

struct Token {
    secret: Secret,
    until: Timestamp,
}

/// What waits in the outbox.
#[derive(Debug, Serialize, Deserialize)]
struct Review {
    comment: String,
    environment: String,
    installation_id: u64,
    /// `owner/name`.
    repository: String,
    run_id: u64,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Approved,
    Rejected,
}

#[derive(Deserialize)]
struct Pending {
    environment: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Delivery {
    delivered_at: Timestamp,
    event: String,
    guid: String,
    id: u64,
    status: String,
}

impl App {
    pub(super) fn connect(settings: &Settings, env: &Env<'_>) -> Result<Self, ConnectError> {
        let api_base = settings.api_base.trim_end_matches('/').to_owned();
        env.egress.check(&api_base).map_err(|error| value("api_base", error.to_string()))?;
        let base_uri = api_base.parse().map_err(|_| value("api_base", "is not a usable URL"))?;
        let pem = env.secret("private_key", &settings.private_key)?;
        let key = octocrab::auth::EncodingKey::from_rsa_pem(pem.expose().as_bytes())
            .map_err(|_| value("private_key", "is not an RSA private key in PEM form"))?;
        Ok(Self {
            api_base,
            auth: AppAuth { app_id: AppId(settings.app_id), key },
            base_uri,
            egress: env.egress.clone(),
            tokens: Mutex::default(),
        })
    }

    pub(super) fn api_base(&self) -> &str {
        &self.api_base
    }

    /// A client over our transport. Made for each use: it is cheap, and its worker must live in the caller's runtime.
    fn client(&self, auth: AuthState) -> Octocrab {
        let egress = self.egress.clone();
        let transport =
            tower::service_fn(move |request: http::Request<OctoBody>| exchange(egress.clone(), request));
        let built = OctocrabBuilder::new_empty()
            .with_service(transport)
            .with_layer(&BaseUriLayer::new(self.base_uri.clone()))
            .with_auth(auth)
            .build();
        let Ok(client) = built;
        client
    }

    fn as_app(&self) -> Octocrab {
        self.client(AuthState::App(self.auth.clone()))
    }

    /// A client that may answer for this one repository and do nothing else.
    async fn as_installation(&self, review: &Review, now: Timestamp) -> Result<Octocrab, CallError> {
        let token = self.token(review, now).await?;
        Ok(self.client(AuthState::AccessToken { token: token.expose().to_owned().into() }))
    }

    async fn token(&self, review: &Review, now: Timestamp) -> Result<Secret, CallError> {
        let mut tokens = self.tokens.lock().await;
        tokens.retain(|_, token| now < token.until);
        let key = (review.installation_id, review.repository.clone());
        if let Some(token) = tokens.get(&key) {
            return Ok(token.secret.clone());
        }
        let name = review.repository.rsplit('/').next().unwrap_or_default();
        let permissions = [("actions", "read"), ("deployments", "write")];
        let wanted = CreateInstallationAccessToken {
            repositories: Some(vec![name.to_owned()]),
            permissions: Some(permissions.map(|(key, level)| (key.to_owned(), level.to_owned())).into()),
            ..CreateInstallationAccessToken::default()
        };
        let app = self.as_app();
        let given = app.apps().create_installation_access_token(review.installation_id, &wanted).await;
        let given = given.map_err(failure)?;
        let secret = Secret::new(given.token);
        let ends: Option<Timestamp> = given.expires_at.and_then(|text| text.parse().ok());
        if let Some(ends) = ends.filter(|_| tokens.len() < TOKENS_MAX) {
            let until = Timestamp(ends.0.saturating_sub(EARLY.as_millis().try_into().unwrap_or(i64::MAX)));
            tokens.insert(key, Token { secret: secret.clone(), until });
        }
        Ok(secret)
    }

    async fn review(&self, review: &Review, now: Timestamp) -> Result<CallOutcome, CallError> {
        let github = self.as_installation(review, now).await?;
        let run = run_path(&review.repository, review.run_id);
        let (_, pending): (_, Vec<Pending>) = get(&github, format!("{run}/pending_deployments")).await?;
        if !pending.iter().any(|pending| pending.environment.name == review.environment) {
            return Ok(CallOutcome::Moot(format!("`{}` no longer waits in this run", review.environment)));
        }
        let body = json!({
            "environment_name": review.environment,
            "state": review.state,
            "comment": review.comment,
        });
        let answer = github._post(rule_path(&review.repository, review.run_id), Some(&body)).await;
        octocrab::map_github_error(answer.map_err(failure)?).await.map_err(failure)?;
        Ok(CallOutcome::Delivered)
    }
}

#[async_trait]
impl Held for App {
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback {
        let allowed = said.expression.expressed == Expressed::Allow;
        let receipt = said.receipt_id.as_ref().map_or("none", |receipt| receipt.as_str());
        let word = said.expression.expressed.as_str();
        let comment = format!("Countersign {word}, receipt {receipt}: {}", said.expression.reason);
        let installation = action.vendor_fields.get("installation");
        Callback(json!({
            "comment": parse::cut(&comment, COMMENT_CHARS_MAX),
            "environment": action.facets.environment,
            "installation_id": installation.and_then(|installation| installation.get("id")),
            "repository": action.facets.repository,
            "run_id": action.parameters.get("run_id"),
            "state": if allowed { State::Approved } else { State::Rejected },
        }))
    }

    async fn call(&self, callback: &Callback, now: Timestamp) -> Result<CallOutcome, CallError> {
        let review = Review::deserialize(&callback.0)
            .ok()
            .filter(|review| is_full_name(&review.repository))
            .ok_or_else(|| CallError::Permanent("the callback is not readable".to_owned()))?;
        let outcome = self.review(&review, now).await;
        if matches!(outcome, Err(CallError::Retry(_))) {
            // The token may be what was refused; another one costs one call.
            self.tokens.lock().await.remove(&(review.installation_id, review.repository));
        }
        outcome
    }

    async fn sweep(&self, since: Timestamp, now: Timestamp) -> Result<u64, CallError> {
        let forgotten =
            Timestamp(now.0.saturating_sub(SWEEP_AGE_MAX.as_millis().try_into().unwrap_or(i64::MAX)));
        let github = self.as_app();
        let mut asked = 0;
        for id in missed(&github, since.max(forgotten)).await? {
            if asked == SWEEP_REQUESTS_MAX {
                break;
            }
            match github.apps().redeliver_webhook_delivery(id).await.map_err(failure) {
                Ok(()) => asked += 1,
                // One that cannot be sent again must not keep the others from it.
                Err(CallError::Permanent(error)) => {
                    warn!(delivery = id, %error, "GitHub does not deliver again: {error}")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(asked)
    }
}

/// The last attempt of each delivery that was made since `oldest` and never succeeded.
async fn missed(github: &Octocrab, oldest: Timestamp) -> Result<Vec<u64>, CallError> {
    const FIRST: &str = "/app/hook/deliveries?per_page=100";
    // By guid, which all attempts of a delivery share; `None` once one of them succeeded.
    let mut unanswered: BTreeMap<String, Option<u64>> = BTreeMap::new();
    let mut route = FIRST.to_owned();
    for _page in 0..SWEEP_PAGES_MAX {
        let (headers, deliveries): (_, Vec<Delivery>) = get(github, route).await?;
        let ended = deliveries.last().is_none_or(|delivery| delivery.delivered_at < oldest);
        let recent = deliveries.into_iter().filter(|delivery| delivery.delivered_at >= oldest);
        for delivery in recent.filter(|delivery| delivery.event == RULE) {
            // Newest first, so the first attempt seen is the last one made.
            let attempt = unanswered.entry(delivery.guid).or_insert(Some(delivery.id));
            if delivery.status == "OK" {
                *attempt = None;
            }
        }
        let Some(cursor) = next_cursor(&headers).filter(|_| !ended) else { break };
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        route = format!("{FIRST}&cursor={cursor}");
    }
    Ok(unanswered.into_values().flatten().collect())
}

/// The cursor of the next page. Only that is taken from the header, never where to go.
fn next_cursor(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(http::header::LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let url = Url::parse(next.split_once('<')?.1.split_once('>')?.0).ok()?;
    url.query_pairs().find(|(key, _)| key == "cursor").map(|(_, cursor)| cursor.into_owned())
}

async fn get<T: DeserializeOwned>(github: &Octocrab, route: String) -> Result<(HeaderMap, T), CallError> {
    let unreadable = || CallError::Retry("the answer is not what GitHub documents".to_owned());
    let answer = github._get(route).await.map_err(failure)?;
    let (parts, body) = octocrab::map_github_error(answer).await.map_err(failure)?.into_parts();
    let body = body.collect().await.map_err(failure)?.to_bytes();
    Ok((parts.headers, serde_json::from_slice(&body).map_err(|_| unreadable())?))
}

/// Sends a request of octocrab's through our transport.
async fn exchange(
    egress: Egress,
    request: http::Request<OctoBody>,
) -> Result<http::Response<OctoBody>, FetchError> {
    let (mut parts, body) = request.into_parts();
    let body =
        body.collect().await.map_err(|_| FetchError::Transport("the request has no body".to_owned()))?;
    parts.headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    parts.headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
    let answer = egress.send(http::Request::from_parts(parts, body.to_bytes().to_vec())).await?;
    Ok(answer.map(OctoBody::from))
}

/// What a failure means for the outbox. GitHub's own message is repeated, a body never: it may hold a token.
fn failure(error: octocrab::Error) -> CallError {
    match error {
        octocrab::Error::GitHub { source, .. } => {
            let status = source.status_code.as_u16();
            let text = format!("GitHub answered {status}: {}", parse::cut(&source.message, 200));
            match status {
                401 | 408 | 429 | 500..=599 => CallError::Retry(text),
                403 if is_rate_limit(&source) => CallError::Retry(text),
                _ => CallError::Permanent(text),
            }
        }
        octocrab::Error::Service { source, .. } => match source.downcast::<FetchError>() {
            Ok(error) if matches!(*error, FetchError::HostNotAllowed(_) | FetchError::Url(_)) => {
                CallError::Permanent(error.to_string())
            }
            Ok(error) => CallError::Retry(error.to_string()),
            Err(_) => CallError::Retry("GitHub cannot be reached".to_owned()),
        },
        octocrab::Error::JWT { .. } => CallError::Permanent("the App's key cannot sign".to_owned()),
        _ => CallError::Retry("the answer is not what GitHub documents".to_owned()),
    }
}

/// Source: GitHub, "Rate limits for the REST API": primary and secondary limits both answer 403 or 429.
fn is_rate_limit(error: &octocrab::GitHubError) -> bool {
    let spent = error.headers.as_ref().is_some_and(|headers| {
        headers.contains_key("retry-after")
            || headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0")
    });
    spent || error.message.to_ascii_lowercase().contains("rate limit")
}
