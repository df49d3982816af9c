//! Tokens that we ask for: OAuth 2.0 client credentials (RFC 6749 section 4.4), fetched over [`Egress`].

use std::fmt;
use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{ClientId, ClientSecret, HttpRequest, RequestTokenError, Scope, TokenResponse, TokenUrl};
use tokio::sync::Mutex;

use crate::http::Egress;
use crate::schemas::Timestamp;
use crate::{FetchError, Secret};

/// A token this near to its end is replaced: the call that carries it may take ten seconds, and clocks differ.
const EARLY: Duration = Duration::from_secs(60);

/// Tokens for one client at one authorization server. Keeps the last one until shortly before it ends.
pub struct TokenSource {
    cached: Mutex<Option<Cached>>,
    client_id: String,
    client_secret: Secret,
    egress: Egress,
    scopes: Vec<String>,
    token_url: String,
}

struct Cached {
    token: Secret,
    until: Timestamp,
}

impl TokenSource {
    /// A source that asks `token_url`. `scopes` may be empty; the server's default then applies.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the URL is not usable or its host is not allowed.
    pub fn new(
        egress: &Egress,
        token_url: &str,
        client_id: &str,
        client_secret: Secret,
        scopes: Vec<String>,
    ) -> Result<Self, FetchError> {
        let url = egress.check(token_url)?;
        Ok(Self {
            cached: Mutex::new(None),
            client_id: client_id.to_owned(),
            client_secret,
            egress: egress.clone(),
            scopes,
            token_url: url.to_string(),
        })
    }

    /// A token that lives at least a minute longer. One request to the server at a time.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the server cannot be reached or refuses; the text holds neither secret nor token.
    pub async fn token(&self, now: Timestamp) -> Result<Secret, FetchError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| now < cached.until) {
            return Ok(cached.token.clone());
        }
        let (token, life) = self.fetch().await?;
        let until = now.after(life.saturating_sub(EARLY));
        *cached = Some(Cached { token: token.clone(), until });
        Ok(token)
    }

    /// Drops the kept token, because somebody refused it.
    pub async fn forget(&self) {
        *self.cached.lock().await = None;
    }

    /// A new token and its life; zero when the server does not say, so that it serves once.
    async fn fetch(&self) -> Result<(Secret, Duration), FetchError> {
        let url =
            TokenUrl::new(self.token_url.clone()).map_err(|_| FetchError::Url(self.token_url.clone()))?;
        let client = BasicClient::new(ClientId::new(self.client_id.clone()))
            .set_client_secret(ClientSecret::new(self.client_secret.expose().to_owned()))
            .set_token_uri(url);
        // Owned, because a future that borrows `self` here is not `Send` enough for callers behind a trait object.
        let egress = self.egress.clone();
        let transport = move |request: HttpRequest| {
            let egress = egress.clone();
            async move { egress.send(request).await }
        };
        let answer = client
            .exchange_client_credentials()
            .add_scopes(self.scopes.iter().cloned().map(Scope::new))
            .request_async(&transport)
            .await
            .map_err(|error| match error {
                RequestTokenError::Request(error) => error,
                RequestTokenError::ServerResponse(refusal) => {
                    FetchError::Body(format!("token refused: {}", refusal.error()))
                }
                // The answer may hold the token, so nothing of it is repeated.
                RequestTokenError::Parse(..) => FetchError::Body("not a token answer".to_owned()),
                RequestTokenError::Other(text) => FetchError::Body(text),
            })?;
        let token = Secret::new(answer.access_token().secret().clone());
        Ok((token, answer.expires_in().unwrap_or_default()))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{basic_auth, body_string_contains, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    async fn source(server: &MockServer) -> TokenSource {
        let egress = Egress::new(["127.0.0.1".to_owned()]).unwrap();
        let url = format!("{}/token", server.uri());
        TokenSource::new(&egress, &url, "client", Secret::new("s3cret"), vec!["hooks".to_owned()]).unwrap()
    }

    #[tokio::test]
    async fn a_token_is_kept_until_a_minute_before_its_end() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/token"))
            .and(basic_auth("client", "s3cret"))
            .and(body_string_contains("grant_type=client_credentials"))
            .and(body_string_contains("scope=hooks"))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({
                "access_token": "at-1", "token_type": "Bearer", "expires_in": 3600
            })))
            .expect(3)
            .mount(&server)
            .await;
        let source = source(&server).await;
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let at = |seconds| start.after(Duration::from_secs(seconds));
        assert_eq!("at-1", source.token(at(0)).await.unwrap().expose());
        source.token(at(3539)).await.unwrap();
        source.token(at(3540)).await.unwrap();
        source.forget().await;
        source.token(at(3541)).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_names_its_code_and_no_secret() {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(401).set_body_json(json!({
                "error": "invalid_client", "error_description": "s3cret is wrong"
            })))
            .mount(&server)
            .await;
        let source = source(&server).await;
        let error = source.token(Timestamp(0)).await.unwrap_err().to_string();
        assert_eq!("unreadable answer: token refused: invalid_client", error);
        assert!(!format!("{source:?}").contains("s3cret"));
    }

    #[test]
    fn a_token_server_that_is_not_allowed_is_refused_at_once() {
        let egress = Egress::new([]).unwrap();
        let source = TokenSource::new(&egress, "https://evil.example/t", "c", Secret::new("s"), Vec::new());
        assert!(matches!(source, Err(FetchError::HostNotAllowed(_))));
    }
}
