//! Sign-in at the operator's identity provider: OpenID Connect Core 1.0 section 3.1 (authorization code flow), with
//! PKCE (RFC 7636), `state` and `nonce`, over our own egress.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use countersign_schemas::Timestamp;
use countersign_sdk::http::Egress;
use countersign_sdk::signature::equal;
use countersign_sdk::{FetchError, Secret, SecretError};
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreProviderMetadata};
use openidconnect::{
    AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, DiscoveryError,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse as _,
};
use serde_json::{Map, Value};
use url::Url;

use super::settings::OidcSettings;
use super::visit::{Person, VisitKey, key};
use crate::config::Role;

/// Where the provider sends people back to.
pub(crate) const CALLBACK: &str = "/console/login/callback";

/// Sign-ins under way at once; the oldest is dropped first.
const PENDING_MAX: usize = 1_000;
/// How long a sign-in may take.
const PENDING_FOR: Duration = Duration::from_secs(600);
/// How long the provider's own description and keys are believed. An unknown key asks again at once.
const PROVIDER_FOR: Duration = Duration::from_secs(60 * 60);

/// Nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    #[error("`client_secret` cannot be read")]
    Secret(#[from] SecretError),
    #[error("`{0}` is not a URL")]
    Url(String),
    #[error("the identity provider cannot be reached: {0}")]
    Provider(String),
    #[error("the identity provider refused: {0}")]
    Refused(String),
    #[error("this sign-in was not begun in this browser, or too long ago: begin again")]
    State,
    #[error("the identity provider's answer holds no ID token")]
    NoToken,
    #[error("the ID token is not valid: {0}")]
    Token(#[from] ClaimsVerificationError),
    #[error("the ID token has no usable claim `{0}`")]
    Claim(String),
    #[error("your account is in none of the groups that may use this console")]
    NoRole,
}

/// The provider, as far as it is known.
pub(crate) struct Oidc {
    egress: Egress,
    issuer: IssuerUrl,
    pending: Mutex<HashMap<VisitKey, Pending>>,
    provider: Mutex<Option<(Timestamp, Arc<CoreProviderMetadata>)>>,
    redirect: RedirectUrl,
    secret: Option<Secret>,
    pub(crate) settings: OidcSettings,
}

/// A sign-in that was begun.
struct Pending {
    at: Timestamp,
    next: String,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
}

/// What the provider sends the browser back with (RFC 6749 sections 4.1.2 and 4.1.2.1).
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Returned {
    pub(crate) code: String,
    pub(crate) state: String,
    pub(crate) error: Option<String>,
}

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Oidc {
    /// # Errors
    ///
    /// [`OidcError`] when the secret or a URL cannot be used. The provider itself is asked at the first sign-in.
    pub(crate) fn new(
        settings: &OidcSettings,
        public_url: &str,
        egress: &Egress,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OidcError> {
        egress.check(&settings.issuer).map_err(|error| OidcError::Provider(error.to_string()))?;
        let secret = settings.client_secret.as_ref().map(|secret| secret.read(lookup)).transpose()?;
        let redirect = format!("{public_url}{CALLBACK}");
        Ok(Self {
            egress: egress.clone(),
            issuer: IssuerUrl::new(settings.issuer.clone())
                .map_err(|_| OidcError::Url(settings.issuer.clone()))?,
            pending: Mutex::default(),
            provider: Mutex::default(),
            redirect: RedirectUrl::new(redirect.clone()).map_err(|_| OidcError::Url(redirect))?,
            secret,
            settings: settings.clone(),
        })
    }

    /// Where to send the browser that `binding` is kept in.
    ///
    /// # Errors
    ///
    /// [`OidcError`] when the provider cannot be asked.
    pub(crate) async fn begin(&self, binding: &str, next: String, now: Timestamp) -> Result<Url, OidcError> {
        let client = self.client(&*self.provider(now).await?);
        // Bound to the browser: whoever does not have its cookie cannot make the state fit.
        let state = CsrfToken::new(state_of(binding));
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, Nonce::new_random)
            .set_pkce_challenge(challenge);
        for scope in &self.settings.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, _state, nonce) = request.url();
        let mut pending = self.pending();
        pending.retain(|_, pending| pending.at.until(now) < PENDING_FOR);
        if pending.len() >= PENDING_MAX {
            let oldest = pending.iter().min_by_key(|(_, pending)| pending.at).map(|(key, _)| *key);
            oldest.map(|key| pending.remove(&key));
        }
        pending.insert(key(binding), Pending { at: now, next, nonce, verifier });
        Ok(url)
    }

    /// Who came back, and where they wanted to go. Each sign-in ends once, however it ends.
    ///
    /// # Errors
    ///
    /// [`OidcError`]; nobody is signed in then.
    pub(crate) async fn finish(
        &self,
        binding: Option<&str>,
        returned: Returned,
        now: Timestamp,
    ) -> Result<(Person, String), OidcError> {
        let binding = binding.ok_or(OidcError::State)?;
        if !equal(returned.state.as_bytes(), state_of(binding).as_bytes()) {
            return Err(OidcError::State);
        }
        let pending = self.pending().remove(&key(binding)).ok_or(OidcError::State)?;
        if pending.at.until(now) >= PENDING_FOR {
            return Err(OidcError::State);
        }
        if let Some(error) = returned.error {
            return Err(OidcError::Refused(error.chars().filter(char::is_ascii_graphic).take(64).collect()));
        }
        let token = self.exchange(returned.code, pending.verifier, now).await?;
        let claims = self.verified(&token, &pending.nonce, now).await?;
        Ok((self.person(&claims)?, pending.next))
    }

    async fn exchange(
        &self,
        code: String,
        verifier: PkceCodeVerifier,
        now: Timestamp,
    ) -> Result<CoreIdToken, OidcError> {
        let client = self.client(&*self.provider(now).await?);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| OidcError::Provider(error.to_string()))?
            .set_pkce_verifier(verifier);
        let egress = self.egress.clone();
        let transport = move |request: HttpRequest| {
            let egress = egress.clone();
            async move { egress.send(request).await }
        };
        let answer = request.request_async(&transport).await.map_err(|error| match error {
            RequestTokenError::Request(error) => OidcError::Provider(error.to_string()),
            RequestTokenError::ServerResponse(refusal) => OidcError::Refused(refusal.error().to_string()),
            // The answer may hold a token, so nothing of it is repeated.
            RequestTokenError::Parse(..) => OidcError::Provider("not a token answer".into()),
            RequestTokenError::Other(text) => OidcError::Provider(text),
        })?;
        answer.id_token().cloned().ok_or(OidcError::NoToken)
    }

    /// The token's claims, once signature, issuer, audience, life and nonce were found right.
    async fn verified(
        &self,
        token: &CoreIdToken,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<Map<String, Value>, OidcError> {
        let checked = self.check(token, nonce, &*self.provider(now).await?, now);
        if let Err(ClaimsVerificationError::SignatureVerification(_)) = checked {
            // The provider may have new keys: asked for once.
            *self.known() = None;
            self.check(token, nonce, &*self.provider(now).await?, now)?;
        } else {
            checked?;
        }
        // Only now that it is verified is the payload read for the claims that the library does not know.
        let text = token.to_string();
        let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        claims.ok_or(OidcError::NoToken)
    }

    fn check(
        &self,
        token: &CoreIdToken,
        nonce: &Nonce,
        provider: &CoreProviderMetadata,
        now: Timestamp,
    ) -> Result<(), ClaimsVerificationError> {
        let client = self.client(provider);
        let verifier = client.id_token_verifier();
        let verifier =
            verifier.set_time_fn(move || DateTime::from_timestamp_millis(now.0).unwrap_or_default());
        token.claims(&verifier, nonce).map(|_| ())
    }

    fn person(&self, claims: &Map<String, Value>) -> Result<Person, OidcError> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
        let settings = &self.settings;
        let name = text(&settings.name_claim).ok_or_else(|| OidcError::Claim(settings.name_claim.clone()))?;
        let groups = words(claims.get(&settings.groups_claim));
        let mut roles: Vec<Role> = Vec::new();
        for role in groups.iter().filter_map(|group| settings.roles.get(group)).flatten() {
            if !roles.contains(role) {
                roles.push(*role);
            }
        }
        if roles.is_empty() {
            return Err(OidcError::NoRole);
        }
        // RFC 8176 section 2: more than one factor was used.
        let mfa = words(claims.get("amr")).iter().any(|method| method == "mfa");
        Ok(Person {
            assurance: if mfa { "oidc+mfa" } else { "oidc" },
            groups,
            identities: settings.identity_claims.iter().filter_map(|c| text(c)).map(str::to_owned).collect(),
            name: name.to_owned(),
            roles,
            shown: text("name").or_else(|| text("email")).unwrap_or(name).to_owned(),
        })
    }

    fn client(&self, provider: &CoreProviderMetadata) -> Client {
        CoreClient::from_provider_metadata(
            provider.clone(),
            ClientId::new(self.settings.client_id.clone()),
            self.secret.as_ref().map(|secret| ClientSecret::new(secret.expose().to_owned())),
        )
        .set_redirect_uri(self.redirect.clone())
    }

    /// The provider's description and keys, fetched when what is kept is too old.
    async fn provider(&self, now: Timestamp) -> Result<Arc<CoreProviderMetadata>, OidcError> {
        if let Some((at, provider)) = &*self.known()
            && at.until(now) < PROVIDER_FOR
        {
            return Ok(provider.clone());
        }
        let egress = self.egress.clone();
        let transport = move |request: HttpRequest| {
            let egress = egress.clone();
            async move { egress.send(request).await }
        };
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &transport).await;
        let provider = Arc::new(found.map_err(|error: DiscoveryError<FetchError>| match error {
            DiscoveryError::Request(error) => OidcError::Provider(error.to_string()),
            error => OidcError::Provider(error.to_string()),
        })?);
        *self.known() = Some((now, provider.clone()));
        Ok(provider)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<VisitKey, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Option<(Timestamp, Arc<CoreProviderMetadata>)>> {
        self.provider.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `state` that only the browser with this cookie can bring back; it gives nothing of the cookie away.
fn state_of(binding: &str) -> String {
    URL_SAFE_NO_PAD.encode(key(&format!("state:{binding}")))
}

/// A claim that is a list of words, or one word.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(word)) => vec![word.clone()],
        _ => Vec::new(),
    }
}
