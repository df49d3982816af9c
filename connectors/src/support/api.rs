//! A vendor's HTTP API, as callbacks and thin notifications need it.

use countersign_sdk::http::{Answer, Egress};
use countersign_sdk::{CallError, ConnectError, Env, FetchError, Secret};
use reqwest::Method;
use serde_json::{Map, Value};

use super::wrong;

/// One vendor's API and the headers that it wants.
pub(crate) struct Api {
    base: String,
    egress: Egress,
    headers: Vec<(&'static str, Secret)>,
}

impl Api {
    /// The API at the settings key `api_base`.
    pub(crate) fn connect(
        env: &Env<'_>,
        base: &str,
        headers: Vec<(&'static str, Secret)>,
    ) -> Result<Self, ConnectError> {
        let base = base.trim_end_matches('/').to_owned();
        env.egress.check(&base).map_err(|error| wrong("api_base", error.to_string()))?;
        Ok(Self { base, egress: env.egress.clone(), headers })
    }

    /// Gets a JSON object.
    pub(crate) async fn get(&self, path: &str) -> Result<Map<String, Value>, FetchError> {
        let answer = self.exchange(Method::GET, path, Vec::new()).await?;
        if !answer.is_success() {
            return Err(FetchError::Status(answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|_| FetchError::Body("not a JSON object".to_owned()))
    }

    /// Posts JSON; the answer may have any status.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, FetchError> {
        self.exchange(Method::POST, path, body.to_string().into_bytes()).await
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, FetchError> {
        let mut headers = vec![("accept", "application/json"), ("content-type", "application/json")];
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.expose())));
        self.egress.call(method, &format!("{}{path}", self.base), &headers, body).await
    }
}

/// Whether an id may be part of a path: whoever signs a notification must not choose which of our calls is made.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// What a failed fetch means for the outbox.
pub(crate) fn failure(error: FetchError) -> CallError {
    match error {
        FetchError::HostNotAllowed(_) | FetchError::Url(_) => CallError::Permanent(error.to_string()),
        FetchError::Status(status) => status_failure(status),
        _ => CallError::Retry(error.to_string()),
    }
}

/// What a status that is no success means for the outbox.
pub(crate) fn status_failure(status: u16) -> CallError {
    match status {
        401 | 403 | 408 | 409 | 425 | 429 | 500..=599 => {
            CallError::Retry(format!("the vendor answered {status}"))
        }
        _ => CallError::Permanent(format!("the vendor answered {status}")),
    }
}
