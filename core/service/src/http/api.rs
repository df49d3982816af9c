//! The operators' side: extract, call, convert. Who may call what is in [`Callers`].

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use countersign_schemas::{ApprovalId, GrantScope, Halt, HaltScope, ReceiptId, Timestamp};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{Inbound, SecretError};
use countersign_store::{OutboxEntry, StoredLeaf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::App;
use super::error::ApiError;
use crate::approval::{Answer, Approver, Resolved};
use crate::config::{ApiSettings, CallerSettings, Role};
use crate::export::{self, Filter};
use crate::fatigue::{self, FatigueFigures};

/// How far back figures go when nobody says: thirty days.
const FIGURES_MS: i64 = 30 * 86_400_000;

/// Who may call the API.
pub(crate) struct Callers {
    bearers: Bearers,
    callers: BTreeMap<String, CallerSettings>,
}

impl Callers {
    /// Reads every caller's token.
    ///
    /// # Errors
    ///
    /// The caller's name and what is wrong with its token.
    pub(crate) fn new(
        settings: &ApiSettings,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<(String, SecretError)>> {
        let (mut tokens, mut problems) = (Vec::new(), Vec::new());
        for (name, caller) in &settings.callers {
            match caller.token.read(lookup) {
                Ok(token) => tokens.push((name.clone(), token)),
                Err(error) => problems.push((name.clone(), error)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { bearers: Bearers::new(tokens), callers: settings.callers.clone() })
    }

    pub(super) fn require(&self, headers: &HeaderMap, app: &App, role: Role) -> Result<Approver, ApiError> {
        let now = app.pipeline.clock.now();
        let request = Inbound::new(String::new(), String::new(), headers.clone(), Bytes::new(), now);
        let unknown = |_| {
            ApiError::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "a bearer token of `[api.callers]` is needed",
            )
        };
        let name = self.bearers.check(&request).map_err(unknown)?.to_owned();
        let caller = self.callers.get(&name).filter(|caller| caller.roles.contains(&role));
        let caller = caller.ok_or_else(|| {
            let message = format!("`{name}` does not have the role {role:?}").to_lowercase();
            ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
        })?;
        Ok(Approver {
            assurance: "api_token".into(),
            channel: "api".into(),
            groups: caller.groups.clone(),
            identities: caller.identities.clone(),
            name,
        })
    }
}

/// One receipt, for people and programs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptView {
    /// Its leaf's index in the log.
    pub index: u64,
    /// The signed statement, decoded.
    pub statement: Value,
    /// The personal part, when it is kept and the caller may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disclosed: Option<Value>,
    /// The DSSE envelope: the exact leaf.
    pub envelope: Value,
}

/// An answer to a question.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerBody {
    /// What the approver wants to say about it.
    pub comment: Option<String>,
    /// How far an approval reaches, as far as the policy's `@grant` permits.
    pub scope: GrantScope,
}

/// What an answer led to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerView {
    /// How many agree so far.
    pub approved: usize,
    /// How many have to.
    pub quorum: u32,
    /// The receipt of this answer.
    pub receipt_id: ReceiptId,
    /// Whether it is settled.
    pub settled: bool,
}

/// A halt to give or lift.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltBody {
    /// What it stops.
    pub what: HaltScope,
    /// Why.
    pub reason: String,
}

/// The receipt of something that was done.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoneView {
    /// It.
    pub receipt_id: ReceiptId,
}

pub(crate) async fn approvals(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    Ok(Json(app.pipeline.store.approvals().await?).into_response())
}

pub(crate) async fn approval(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let id = parse::<ApprovalId>(&id)?;
    let found = app.pipeline.store.approval(&id).await?;
    let found = found
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "not_open", format!("`{id}` is not open")))?;
    Ok(Json(found).into_response())
}

/// Since when figures are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Since {
    since: Option<Timestamp>,
}

pub(crate) async fn figures(
    State(app): State<App>,
    headers: HeaderMap,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Json<FatigueFigures>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let Query(Since { since }) = since?;
    let since = since.unwrap_or_else(|| Timestamp(app.pipeline.clock.now().0 - FIGURES_MS));
    Ok(Json(fatigue::figures(&*app.pipeline.store, since).await?))
}

pub(crate) async fn approve(
    app: State<App>,
    headers: HeaderMap,
    id: Path<String>,
    body: Option<Json<AnswerBody>>,
) -> Result<Json<AnswerView>, ApiError> {
    answer(app, headers, id, body, true).await
}

