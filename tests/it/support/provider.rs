//! A made-up identity provider on loopback: OpenID Connect discovery, authorization code flow with PKCE, and every
//! mistake that a bad one could make.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_service::clock::Clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

pub(crate) const CLIENT: &str = "countersign";
pub(crate) const SECRET: &str = "provider-client-secret";
const KEY: &str = include_str!("../../../fixtures/copilot-studio/test-only-key.pem");
const KEY_SETS: &str = include_str!("../../../fixtures/copilot-studio/jwks.json");
const KEY_ID: &str = "test-only-1";

/// Changes an ID token's claims before it is signed.
pub(crate) type Mistake = fn(&mut Value);

/// The provider.
#[derive(Clone)]
pub(crate) struct Provider {
    clock: Arc<dyn Clock>,
    codes: Arc<Mutex<HashMap<String, BTreeMap<String, String>>>>,
    pub(crate) issuer: String,
    /// Made in every token from now on.
    pub(crate) mistake: Arc<Mutex<Option<Mistake>>>,
    people: Value,
}

impl Provider {
    /// Serves `people`: what their tokens claim, by a short name.
    pub(crate) async fn start(people: Value, clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let provider = Self { clock, codes: Arc::default(), issuer, mistake: Arc::default(), people };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/jwks", get(keys))
            .route("/authorize", get(choose))
            .route("/authorize/as", get(authorize))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        provider
    }

    /// What `[console.oidc]` says of it.
    pub(crate) fn settings(&self, secret: &Path) -> Value {
        json!({
            "issuer": self.issuer, "client_id": CLIENT, "client_secret": {"file": secret}, "label": "Acme ID",
            "roles": {
                "viewers": ["viewer"], "oncall": ["viewer", "approver"], "operators": ["viewer", "operator"],
            },
        })
    }
}

async fn describe(State(of): State<Provider>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", of.issuer);
    Json(json!({
        "issuer": of.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
        "jwks_uri": at("/jwks"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
    }))
}

async fn keys() -> Json<Value> {
    let sets: Value = serde_json::from_str(KEY_SETS).unwrap();
    let keys = sets["https://keys.example.com/discovery/keys"]["keys"].as_array().unwrap();
    let ours = keys.iter().find(|key| key["kid"] == KEY_ID).unwrap();
    Json(json!({"keys": [ours]}))
}

/// Where a person would sign in; here they only say who they are.
async fn choose(State(of): State<Provider>, uri: axum::http::Uri) -> Html<String> {
    let query = uri.query().unwrap_or_default().replace('&', "&amp;");
    let link = |name: &String| format!("<p><a href=\"/authorize/as?user={name}&amp;{query}\">{name}</a></p>");
    Html(of.people.as_object().unwrap().keys().map(link).collect())
}

async fn authorize(State(of): State<Provider>, Query(asked): Query<BTreeMap<String, String>>) -> Response {
    let right = asked["response_type"] == "code"
        && asked["client_id"] == CLIENT
        && asked["code_challenge_method"] == "S256"
        && asked["scope"].split(' ').any(|scope| scope == "openid")
        && !asked["nonce"].is_empty();
    if !right {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let code = hex::encode(Sha256::digest(asked["state"].as_bytes()));
    let back = format!("{}?code={code}&state={}", asked["redirect_uri"], asked["state"]);
    of.codes.lock().unwrap().insert(code, asked);
    Redirect::to(&back).into_response()
}

/// RFC 6749 section 4.1.3 and RFC 7636 section 4.6: the code once, for the client and the verifier that fit it.
async fn token(
    State(of): State<Provider>,
    headers: HeaderMap,
    Form(sent): Form<BTreeMap<String, String>>,
) -> Response {
    let refuse = || (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{SECRET}")));
    let Some(asked) = of.codes.lock().unwrap().remove(&sent["code"]) else { return refuse() };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(sent["code_verifier"].as_bytes()));
    let fits = headers.get("authorization").is_some_and(|value| *value == basic)
        && challenge == asked["code_challenge"]
        && sent["redirect_uri"] == asked["redirect_uri"];
    if !fits {
        return refuse();
    }
    let now = of.clock.now().unix_seconds();
    let mut claims = json!({
        "iss": of.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
    });
    for (name, value) in of.people[&asked["user"]].as_object().unwrap() {
        claims[name] = value.clone();
    }
    if let Some(mistake) = *of.mistake.lock().unwrap() {
        mistake(&mut claims);
    }
    let id_token = if claims["alg_none"] == true {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({"alg": "none"})), part(claims))
    } else {
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::RS256) };
        let key = EncodingKey::from_rsa_pem(KEY.as_bytes()).unwrap();
        let signed = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        // Signed for other claims than it shows.
        if claims["tampered"] == true { signed.replacen('.', ".e", 1) } else { signed }
    };
    Json(json!({"access_token": "unused", "token_type": "Bearer", "id_token": id_token})).into_response()
}
