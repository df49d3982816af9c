//! The web console: what waits for a person, what was decided, and the proof of it. Server-rendered; the page's one
//! script only refreshes what is shown and moves the focus. It translates between people and the one pipeline, and
//! decides nothing.

mod account;
mod assets;
mod board;
mod connectors;
mod cookie;
mod guard;
mod halts;
mod layout;
mod live;
mod login;
mod oidc;
mod plot;
mod policies;
mod proof;
mod question;
mod queue;
mod receipt;
mod receipts;
mod refusal;
mod settings;
mod timeline;
mod traffic;
mod visit;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Redirect;
use axum::routing::{get, post};
use countersign_receipt::{LogKey, ReceiptKey, Trust, TrustFile, TrustedLog, TrustedReceiptKey};
use countersign_schemas::Timestamp;
use countersign_sdk::http::Egress;
use countersign_sdk::{Registry, Site};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use crate::config::{Config, Problem, connector_kind, settings_of};
use crate::connect::Routes;
use crate::http::App;
use account::Account;
use board::Board;
use oidc::Oidc;
use traffic::Traffic;
use visit::Visits;

pub(crate) use traffic::LOOK_EVERY;

pub use settings::{BootstrapSettings, ConsoleSettings, OidcSettings};

/// Pages that refresh themselves at once; each holds a connection.
const WATCHERS_MAX: usize = 1_000;

/// What the console knows besides the pipeline.
pub(crate) struct Console {
    account: Option<Account>,
    board: Board,
    /// What to do on the vendor's side, as HTML, by instance.
    guides: BTreeMap<String, String>,
    oidc: Option<Oidc>,
    /// This installation, as people call it.
    site: String,
    /// Whose signatures the page believes: our own keys, as configured.
    trust: Trust,
    traffic: Traffic,
    visits: Visits,
    watchers: Arc<Semaphore>,
}

/// What the console's handlers share.
#[derive(Clone)]
pub(crate) struct Desk {
    app: App,
    console: Arc<Console>,
}

impl Console {
    /// Puts the console together, if it is enabled.
    ///
    /// # Errors
    ///
    /// Every [`Problem`] of `[console]`.
    pub(crate) fn new(
        config: &Config,
        registry: &Registry,
        egress: &Egress,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let settings = &config.console;
        if !settings.enabled {
            return Ok(None);
        }
        let mut problems = Vec::new();
        let mut problem = |at: &str, why: String| problems.push(Problem { at: at.into(), problem: why });
        let account = settings.bootstrap.as_ref().map(|account| Account::new(account, lookup)).transpose();
        let account = account.unwrap_or_else(|error| {
            problem("console.bootstrap.password", error.to_string());
            None
        });
        let public_url = &config.server.public_url;
        let oidc = settings.oidc.as_ref().map(|oidc| Oidc::new(oidc, public_url, egress, lookup)).transpose();
        let oidc = oidc.unwrap_or_else(|error| {
            problem("console.oidc", error.to_string());
            None
        });
        if !is_safe(public_url) {
            problem(
                "server.public_url",
                "must begin with https:// for the console, or be on loopback".into(),
            );
        }
        if settings.bootstrap.is_none() && settings.oidc.is_none() {
            problem("console", "nobody could sign in: give `console.oidc`, or `console.bootstrap`".into());
        }
        let trust = trust(config, lookup).unwrap_or_else(|why| {
            problem("keys", why);
            None
        });
        match trust.filter(|_| problems.is_empty()) {
            Some(trust) => Ok(Some(Self {
                account,
                board: Board::default(),
                guides: guides(config, registry),
                oidc,
                site: public_url.split_once("://").map_or(public_url.as_str(), |(_, host)| host).to_owned(),
                trust,
                traffic: Traffic::default(),
                visits: Visits::new(settings.idle(), settings.life()),
                watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            })),
            None => Err(problems),
        }
    }
}

/// Whether a session's cookie stays between the browser and us.
fn is_safe(public_url: &str) -> bool {
    let Ok(url) = Url::parse(public_url) else { return false };
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

impl Console {
    /// Looks at what the connectors have counted. Called every [`LOOK_EVERY`] by a task of the service.
    pub(crate) fn look(&self, routes: &Routes, now: Timestamp) {
        self.traffic.look(routes, now);
    }
}

/// Our own public keys, as an auditor's trust file would have them.
fn trust(config: &Config, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Trust>, String> {
    let keys = &config.keys;
    let receipt = keys.receipt.read(lookup).map_err(|error| error.to_string())?;
    let receipt =
        ReceiptKey::from_pkcs8_pem(receipt.expose(), keys.epoch).map_err(|error| error.to_string())?;
    let log = keys.log.read(lookup).map_err(|error| error.to_string())?;
    let log = LogKey::from_pkcs8_pem(&keys.origin, log.expose()).map_err(|error| error.to_string())?;
    let key = TrustedReceiptKey {
        epoch: keys.epoch,
        key_id: receipt.key_id().to_owned(),
        public_key_pem: receipt.public_pem(),
        valid_below: None,
    };
    let file = TrustFile { log: TrustedLog { vkey: log.vkey() }, receipt_keys: vec![key] };
    file.check().map(Some).map_err(|error| error.to_string())
}

/// Every configured connector's setup steps.
fn guides(config: &Config, registry: &Registry) -> BTreeMap<String, String> {
    let guide = |(name, section): (&String, &Value)| {
        let spec = registry.get(connector_kind(name, section))?;
        let site = Site {
            instance: name.clone(),
            public_url: config.server.public_url.clone(),
            settings: section.as_object().map(settings_of).map_or(Value::Null, Value::Object),
        };
        Some((name.clone(), connectors::markdown(&(spec.setup)(&site))))
    };
    config.connectors.iter().filter_map(guide).collect()
}

impl Desk {
    fn now(&self) -> Timestamp {
        self.app.pipeline.clock.now()
    }

    /// Whether browsers reach us by https. Plain http is for loopback.
    fn https(&self) -> bool {
        self.app.config.server.public_url.starts_with("https://")
    }
}

/// The console's pages, all below `/console`.
pub(crate) fn router(app: App, console: Arc<Console>) -> Router {
    Router::new()
        .route("/console", get(|| async { Redirect::to("/console/queue") }))
        .route("/console/", get(|| async { Redirect::to("/console/queue") }))
        .route("/console/static/{name}", get(assets::serve))
        .route("/console/login", get(login::page).post(login::password))
        .route("/console/login/oidc", get(login::oidc))
        .route(oidc::CALLBACK, get(login::callback))
        .route("/console/logout", post(login::sign_out))
        .route("/console/events", get(live::events))
        .route("/console/queue", get(queue::page))
        .route("/console/queue/answer", post(question::answer))
        .route("/console/receipts", get(receipts::page))
        .route("/console/receipts/{id}", get(receipt::page))
        .route("/console/sessions/{id}", get(timeline::page))
        .route("/console/connectors", get(connectors::page))
        .route("/console/policies", get(policies::page))
        .route("/console/halt", get(halts::page).post(halts::give))
        .route("/console/halt/lift", post(halts::lift))
        .layer(map_response(guard::headers))
        .with_state(Desk { app, console })
}