pub(crate) async fn deny(
    app: State<App>,
    headers: HeaderMap,
    id: Path<String>,
    body: Option<Json<AnswerBody>>,
) -> Result<Json<AnswerView>, ApiError> {
    answer(app, headers, id, body, false).await
}

async fn answer(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Option<Json<AnswerBody>>,
    approved: bool,
) -> Result<Json<AnswerView>, ApiError> {
    let approver = app.callers.require(&headers, &app, Role::Approver)?;
    let Json(AnswerBody { comment, scope }) = body.unwrap_or_default();
    let answer = Answer { approved, asked_at: None, comment, scope };
    let resolved = app.pipeline.resolve(&app.routes, &parse(&id)?, &approver, &answer).await?;
    Ok(Json(match resolved {
        Resolved::Settled(receipt_id) => {
            AnswerView { approved: usize::from(approved), quorum: 1, receipt_id, settled: true }
        }
        Resolved::Counted { approved, quorum, receipt_id } => {
            AnswerView { approved, quorum, receipt_id, settled: false }
        }
    }))
}

pub(crate) async fn callbacks(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Json<Vec<OutboxEntry>>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    Ok(Json(app.pipeline.store.outbox().await?))
}

pub(crate) async fn checkpoint(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let head = app.pipeline.store.checkpoint().await?;
    let head = head.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "empty", "the log is empty"))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], head.note).into_response())
}

pub(crate) async fn halts(State(app): State<App>, headers: HeaderMap) -> Result<Json<Vec<Halt>>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    Ok(Json(app.pipeline.store.halts().await?))
}

pub(crate) async fn halt(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Json<HaltBody>, JsonRejection>,
) -> Result<Json<DoneView>, ApiError> {
    let by = app.callers.require(&headers, &app, Role::Operator)?.name;
    let Json(body) = body?;
    let halt = Halt { at: app.pipeline.clock.now(), by, reason: body.reason, what: body.what };
    done(app.pipeline.halt(halt).await)
}

pub(crate) async fn lift(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Json<HaltBody>, JsonRejection>,
) -> Result<Json<DoneView>, ApiError> {
    let by = app.callers.require(&headers, &app, Role::Operator)?.name;
    let Json(body) = body?;
    done(app.pipeline.lift(body.what, by, body.reason).await)
}

fn done(receipt: Result<ReceiptId, String>) -> Result<Json<DoneView>, ApiError> {
    let receipt_id =
        receipt.map_err(|problem| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store", problem))?;
    Ok(Json(DoneView { receipt_id }))
}

pub(crate) async fn reload(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    app.callers.require(&headers, &app, Role::Operator)?;
    let changed = app.pipeline.reload(&app.config.policies).await;
    let changed = changed
        .map_err(|problem| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_policies", problem))?;
    Ok(Json(changed).into_response())
}

pub(crate) async fn receipts(
    State(app): State<App>,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<ReceiptView>>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let Query(filter) = filter?;
    let query =
        filter.query().map_err(|problem| ApiError::new(StatusCode::BAD_REQUEST, "bad_filter", problem))?;
    let found = app.pipeline.store.find(&query).await?;
    Ok(Json(found.iter().map(|leaf| receipt_view(leaf, false)).collect()))
}

pub(crate) async fn receipt(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<ReceiptView>, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let id = parse::<ReceiptId>(&id)?;
    let found = app.pipeline.store.receipt(&id).await?;
    let found = found
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("no receipt `{id}`")))?;
    Ok(Json(receipt_view(&found, true)))
}

pub(crate) async fn export(
    State(app): State<App>,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, ApiError> {
    app.callers.require(&headers, &app, Role::Viewer)?;
    let Query(filter) = filter?;
    let lines = export::stream(app.pipeline.store.clone(), filter).await;
    let lines = lines.map_err(|problem| ApiError::new(StatusCode::BAD_REQUEST, "bad_filter", problem))?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// An id out of a path.
pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error: T::Err| ApiError::new(StatusCode::BAD_REQUEST, "bad_id", error.to_string()))
}

/// A leaf, decoded. `disclose` adds the personal part.
#[must_use]
pub fn receipt_view(leaf: &StoredLeaf, disclose: bool) -> ReceiptView {
    let statement = export::statement_of(&leaf.bytes);
    let disclosed = leaf.disclosure.as_deref().filter(|_| disclose);
    let disclosed = disclosed.and_then(|text| countersign_receipt::open_disclosure(text).ok());
    ReceiptView {
        disclosed: disclosed.and_then(|content| serde_json::to_value(content).ok()),
        envelope: serde_json::from_slice(&leaf.bytes).unwrap_or_default(),
        index: leaf.index,
        statement,
    }
}
