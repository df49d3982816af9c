//! Requests of every vendor, signed afresh, and the far side that connectors call: for the demonstration, for load,
//! and for end-to-end tests. The secrets are made for one run and protect nothing.

use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_sdk::schemas::Timestamp;
use countersign_sdk::signature::{hmac_sha256, sign_standard_webhooks};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Value, json};

const SCENES: &str = include_str!("../../fixtures/rehearsal/scenes.json");
const KEY_ID: &str = "rehearsal";
const TENANT: &str = "aaaabbbb-0000-1111-2222-333344445555";
const APP: &str = "99998888-0000-1111-2222-333344445555";
const AUDIENCE: &str = "api://countersign-rehearsal";
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// How long the rehearsal's tokens live, in seconds.
const TOKEN_LIFE_S: i64 = 3600;

/// A run's secrets.
pub struct Rehearsal {
    far_side: String,
    jwks: Value,
    key: EncodingKey,
    key_pem: String,
    shared: [u8; 32],
}

/// One request of a vendor, unsigned.
#[derive(Clone, Debug, Deserialize)]
pub struct Scene {
    /// The body; `null` for an empty one.
    #[serde(default)]
    pub body: Value,
    /// The connector, which is also the instance.
    pub connector: String,
    /// GitHub's event name.
    #[serde(default)]
    pub event: String,
    /// What follows the hook's URL.
    #[serde(default)]
    pub path: String,
    /// The query string.
    #[serde(default)]
    pub query: String,
    /// What happens in it, for people.
    pub title: String,
}

/// One request of a vendor, signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The body.
    pub body: Vec<u8>,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// Path and query below the server's root.
    pub target: String,
}

/// The run's secrets cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The system gives no key.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// The scenes cannot be read.
    #[error("cannot read the scenes: {0}")]
    Scenes(#[from] serde_json::Error),
}

