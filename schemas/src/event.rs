//! What a connector makes of one verified delivery. One delivery may carry several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Action, ActionId, Identity, SessionRef, Source, Timestamp};

/// Something a vendor told us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Asks for a decision.
    Action(Box<Action>),
    /// An action ended.
    Outcome(Outcome),
    /// What the user asked for.
    Intent(Intent),
    /// A session began.
    SessionStart(SessionBoundary),
    /// A session ended.
    SessionEnd(SessionBoundary),
    /// Something happened that we did not mediate.
    Observation(Observation),
    /// The vendor tries whether we are there.
    Ping,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// It ran and reported success.
    Succeeded,
    /// It ran and reported an error.
    Failed,
    /// Somebody stopped it.
    Interrupted,
}

/// An action ended. The output itself is not kept: its digest and size are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The action that ended.
    pub action_id: ActionId,
    /// The vendor's id of the call, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// How long it ran, when the vendor says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The error text; personal data may be in it, so it goes into the disclosure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who acted.
    pub identity: Identity,
    /// The output, for detectors to look at. Never written anywhere.
    #[serde(skip)]
    pub output: Option<Value>,
    /// Size of the output in bytes.
    pub output_bytes: u64,
    /// SHA-256 of the output as the vendor sent it, lower hex.
    pub output_sha256: String,
    /// The session it belongs to.
    pub session: SessionRef,
    /// Where it came from.
    pub source: Source,
    /// How it ended.
    pub status: OutcomeStatus,
    /// When we learnt of it.
    pub timestamp: Timestamp,
    /// The tool's raw name, when the vendor repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// What the user asked for. The text is personal data: it goes into the disclosure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Who asked.
    pub identity: Identity,
    /// False for text that a machine put in the user's place, such as Claude Code's `<task-notification>`.
    pub by_human: bool,
    /// The session it belongs to.
    pub session: SessionRef,
    /// Where it came from.
    pub source: Source,
    /// The request.
    pub text: String,
    /// When we learnt of it.
    pub timestamp: Timestamp,
}

/// A session began or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionBoundary {
    /// Who acts in it.
    pub identity: Identity,
    /// The vendor's word for why, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which session.
    pub session: SessionRef,
    /// Where it came from.
    pub source: Source,
    /// When we learnt of it.
    pub timestamp: Timestamp,
}

/// Something happened that we did not mediate, or that we only watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Who acted.
    pub identity: Identity,
    /// What happened, in the vendor's field names.
    #[serde(default)]
    pub details: Map<String, Value>,
    /// The session it belongs to.
    pub session: SessionRef,
    /// Where it came from.
    pub source: Source,
    /// When we learnt of it.
    pub timestamp: Timestamp,
}
