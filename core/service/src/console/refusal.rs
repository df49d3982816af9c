//! What a page could not do, said to a person.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use countersign_store::{CommitError, StoreError};
use maud::html;

use super::layout;
use crate::approval::AnswerError;
use crate::config::Role;

/// A page was not shown, or a form not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody is signed in, and what was asked for is a page.
    #[error("sign in first")]
    SignIn {
        /// Where to go on afterwards.
        next: String,
    },
    /// Nobody is signed in, and what came is a form.
    #[error("your session has ended and nothing was done: sign in and do it again")]
    Ended,
    /// The person's role does not include it.
    #[error("this takes the role {0}, which your account does not have")]
    Role(&'static str),
    /// The form did not come from one of our pages in this session.
    #[error("the form did not come from this session's page, and nothing was done: open the page again")]
    Forged,
    /// A form or an address cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Too many attempts to sign in.
    #[error("too many attempts to sign in: wait a minute")]
    TooMany,
    /// The question is not the one that was shown.
    #[error("the question has changed since it was shown to you, and nothing was done: read it again")]
    Changed,
    /// The pipeline did not take an answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pipeline could not write.
    #[error("{0}")]
    Write(String),
}

impl Refusal {
    pub(crate) fn role(role: Role) -> Self {
        Self::Role(match role {
            Role::Viewer => "viewer",
            Role::Approver => "approver",
            Role::Operator => "operator",
        })
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::SignIn { .. } | Self::Ended => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::Forged => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Changed => StatusCode::CONFLICT,
            Self::Answer(error) => match error {
                AnswerError::NotOpen(_)
                | AnswerError::Twice(_)
                | AnswerError::Commit(CommitError::Busy | CommitError::Conflict) => StatusCode::CONFLICT,
                AnswerError::NotAnApprover { .. } | AnswerError::OwnAgent(_) | AnswerError::Scope(_) => {
                    StatusCode::FORBIDDEN
                }
                _ => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Store(_) | Self::Write(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::SignIn { .. } | Self::Ended => "Not signed in",
            Self::Role(_) => "Not allowed",
            Self::Answer(
                AnswerError::NotAnApprover { .. } | AnswerError::OwnAgent(_) | AnswerError::Scope(_),
            ) => "Not allowed",
            Self::Forged => "Form refused",
            Self::Malformed(_) => "Cannot be read",
            Self::NotFound(_) => "Not found",
            Self::TooMany => "Too many attempts",
            Self::Answer(AnswerError::NotOpen(_)) => "Already settled",
            Self::Changed | Self::Answer(AnswerError::Twice(_)) => "Nothing was done",
            Self::Answer(_) | Self::Store(_) | Self::Write(_) => "Cannot be done now",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::SignIn { next } = &self {
            let query: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            return Redirect::to(&format!("/console/login?{query}")).into_response();
        }
        let (status, title) = (self.status(), self.title());
        let page = layout::bare(
            title,
            html! {
                h1 { (title) }
                p role="alert" { (self.to_string()) "." }
                p { a class="button" href="/console/" { "Back to the queue" } }
            },
        );
        let mut response = (status, page).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}
