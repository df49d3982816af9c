//! What a session has done so far, as policies see it. Bounded: a window of the last actions and a summary.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActionId, Effect, ReceiptId, Timestamp, Verdict};

/// The folded state of one session. Small enough to be written with every commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    /// Decisions made so far.
    pub action_count: u64,
    /// Of these, how many were DENY.
    pub denied_count: u64,
    /// How often each effect was allowed.
    pub effects: BTreeMap<String, u64>,
    /// Outcomes that reported an error.
    pub failed_count: u64,
    /// Data labels touched so far, sorted.
    pub labels: Vec<String>,
    /// When the first event came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// SHA-256 of the user's first request, lower hex. Absent until a prompt was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// The user's first request, cut to a bound. Absent until a prompt was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How many requests the user made.
    pub requests: u64,
    /// The last actions, oldest first.
    pub recent: Vec<PriorAction>,
    /// When the session ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// One earlier action of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriorAction {
    /// Which action, so that its outcome can be joined.
    pub action_id: ActionId,
    /// When it was decided.
    pub at: Timestamp,
    /// What kind of thing it did.
    pub effect: Effect,
    /// The receipt of its decision; whoever made the receipt fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
    /// Canonical tool.
    pub tool: String,
    /// What was decided.
    pub verdict: Verdict,
}
