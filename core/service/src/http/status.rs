//! For the platform: is it alive, is it ready, what does it count.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use crate::metrics;

/// Alive: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: it decides. Says what is in the way, if something is.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let health = app.pipeline.store.health();
    let mut waits: Vec<String> = health.stopped.iter().map(|why| format!("store: {why}")).collect();
    waits.extend(app.keys.missing().iter().map(|url| format!("signing keys of {url} have not arrived")));
    if app.pipeline.is_draining() {
        waits.push("shutting down".into());
    }
    let status = if waits.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let policies = app.pipeline.policies.load();
    let body = json!({
        "ready": waits.is_empty(),
        "problems": waits,
        "log": {"size": health.size, "indexLag": health.index_lag},
        "policies": {"bundleSha256": policies.bundle_sha256(), "count": policies.len()},
        "callbacks": {"owed": health.outbox, "dead": health.dead_letters},
    });
    (status, Json(body)).into_response()
}

/// Prometheus text.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let text = metrics::render(&app.routes, &app.pipeline.store.health(), app.pipeline.load());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