impl Rehearsal {
    /// Makes secrets for a run whose far side listens at `far_side`, for example `http://127.0.0.1:40001`.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Key`] when the system gives no key.
    pub fn new(far_side: &str) -> Result<Self, RehearsalError> {
        let failed = |error: &dyn std::fmt::Display| RehearsalError::Key(error.to_string());
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| failed(&error))?;
        let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair);
        let der = der.map_err(|error| failed(&error))?;
        let key_pem = pem(der.as_ref());
        let public: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
        let key = EncodingKey::from_rsa_pem(key_pem.as_bytes()).map_err(|error| failed(&error))?;
        let mut shared = [0; 32];
        aws_lc_rs::rand::fill(&mut shared).map_err(|error| failed(&error))?;
        let jwks = json!({"keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(&public.n), "e": URL_SAFE_NO_PAD.encode(&public.e),
        }]});
        Ok(Self { far_side: far_side.to_owned(), jwks, key, key_pem, shared })
    }

    /// The `[connectors]` section: every connector, with this run's secrets by reference to the environment.
    #[must_use]
    pub fn connectors(&self) -> Value {
        json!({
            "anthropic": {"secrets": [{"env": "REHEARSAL_WEBHOOK"}]},
            // A rehearsal waits for nobody.
            "claude-code": {"tokens": {"laptop-7": {"env": "REHEARSAL_TOKEN"}}, "step_up": "ticket"},
            "copilot-studio": {
                "tenants": [TENANT], "audience": AUDIENCE, "allowed_apps": [APP],
                "jwks_url": format!("{}/keys", self.far_side),
            },
            "generic": {"secrets": [{"env": "REHEARSAL_WEBHOOK"}]},
            "github": {
                "secrets": [{"env": "REHEARSAL_TOKEN"}], "app_id": 7, "private_key": {"env": "REHEARSAL_KEY"},
                "api_base": self.far_side,
            },
        })
    }

    /// Answers for the variables that [`Self::connectors`] refers to.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<String> {
        match name {
            "REHEARSAL_WEBHOOK" => Some(format!("whsec_{}", STANDARD.encode(self.shared))),
            "REHEARSAL_TOKEN" => Some(hex::encode(self.shared)),
            "REHEARSAL_KEY" => Some(self.key_pem.clone()),
            _ => None,
        }
    }

    /// The requests, in order.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Scenes`] when the built-in file cannot be read.
    pub fn scenes(&self) -> Result<Vec<Scene>, RehearsalError> {
        Ok(serde_json::from_str(&SCENES.replace("{far_side}", &self.far_side))?)
    }

    /// Signs a request as its vendor would. `id` names the delivery.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Key`] when the token cannot be signed.
    pub fn sign(&self, scene: &Scene, id: &str, now: Timestamp) -> Result<Signed, RehearsalError> {
        let body = if scene.body.is_null() { Vec::new() } else { scene.body.to_string().into_bytes() };
        let mut headers = vec![("content-type", "application/json".to_owned())];
        match scene.connector.as_str() {
            "claude-code" => {
                headers.push(("authorization", format!("Bearer {}", hex::encode(self.shared))));
                headers.push(("x-countersign-user", "u-cleo".into()));
                headers.push(("x-countersign-device", "laptop-7".into()));
            }
            "copilot-studio" => {
                headers.push(("authorization", format!("Bearer {}", self.entra_token(now)?)));
                headers.push(("x-ms-correlation-id", id.to_owned()));
            }
            "github" => {
                let key = hex::encode(self.shared);
                let tag = hmac_sha256(key.as_bytes(), &[&body]);
                headers.push(("x-hub-signature-256", format!("sha256={}", hex::encode(tag))));
                headers.push(("x-github-event", scene.event.clone()));
                headers.push(("x-github-delivery", id.to_owned()));
            }
            _ => headers.extend(sign_standard_webhooks(&self.shared, id, now, &body)),
        }
        let below = if scene.path.is_empty() { String::new() } else { format!("/{}", scene.path) };
        let query = if scene.query.is_empty() { String::new() } else { format!("?{}", scene.query) };
        Ok(Signed { body, headers, target: format!("/hooks/{}{below}{query}", scene.connector) })
    }

    fn entra_token(&self, now: Timestamp) -> Result<String, RehearsalError> {
        let issued = now.unix_seconds();
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::RS256) };
        let claims = json!({
            "iss": format!("{AUTHORITY}/{TENANT}/v2.0"), "aud": AUDIENCE, "tid": TENANT, "azp": APP, "sub": APP,
            "iat": issued, "nbf": issued, "exp": issued + TOKEN_LIFE_S, "ver": "2.0",
        });
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|error| RehearsalError::Key(error.to_string()))
    }

    /// What the far side answers: Microsoft's keys and GitHub's API, as far as the connectors call them.
    #[must_use]
    pub fn far_side(&self, method: &str, path: &str, now: Timestamp) -> (u16, Value) {
        let expires = Timestamp(now.0 + TOKEN_LIFE_S * 1000).to_string();
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["keys"]) => (200, self.jwks.clone()),
            ("POST", ["app", "installations", _, "access_tokens"]) => {
                let permissions = json!({"deployments": "write", "actions": "read"});
                (201, json!({"token": "ghs_rehearsal", "expires_at": expires, "permissions": permissions}))
            }
            ("GET", ["repos", _, _, "actions", "runs", run, "pending_deployments"]) => {
                let name = if *run == "23625057533" { "production" } else { "staging" };
                (
                    200,
                    json!([{"environment": {"id": 1, "name": name}, "current_user_can_approve": true, "reviewers": []}]),
                )
            }
            ("POST", ["repos", _, _, "actions", "runs", _, "deployment_protection_rule"]) => {
                (204, Value::Null)
            }
            ("GET", ["app", "hook", "deliveries"]) => (200, json!([])),
            _ => (404, json!({"message": "Not Found"})),
        }
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
