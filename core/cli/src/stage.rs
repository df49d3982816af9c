//! A whole installation for one run: keys, policies, configuration, every connector, and the far side that they
//! call. For `demo`, `bench` and `conformance`; its secrets protect nothing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_connectors::rehearsal::Rehearsal;
use countersign_receipt::{
    LogKey, ReceiptKey, Trust, TrustFile, TrustedLog, TrustedReceiptKey, generate_key_pem,
};
use countersign_service::Service;
use countersign_service::clock::{Clock, SystemClock};
use countersign_service::config::Config;
use serde_json::json;
use tokio::net::TcpListener;

use crate::base::BASE;

const ORIGIN: &str = "countersign.example/rehearsal";
const EPOCH: u32 = 1;

/// The installation, ready to serve.
pub(crate) struct Stage {
    /// Whom an auditor of this run believes.
    pub(crate) trust: Trust,
    pub(crate) trust_file: TrustFile,
    pub(crate) rehearsal: Arc<Rehearsal>,
    pub(crate) service: Service,
    pub(crate) listener: TcpListener,
    /// Of a caller of the API that may do everything.
    pub(crate) token: String,
    /// `http://127.0.0.1:<port>`
    pub(crate) url: String,
}

/// The base policies, name and text.
pub(crate) fn base_policies() -> Vec<(String, String)> {
    let base = BASE.iter().filter_map(|(path, text)| Some((path.strip_prefix("base/")?, text)));
    base.map(|(name, text)| (name.to_owned(), (*text).to_owned())).collect()
}

/// Where and how to set the stage.
pub(crate) struct Plan<'a> {
    /// Store and policies go here.
    pub(crate) dir: &'a Path,
    /// Policy files, name and text.
    pub(crate) policies: Vec<(String, String)>,
    /// Port to listen on; 0 for any.
    pub(crate) port: u16,
    /// `sqlite` or `memory`.
    pub(crate) store: &'a str,
}

impl Stage {
    /// Sets the stage.
    ///
    /// # Errors
    ///
    /// What could not be made, opened or bound.
    pub(crate) async fn set(plan: Plan<'_>) -> Result<Self> {
        let far_side = TcpListener::bind("127.0.0.1:0").await.context("listen for the far side")?;
        let rehearsal = Arc::new(Rehearsal::new(&format!("http://{}", far_side.local_addr()?))?);
        let listener = TcpListener::bind(("127.0.0.1", plan.port)).await.context("listen")?;
        let address = listener.local_addr()?;
        let policies = plan.dir.join("policies");
        std::fs::create_dir_all(&policies)?;
        for (name, text) in &plan.policies {
            std::fs::write(policies.join(name), text).with_context(|| format!("write policy {name}"))?;
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).context("the system gives no random bytes")?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let config: Config = serde_json::from_value(json!({
            "api": {"callers": {"stage": {"token": {"env": "STAGE_TOKEN"}, "roles": ["viewer", "approver", "operator"], "groups": ["oncall"]}}},
            "server": {"listen": address.to_string(), "public_url": format!("http://{address}")},
            "store": {"kind": plan.store, "dir": plan.dir.join("data")},
            "keys": {"origin": ORIGIN, "receipt": {"env": "STAGE_RECEIPT"}, "log": {"env": "STAGE_LOG"}, "epoch": EPOCH},
            "policies": {"dir": policies},
            "egress": {"allow_hosts": [far_side.local_addr()?.to_string()]},
            "connectors": rehearsal.connectors(),
        }))?;
        let (receipt_pem, log_pem) = (generate_key_pem()?, generate_key_pem()?);
        let trust_file = trust(&receipt_pem, &log_pem)?;
        let (secrets, api_token) = (rehearsal.clone(), token.clone());
        let lookup = move |name: &str| match name {
            "STAGE_TOKEN" => Some(api_token.clone()),
            "STAGE_RECEIPT" => Some(receipt_pem.clone()),
            "STAGE_LOG" => Some(log_pem.clone()),
            _ => secrets.lookup(name),
        };
        let registry = crate::site::registry();
        let service = Service::start(config, &registry, Arc::new(SystemClock), &lookup).await?;
        tokio::spawn(serve_far_side(far_side, rehearsal.clone()));
        let trust = trust_file.check()?;
        Ok(Self { trust, trust_file, rehearsal, service, listener, token, url: format!("http://{address}") })
    }
}

fn trust(receipt_pem: &str, log_pem: &str) -> Result<TrustFile> {
    let receipt = ReceiptKey::from_pkcs8_pem(receipt_pem, EPOCH)?;
    let log = LogKey::from_pkcs8_pem(ORIGIN, log_pem)?;
    let key = TrustedReceiptKey {
        epoch: EPOCH,
        key_id: receipt.key_id().to_owned(),
        public_key_pem: receipt.public_pem(),
        valid_below: None,
    };
    Ok(TrustFile { log: TrustedLog { vkey: log.vkey() }, receipt_keys: vec![key] })
}

async fn serve_far_side(listener: TcpListener, rehearsal: Arc<Rehearsal>) {
    let router = Router::new().fallback(far_side).with_state(rehearsal);
    // Never ends by itself, and nothing depends on how it ends.
    let _ended = axum::serve(listener, router).await;
}

async fn far_side(State(rehearsal): State<Arc<Rehearsal>>, method: Method, uri: Uri) -> Response {
    let (status, body) = rehearsal.far_side(method.as_str(), uri.path(), SystemClock.now());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if body.is_null() { status.into_response() } else { (status, axum::Json(body)).into_response() }
}
