//! A policy as the engine holds it: what Cedar does not know about it.

use countersign_schemas::{ApprovalRule, Effect, PolicyRef, Severity, Verdict};
use serde::{Deserialize, Serialize};

use crate::index::Scope;
use crate::modify::Edit;
use crate::reads::Reads;

/// `@class`: whether anything can outrank the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyClass {
    /// Nothing overrides it, whatever its priority.
    Forbidden,
    /// The best priority decides.
    #[default]
    Context,
}

/// A policy, as people may want it listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInfo {
    /// `@class`.
    pub class: PolicyClass,
    /// The source it came from.
    pub file: String,
    /// `@id`.
    pub id: String,
    /// Line in the source, from 1.
    pub line: usize,
    /// `@priority`; lower wins.
    pub priority: u32,
    /// Dotted paths of the context that it reads.
    pub reads: Vec<String>,
    /// `@reason`; empty on a permit without one.
    pub reason: String,
    /// `@severity`.
    pub severity: Severity,
    /// SHA-256 of its canonical JSON form (RFC 8785 over Cedar's JSON policy format), lower hex.
    pub sha256: String,
    /// What it decides.
    pub verdict: Verdict,
    /// `@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl PolicyInfo {
    /// How receipts name it.
    #[must_use]
    pub fn to_ref(&self) -> PolicyRef {
        PolicyRef { id: self.id.clone(), sha256: self.sha256.clone(), version: self.version.clone() }
    }
}

/// What a policy wants done, with everything that takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Allow,
    Deny,
    Modify(Edit),
    StepUp(ApprovalRule),
    Defer(Wait),
}

impl Outcome {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Deny => Verdict::Deny,
            Self::Modify(_) => Verdict::Modify,
            Self::StepUp(_) => Verdict::StepUp,
            Self::Defer(_) => Verdict::Defer,
        }
    }
}

/// What a `@decision("defer")` waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wait {
    /// Who is asked when nobody supplied it in time; DENY when nobody is named.
    pub(crate) escalation: Option<ApprovalRule>,
    pub(crate) needs: Vec<String>,
    pub(crate) timeout_seconds: u64,
}

/// A validated policy.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) info: PolicyInfo,
    pub(crate) outcome: Outcome,
    pub(crate) reads: Reads,
    pub(crate) scope: Scope,
}

/// Which of the twelve effects: one bit each, in the order of [`Effect::ALL`].
pub(crate) fn bit(effect: Effect) -> u16 {
    1 << slot(effect)
}

/// Place of an effect in [`Effect::ALL`].
pub(crate) fn slot(effect: Effect) -> u8 {
    Effect::ALL.iter().zip(0..).find(|(candidate, _)| **candidate == effect).map_or(0, |(_, slot)| slot)
}
