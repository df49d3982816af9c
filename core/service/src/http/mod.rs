//! HTTP: one line per route.

mod api;
mod break_glass;
mod channels;
mod error;
mod hooks;
mod openapi;
mod server;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get, post};
use countersign_sdk::jwks::KeySets;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::connect::Routes;
use crate::console::{self, Console};
use crate::notify::Notifier;
use crate::pipeline::Pipeline;

pub use break_glass::BreakGlassBody;
pub use openapi::document as openapi;
pub use server::serve;

pub(crate) use api::Callers;
pub use api::{AnswerBody, AnswerView, DoneView, HaltBody, ReceiptView, receipt_view};

/// What handlers share.
#[derive(Clone)]
pub struct App {
    pub(crate) buffers: Arc<Semaphore>,
    pub(crate) callers: Arc<Callers>,
    pub(crate) config: Arc<Config>,
    pub(crate) console: Option<Arc<Console>>,
    pub(crate) keys: Arc<KeySets>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) routes: Arc<Routes>,
}

/// Every route of the program. [`openapi`] lists the same ones, but those of the console, which are for people; a test
/// holds that.
pub fn router(app: App) -> Router {
    let console = app.console.clone().map(|console| console::router(app.clone(), console));
    let router = Router::new()
        .route("/hooks/{instance}", any(hooks::bare))
        .route("/hooks/{instance}/{*path}", any(hooks::below))
        .route("/channels/{name}", any(channels::bare))
        .route("/channels/{name}/{*path}", any(channels::below))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::serve))
        .route("/v1/approvals", get(api::approvals))
        .route("/v1/approvals/figures", get(api::figures))
        .route("/v1/approvals/{id}", get(api::approval))
        .route("/v1/approvals/{id}/approve", post(api::approve))
        .route("/v1/approvals/{id}/deny", post(api::deny))
        .route("/v1/break-glass", get(break_glass::list).post(break_glass::open))
        .route("/v1/break-glass/{id}/end", post(break_glass::end))
        .route("/v1/callbacks", get(api::callbacks))
        .route("/v1/checkpoint", get(api::checkpoint))
        .route("/v1/export", get(api::export))
        .route("/v1/halts", get(api::halts).post(api::halt))
        .route("/v1/halts/lift", post(api::lift))
        .route("/v1/policies/reload", post(api::reload))
        .route("/v1/receipts", get(api::receipts))
        .route("/v1/receipts/{id}", get(api::receipt))
        .with_state(app);
    console.into_iter().fold(router, Router::merge)
}
