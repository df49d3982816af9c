//! What a session has done so far, as policies see it. Bounded: a window of the last actions and a summary.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ActionId, ApprovalId, Degree, Effect, OutcomeStatus, ReceiptId, Risk, SessionId, Timestamp, Verdict,
};

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
    /// Data labels touched so far, sorted: those of calls, of outcomes, and of the session that handed the work on.
    pub labels: Vec<String>,
    /// The drift so far. Absent until an action was measured against a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Trend>,
    /// The highest score of hidden instructions in any outcome.
    #[serde(skip_serializing_if = "Degree::is_zero")]
    pub injection: Degree,
    /// Decisions in the minute that `minute_at` begins, and in the one before it.
    #[serde(skip_serializing_if = "is_still")]
    pub minutes: [u32; 2],
    /// When the current minute of `minutes` began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minute_at: Option<Timestamp>,
    /// The session that handed its work to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// Resources that allowed actions used.
    #[serde(skip_serializing_if = "Prior::is_empty")]
    pub named: Prior,
    /// Decisions since a person last said something.
    pub chain: u64,
    /// Pairs of effects that followed each other, one bit each: `12 * first + second`, in the vocabulary's order.
    #[serde(skip_serializing_if = "no_bits")]
    pub pairs: [u64; 3],
    /// Whether something from outside (the web, mail, a stranger's file) was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
    /// What the same person's other sessions did lately. Filled in for a decision and never stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// What was measured about the action to be decided. Filled in for a decision and never stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// When the first event came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// SHA-256 of the user's first request, lower hex. Absent until a prompt was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// The user's first request, cut to a bound. Absent until a prompt was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the user said later, the newest last, cut to a bound from the front.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub later_requests: String,
    /// How many requests the user made.
    pub requests: u64,
    /// The last actions, oldest first.
    pub recent: Vec<PriorAction>,
    /// What a person has refused lately, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// When the session ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// An action that a person has refused, and will not be asked about again for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Which action: see [`crate::action_hash`].
    pub action_hash: String,
    /// The question that was answered.
    pub approval_id: ApprovalId,
    /// Until when.
    pub until: Timestamp,
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
    /// How it ended, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<PriorOutcome>,
    /// Canonical tool.
    pub tool: String,
    /// What was decided.
    pub verdict: Verdict,
}

/// How an earlier action ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriorOutcome {
    /// How long it ran, when the vendor says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Labels of what it returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// SHA-256 of the output, lower hex.
    pub output_sha256: String,
    /// Whether it reported success.
    pub status: OutcomeStatus,
}

/// Resources that earlier actions of a session used, as 52-bit hashes, so that no name can be read from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Prior(pub BTreeSet<u64>);

impl Prior {
    /// Whether nothing was used yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a person's other sessions did in the last hour, at any vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Person {
    /// Decisions that were DENY.
    pub denied_count: u64,
    /// Labels of the data that they touched, sorted.
    pub labels: Vec<String>,
    /// How many there are.
    pub sessions: u64,
    /// Whether any of them read something from outside.
    pub untrusted: bool,
    /// Kinds of the connectors they came through, sorted.
    pub vendors: Vec<String>,
}

/// The drift of a session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Trend {
    /// How many actions were measured.
    pub count: u64,
    /// The exponential moving average of the scores. It begins with the first score.
    pub ema: Degree,
    /// The highest score.
    pub max: Degree,
}

impl Trend {
    /// With one score more. Order matters: fold actions in the order of the session.
    #[must_use]
    pub fn fold(self, score: Degree, alpha: Degree) -> Self {
        let weigh = |weight: Degree, value: Degree| {
            u64::from(weight.ten_thousandths()) * u64::from(value.ten_thousandths())
        };
        let sum = weigh(alpha, score) + weigh(alpha.complement(), self.ema);
        let ema = if self.count == 0 { score } else { Degree::ratio(sum, weigh(Degree::ONE, Degree::ONE)) };
        Self { count: self.count.saturating_add(1), ema, max: self.max.max(score) }
    }
}

fn is_still(minutes: &[u32; 2]) -> bool {
    *minutes == [0, 0]
}

fn no_bits(bits: &[u64; 3]) -> bool {
    *bits == [0; 3]
}
