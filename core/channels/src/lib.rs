//! Where approvers are asked and answer, one file per kind of channel. A channel translates and never decides: who
//! may answer and what follows is the service's alone.

pub mod ciba;
pub mod email;
pub mod slack;
pub mod teams;
pub mod webhook;

use countersign_sdk::channel::ChannelSpec;
use countersign_sdk::http::Answer;
use countersign_sdk::{CallError, ConnectError, FetchError};
use serde_json::Value;

/// Every kind of channel this program has, in the order in which they are listed to people.
#[must_use]
pub fn all() -> Vec<ChannelSpec> {
    vec![
        ChannelSpec::of::<slack::Slack>(),
        ChannelSpec::of::<teams::Teams>(),
        ChannelSpec::of::<email::Email>(),
        ChannelSpec::of::<webhook::Webhook>(),
        ChannelSpec::of::<ciba::Ciba>(),
    ]
}

/// A settings key whose value makes no sense.
fn wrong(key: &str, problem: impl Into<String>) -> ConnectError {
    ConnectError::Value { key: key.to_owned(), problem: problem.into() }
}

/// A call that did not reach its server: only a host that may not be called will never be reached.
fn unreached(error: FetchError) -> CallError {
    match error {
        FetchError::HostNotAllowed(_) | FetchError::Url(_) => CallError::Permanent(error.to_string()),
        other => CallError::Retry(other.to_string()),
    }
}

/// The JSON of an answer whose status is a success. 408, 429 and 5xx may pass; any other refusal stays one.
fn accepted(answer: &Answer) -> Result<Value, CallError> {
    if answer.is_success() {
        return Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null));
    }
    let problem = format!("answered {}", answer.status);
    let passing = answer.status >= 500 || matches!(answer.status, 408 | 429);
    Err(if passing { CallError::Retry(problem) } else { CallError::Permanent(problem) })
}

/// A text of a channel's own JSON.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}
