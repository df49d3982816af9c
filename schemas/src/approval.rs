//! Questions put to people, the answers, and what an answer permits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, ActionId, ApprovalId, ApprovalRule, Decision, Deferral, GrantId, ReceiptId, SessionId, Timestamp,
};

/// What an action waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PendingKind {
    /// A person's answer (STEP_UP).
    Approval,
    /// More context (DEFER).
    Deferral,
}

/// An action that waits. Everything an approver must see is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The action, with all its parameters.
    pub action: Action,
    /// What a grant will be bound to.
    pub action_hash: String,
    /// The ticket.
    pub approval_id: ApprovalId,
    /// What the policy said.
    pub decision: Decision,
    /// When silence becomes DENY.
    pub expires_at: Timestamp,
    /// Whether the vendor is still waiting for a callback.
    pub held: bool,
    /// What it waits for.
    pub kind: PendingKind,
    /// When it began to wait.
    pub opened_at: Timestamp,
    /// The receipt of the decision that made it wait.
    pub receipt_id: ReceiptId,
    /// Who may answer; for a deferral, the rule it escalates to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<ApprovalRule>,
    /// What is missing, for a deferral.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferral: Option<Deferral>,
    /// Who has approved so far, until the quorum is met.
    #[serde(default)]
    pub approved_by: Vec<String>,
}

/// How a question was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalAnswer {
    /// Who answered; `timeout` when nobody did.
    pub approver: String,
    /// When.
    pub at: Timestamp,
    /// True for yes.
    pub approved: bool,
    /// The channel, for example `cli`.
    pub channel: String,
    /// What the approver wrote, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// How far a grant reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantScope {
    /// One retry.
    #[default]
    Once,
}

/// Permission to retry one exact action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The action that was approved.
    pub action_id: ActionId,
    /// What may run: see [`crate::action_hash`].
    pub action_hash: String,
    /// The question that was answered.
    pub approval_id: ApprovalId,
    /// When it ends, used or not.
    pub expires_at: Timestamp,
    /// Its name.
    pub grant_id: GrantId,
    /// How far it reaches.
    #[serde(default)]
    pub scope: GrantScope,
    /// Only in this session.
    pub session_id: SessionId,
}

/// What a halt stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum HaltScope {
    /// Everything.
    All,
    /// One agent, by `connector/agent id`.
    Agent(String),
    /// One configured connector.
    Connector(String),
    /// One person, by the vendor's id or e-mail address.
    Human(String),
}

/// An order to deny.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// When it was given.
    pub at: Timestamp,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What it stops.
    pub what: HaltScope,
}
