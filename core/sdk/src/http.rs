//! The one place that builds an HTTP client. Calls go to allowed hosts only, follow no redirect, end in bounded
//! time and read a bounded answer.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use url::Url;

use crate::FetchError;

/// An answer longer than this is an error: no answer that we ask for comes near it.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Outgoing calls.
#[derive(Clone)]
pub struct Egress {
    client: reqwest::Client,
    allow_hosts: BTreeSet<String>,
}

/// An answer to an outgoing call, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// The status.
    pub status: u16,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Egress {
    /// A client that may call these hosts: `host` for any port, or `host:port`.
    ///
    /// # Errors
    ///
    /// [`FetchError::Transport`] when the TLS configuration cannot be made.
    pub fn new(allow_hosts: impl IntoIterator<Item = String>) -> Result<Self, FetchError> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| FetchError::Transport(error.to_string()))?;
        Ok(Self {
            client,
            allow_hosts: allow_hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
        })
    }

    /// Parses `url` and checks its host against the allow list. Plain HTTP is for loopback only.
    ///
    /// # Errors
    ///
    /// [`FetchError::Url`] or [`FetchError::HostNotAllowed`].
    pub fn check(&self, url: &str) -> Result<Url, FetchError> {
        let parsed = Url::parse(url).map_err(|_| FetchError::Url(url.to_owned()))?;
        let host = parsed.host_str().ok_or_else(|| FetchError::Url(url.to_owned()))?.to_ascii_lowercase();
        let loopback = matches!(host.as_str(), "127.0.0.1" | "localhost" | "[::1]");
        let usable = parsed.scheme() == "https" || (parsed.scheme() == "http" && loopback);
        if !usable || !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(FetchError::Url(url.to_owned()));
        }
        let with_port = parsed.port_or_known_default().map(|port| format!("{host}:{port}"));
        let allowed = self.allow_hosts.contains(&host)
            || with_port.is_some_and(|name| self.allow_hosts.contains(&name));
        if allowed { Ok(parsed) } else { Err(FetchError::HostNotAllowed(host)) }
    }

    /// Makes one call and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the host is not allowed, the exchange fails, or the answer is too long.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, FetchError> {
        let url = self.check(url)?;
        let mut request = self.client.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.map_err(transport)?;
        let status = response.status().as_u16();
        Ok(Answer { body: read(response).await?, status })
    }

    /// Makes one call in the `http` crate's words: for client libraries that know a protocol and borrow our
    /// transport, so that the allow list and the bounds hold for them too.
    ///
    /// # Errors
    ///
    /// Like [`Egress::call`].
    pub async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, FetchError> {
        let (parts, body) = request.into_parts();
        let url = self.check(&parts.uri.to_string())?;
        let request = self.client.request(parts.method, url).headers(parts.headers).body(body);
        let mut response = request.send().await.map_err(transport)?;
        let mut answer = http::Response::new(Vec::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        *answer.body_mut() = read(response).await?;
        Ok(answer)
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    ///
    /// [`FetchError`] also when the status is not a success or the body is not of this shape.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let answer = self.call(Method::GET, url, &[("accept", "application/json")], Vec::new()).await?;
        if !answer.is_success() {
            return Err(FetchError::Status(answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|error| FetchError::Body(error.to_string()))
    }
}

/// reqwest's message without the URL, which may carry what should not be logged, but with its causes.
fn transport(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    FetchError::Transport(text)
}

async fn read(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(FetchError::Body(format!("longer than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, allowed: bool) {
        let egress = Egress::new(["api.github.com".to_owned(), "127.0.0.1:8080".to_owned()]).unwrap();
        assert_eq!(allowed, egress.check(url).is_ok(), "{url}");
    }

    #[test]
    fn only_allowed_hosts_are_called() {
        check("https://api.github.com/app", true);
        check("https://API.github.com:8443/app", true);
        check("http://api.github.com/app", false);
        check("https://api.github.com.evil.example/app", false);
        check("https://api.github.com@evil.example/", false);
        check("https://user@api.github.com/", false);
        check("http://127.0.0.1:8080/x", true);
        check("http://127.0.0.1:8081/x", false);
        check("file:///etc/passwd", false);
    }
}
