//! Break-glass over the API: operators only.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use countersign_schemas::{BreakGlass, BreakGlassId, HaltScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::api::{DoneView, parse};
use super::error::ApiError;
use crate::break_glass::BreakGlassError;
use crate::config::Role;

/// A break-glass to open.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BreakGlassBody {
    /// Why. It stands in every receipt.
    pub reason: String,
    /// For how long, in seconds; at most a day.
    pub seconds: u64,
    /// Whom it covers.
    pub what: HaltScope,
}

pub(crate) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Json<Vec<BreakGlass>>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    Ok(Json(app.pipeline.store.break_glasses().await?))
}

pub(crate) async fn open(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Json<BreakGlassBody>, JsonRejection>,
) -> Result<Json<DoneView>, ApiError> {
    let by = app.callers.require(&headers, &app, Role::Operator)?.name;
    let Json(BreakGlassBody { reason, seconds, what }) = body?;
    let at = app.pipeline.clock.now();
    let glass = BreakGlass {
        at,
        break_glass_id: BreakGlassId::at(at),
        by,
        expires_at: at.after(Duration::from_secs(seconds)),
        reason,
        what,
    };
    let receipt_id = app.pipeline.open_break_glass(glass).await?;
    Ok(Json(DoneView { receipt_id }))
}

pub(crate) async fn end(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<DoneView>, ApiError> {
    let by = app.callers.require(&headers, &app, Role::Operator)?.name;
    let id = parse::<BreakGlassId>(&id)?;
    let receipt_id = app.pipeline.end_break_glass(&id, &by).await?;
    Ok(Json(DoneView { receipt_id }))
}

impl From<BreakGlassError> for ApiError {
    fn from(error: BreakGlassError) -> Self {
        let (status, code) = match &error {
            BreakGlassError::NoReason | BreakGlassError::Time => (StatusCode::BAD_REQUEST, "bad_body"),
            BreakGlassError::NotOpen(_) => (StatusCode::NOT_FOUND, "not_open"),
            BreakGlassError::Record(_) | BreakGlassError::Store(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "store")
            }
        };
        Self::new(status, code, error.to_string())
    }
}
