//! Questions put to people, the answers, and what an answer permits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, ActionId, ApprovalId, ApprovalRule, BreakGlassId, Decision, Deferral, GrantId, PriorAction,
    ReceiptId, Risk, SessionId, Timestamp, Trend,
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
    /// The same for questions that can be answered together: equal connector, requester, tool and policies. SHA-256,
    /// lower hex.
    #[serde(default)]
    pub alike: String,
    /// The ticket.
    pub approval_id: ApprovalId,
    /// What the session had done before.
    #[serde(default)]
    pub context: ApprovalContext,
    /// What the policy said.
    pub decision: Decision,
    /// When further approvers were asked, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_at: Option<Timestamp>,
    /// When silence becomes DENY.
    pub expires_at: Timestamp,
    /// Whether the vendor is still waiting for a callback.
    pub held: bool,
    /// Until when the agent's own call is kept waiting for the answer. After that the agent has to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_until: Option<Timestamp>,
    /// What it waits for.
    pub kind: PendingKind,
    /// When it began to wait.
    pub opened_at: Timestamp,
    /// The receipt of the decision that made it wait.
    pub receipt_id: ReceiptId,
    /// How risky it looked when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Whether the vendor keeps the session for this answer, as after a native DEFER: its end then withdraws nothing.
    #[serde(default)]
    pub resumable: bool,
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

impl Approval {
    /// When something happens to it by itself: further approvers are asked, or silence becomes DENY.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        self.escalates_at().map_or(self.expires_at, |at| at.min(self.expires_at))
    }

    /// When further approvers are asked, unless they have been.
    #[must_use]
    pub fn escalates_at(&self) -> Option<Timestamp> {
        let rule =
            self.rule.as_ref().filter(|_| self.kind == PendingKind::Approval && self.escalated_at.is_none());
        let after = rule?.escalation.as_ref()?.after_seconds;
        Some(self.opened_at.after(std::time::Duration::from_secs(after)))
    }
}

/// What an approver must know of the session in which an action waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApprovalContext {
    /// Decisions made before this one.
    pub action_count: u64,
    /// Of these, how many were DENY.
    pub denied_count: u64,
    /// The drift before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Trend>,
    /// Data labels touched before this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The last actions, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<PriorAction>,
    /// The user's first request, cut to a bound. Absent when none was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the user said later, the newest last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub later_requests: String,
    /// Whether something from outside was read before this one.
    pub untrusted: bool,
}

/// How a question was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalAnswer {
    /// Who answered; `timeout` when nobody did.
    pub approver: String,
    /// When the approver was shown the question, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// How the channel made sure who answered, for example `oidc+mfa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<String>,
    /// When.
    pub at: Timestamp,
    /// True for yes.
    pub approved: bool,
    /// The channel, for example `cli`.
    pub channel: String,
    /// What the approver wrote, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How far the permission reaches, when it is a yes.
    #[serde(default)]
    pub scope: GrantScope,
}

/// How far a grant reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantScope {
    /// One retry.
    #[default]
    Once,
    /// The same action for the rest of the session.
    Session,
    /// The same action in any session of the same requester, until it ends.
    Window,
}

impl GrantScope {
    /// Every scope, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Once, Self::Session, Self::Window];

    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::Window => "window",
        }
    }
}

/// Permission to run one exact action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The action that was approved.
    pub action_id: ActionId,
    /// What may run: see [`crate::action_hash`].
    pub action_hash: String,
    /// The agent that asked; the person is part of the hash. Empty in grants of before this was kept.
    #[serde(default)]
    pub agent: String,
    /// The question that was answered.
    pub approval_id: ApprovalId,
    /// When it ends, used or not.
    pub expires_at: Timestamp,
    /// When it was given.
    #[serde(default)]
    pub given_at: Timestamp,
    /// Its name.
    pub grant_id: GrantId,
    /// How far it reaches.
    #[serde(default)]
    pub scope: GrantScope,
    /// The session in which it was asked for. Only a [`GrantScope::Window`] reaches beyond it.
    pub session_id: SessionId,
}

/// A time in which policies that ask are answered with yes, and receipts say so. A forbid still is a DENY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {
    /// When it began.
    pub at: Timestamp,
    /// Its name.
    pub break_glass_id: BreakGlassId,
    /// Who opened it.
    pub by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Whom it covers.
    pub what: HaltScope,
}

/// What a halt stops, or a break-glass covers.
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
