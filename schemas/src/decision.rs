//! What policy says, and what the vendor was told.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::GrantScope;

/// AARM's five decisions (R4). There is no default: whoever has none says DENY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// The action runs unchanged.
    Allow,
    /// The action has no effect.
    Deny,
    /// The action runs with other parameters.
    Modify,
    /// A person must approve it first.
    StepUp,
    /// Something has to be learnt first.
    Defer,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Allow, Self::Deny, Self::Modify, Self::StepUp, Self::Defer];

    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Modify => "MODIFY",
            Self::StepUp => "STEP_UP",
            Self::Defer => "DEFER",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad it would be, as the policy's author put it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Low.
    Low,
    /// Medium: what a policy has when its author said nothing.
    #[default]
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// A policy that had a say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// The policy's `@id`.
    pub id: String,
    /// SHA-256 of the policy's canonical JSON form, lower hex.
    pub sha256: String,
    /// The policy's `@version`, if its author gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What the engine decided and why. A pure function of policies, action, context and time made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Who must approve, when the verdict is STEP_UP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
    /// SHA-256 of the policy bundle, lower hex; empty when no bundle was asked (overload, unreadable input).
    pub bundle_sha256: String,
    /// What is missing, when the verdict is DEFER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferral: Option<Deferral>,
    /// The parameters to run with, when the verdict is MODIFY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Map<String, Value>>,
    /// The policies that decided, in the order of their ids.
    #[serde(default)]
    pub policies: Vec<PolicyRef>,
    /// For people: the vendor, the agent and the approver may be shown it.
    pub reason: String,
    /// The highest severity among the policies that decided.
    #[serde(default)]
    pub severity: Severity,
    /// The decision.
    pub verdict: Verdict,
}

impl Decision {
    /// A DENY that no policy made: overload, lateness, unreadable input, our own fault.
    #[must_use]
    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            approval: None,
            bundle_sha256: String::new(),
            deferral: None,
            modified: None,
            policies: Vec::new(),
            reason: reason.into(),
            severity: Severity::Medium,
            verdict: Verdict::Deny,
        }
    }
}

/// Who must approve and for how long we wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRule {
    /// People or groups, for example `group:oncall`.
    pub approvers: Vec<String>,
    /// Who is asked besides when nobody has answered for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
    /// What an approver may permit beyond one retry.
    #[serde(default, skip_serializing_if = "GrantLimit::is_once")]
    pub grant: GrantLimit,
    /// What a silence means; DENY unless the policy says STEP_UP (from a deferral).
    pub on_timeout: Verdict,
    /// How many different approvers must agree.
    pub quorum: u32,
    /// How long we wait, in whole seconds.
    pub timeout_seconds: u64,
}

impl ApprovalRule {
    /// How long we wait.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

/// Who is asked besides, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// Seconds after the question was put.
    pub after_seconds: u64,
    /// People or groups, for example `group:managers`.
    pub approvers: Vec<String>,
}

/// What an approver may permit beyond one retry, as the policy's `@grant` says. One retry is always possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantLimit {
    /// The same action for the rest of the session.
    pub session: bool,
    /// The same action in any session of the same requester, for so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
}

impl GrantLimit {
    /// Whether one retry is all there is.
    #[must_use]
    pub fn is_once(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an approver may permit this much.
    #[must_use]
    pub fn permits(self, scope: GrantScope) -> bool {
        match scope {
            GrantScope::Once => true,
            GrantScope::Session => self.session,
            GrantScope::Window => self.window_seconds.is_some(),
        }
    }

    /// What both permit.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            session: self.session && other.session,
            window_seconds: self.window_seconds.zip(other.window_seconds).map(|(a, b)| a.min(b)),
        }
    }
}

/// Why a decision had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeferralKind {
    /// A policy asked for context that is not there yet.
    MissingContext,
    /// Policies of the same priority disagree.
    Conflict,
    /// A signal's confidence is below the policy's threshold.
    Confidence,
    /// A policy says `@decision("defer")`.
    Policy,
}

/// What is missing and which policies miss it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deferral {
    /// Why.
    pub kind: DeferralKind,
    /// Dotted context paths, or the policy's `@defer_needs`.
    pub needs: Vec<String>,
    /// The policies that could not be evaluated, or that disagree.
    pub policies: Vec<String>,
    /// How long we wait before the answer is DENY, in whole seconds.
    pub timeout_seconds: u64,
}

/// What a vendor's protocol was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Expressed {
    /// Go on. Where the dialect tells the two apart this is *no objection*, unless the operator chose a grant.
    Allow,
    /// Do not.
    Deny,
    /// Go on with other parameters.
    Modify,
    /// The vendor's own "ask a person".
    StepUp,
    /// The vendor's own "wait".
    Defer,
    /// Acknowledged; the decision follows by callback.
    Held,
}

impl Expressed {
    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Modify => "MODIFY",
            Self::StepUp => "STEP_UP",
            Self::Defer => "DEFER",
            Self::Held => "HELD",
        }
    }
}

/// What the vendor was told, and why that differs from what was decided, if it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expression {
    /// Why the vendor was told something else than what was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// What the vendor was told.
    pub expressed: Expressed,
    /// The reason as told.
    pub reason: String,
}
