//! The vendors' side: take the request off the wire, hand it to the pipeline, put the answer on the wire.

use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use countersign_sdk::{Inbound, Reply};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use super::App;

/// A client that takes longer than this to send its request is not one of the vendors.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Bodies up to this size do not count against the shared buffer.
const SMALL_BODY: usize = 64 << 10;

pub(crate) async fn bare(
    app: State<App>,
    Path(instance): Path<String>,
    query: RawQuery,
    request: Request,
) -> Response {
    take(app, instance, String::new(), query, request).await
}

pub(crate) async fn below(
    app: State<App>,
    Path((instance, path)): Path<(String, String)>,
    query: RawQuery,
    request: Request,
) -> Response {
    take(app, instance, path, query, request).await
}

async fn take(
    State(app): State<App>,
    instance: String,
    path: String,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let received = Instant::now();
    let Some(route) = app.routes.get(&instance) else {
        return refuse(StatusCode::NOT_FOUND, "no such hook; check the URL registered with the vendor");
    };
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(route.budget.min(READ_TIMEOUT), read_body(&app, body)).await;
    let (body, _buffered) = match read.unwrap_or(Err(Unread::Slow)) {
        Ok(body) => body,
        Err(problem) => {
            route.metrics.unread();
            info!(connector = %instance, "denied a request that could not be taken in: {problem}");
            return respond(route.deny_unread(&problem.to_string()));
        }
    };
    let received_at = app.pipeline.clock.now();
    let inbound = Inbound::new(path, query.unwrap_or_default(), parts.headers, body, received_at);
    match app.pipeline.answer(route, inbound, received).await {
        Ok(reply) => respond(reply),
        Err(error) => {
            info!(connector = %instance, reason = error.code(), "refused an unverified request: {error}");
            refuse(StatusCode::UNAUTHORIZED, &error.to_string())
        }
    }
}

/// Why a request could not be taken in.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the request was cut off")]
    CutOff,
    #[error("the body is larger than `limits.body_bytes`")]
    TooLarge,
    #[error("too many large bodies at once")]
    Full,
    #[error("the request took too long to arrive")]
    Slow,
}

/// Reads the body, up to the configured size. Large bodies share one bounded buffer, because they are read before
/// anybody is verified.
async fn read_body(app: &App, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Unread> {
    let mut stream = body.into_data_stream();
    let mut buffer = BytesMut::new();
    let mut permit: Option<OwnedSemaphorePermit> = None;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Unread::CutOff)?;
        let size = buffer.len() + chunk.len();
        if size > app.config.limits.body_bytes {
            return Err(Unread::TooLarge);
        }
        if size > SMALL_BODY {
            let more = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let taken = app.buffers.clone().try_acquire_many_owned(more).map_err(|_| Unread::Full)?;
            match &mut permit {
                Some(permit) => permit.merge(taken),
                None => permit = Some(taken),
            }
        }
        if buffer.is_empty() && stream.is_end_stream() {
            return Ok((chunk, permit));
        }
        buffer.extend_from_slice(&chunk);
    }
    Ok((buffer.freeze(), permit))
}

fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let content_type = HeaderValue::from_str(&reply.content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    (status, [(header::CONTENT_TYPE, content_type)], reply.body).into_response()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let code = status.canonical_reason().unwrap_or("refused").to_ascii_lowercase().replace(' ', "_");
    (status, axum::Json(json!({"error": {"code": code, "message": message}}))).into_response()
}
