//! The approvers' side: a channel's request in, its answer out.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_sdk::Inbound;
use tracing::info;

use super::App;
use super::error::ApiError;
use crate::notify::HearingError;

/// A click carries the message it was made on; Slack's may have some 100 KB.
const BODY_BYTES_MAX: usize = 512 << 10;
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// For the pages behind links: nothing is loaded, framed or sent elsewhere, and the address with its token stays here.
const HEADERS: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

pub(crate) async fn bare(
    app: State<App>,
    Path(name): Path<String>,
    query: RawQuery,
    request: Request,
) -> Response {
    protect(take(app, name, String::new(), query, request).await.into_response())
}

pub(crate) async fn below(
    app: State<App>,
    Path((name, path)): Path<(String, String)>,
    query: RawQuery,
    request: Request,
) -> Response {
    protect(take(app, name, path, query, request).await.into_response())
}

async fn take(
    State(app): State<App>,
    name: String,
    path: String,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(READ_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    let late = |_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request took too long to arrive")
    };
    let large =
        |_| ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "the body is too large");
    let body = read.map_err(late)?.map_err(large)?;
    let now = app.pipeline.clock.now();
    let inbound = Inbound::new(path, query.unwrap_or_default(), parts.headers, body, now);
    let heard = app.notifier.clone().hear(app.pipeline.clone(), app.routes.clone(), &name, inbound).await;
    let reply = heard.map_err(|error| {
        info!(channel = %name.escape_debug(), "refused a request to a channel: {error}");
        match &error {
            // Whether there is such a channel is nobody's business who does not prove anything.
            HearingError::Unknown | HearingError::Unverified(_) => {
                ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string())
            }
            HearingError::Unreadable(_) => {
                ApiError::new(StatusCode::BAD_REQUEST, "bad_body", error.to_string())
            }
        }
    })?;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let content_type = HeaderValue::from_str(&reply.content_type);
    let content_type = content_type.unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    Ok((status, [(header::CONTENT_TYPE, content_type)], reply.body).into_response())
}

fn protect(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
