//! The one place where an error becomes a status and a code.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::approval::AnswerError;
use countersign_store::{CommitError, StoreError};

/// What an API call failed with. `code` is for programs and never changes meaning; the message is for people.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) status: StatusCode,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        (self.status, Json(body)).into_response()
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "bad_body", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "bad_filter", rejection.body_text())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Range(_) => Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
            StoreError::Stopped(_) | StoreError::Read(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string())
            }
        }
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        let (status, code) = match &error {
            AnswerError::NotOpen(_) => (StatusCode::NOT_FOUND, "not_open"),
            AnswerError::NotAnApprover { .. } => (StatusCode::FORBIDDEN, "not_an_approver"),
            AnswerError::OwnAgent(_) => (StatusCode::FORBIDDEN, "own_agent"),
            AnswerError::Scope(_) => (StatusCode::FORBIDDEN, "scope"),
            AnswerError::Twice(_) => (StatusCode::CONFLICT, "already_approved"),
            AnswerError::Commit(CommitError::Busy | CommitError::Conflict) => (StatusCode::CONFLICT, "busy"),
            AnswerError::Store(_) | AnswerError::Commit(_) | AnswerError::Evidence(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "store")
            }
        };
        Self::new(status, code, error.to_string())
    }
}
