//! Risk signals of one action: AARM R2 and R7, as numbers that policies compare.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Degree;

/// What was measured about an action before it was decided. `docs/context.md` says how each number is made, what it
/// costs and when it is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Risk {
    /// How much of what a decision should rest on is known: 1 is all of it.
    pub confidence: Degree,
    /// 1 - cosine between the request and the action in words. Absent while no request is known, like the other
    /// three numbers of drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<Degree>,
    /// The weighted mean of distance, effect gap and scope expansion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Degree>,
    /// How much more the action does than the verbs of the request grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_gap: Option<Degree>,
    /// How many ranks the data of this call stands above everything the session has touched so far: 0 to 4.
    pub escalation: u32,
    /// The share of the action's resources that neither the request nor an earlier action named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_expansion: Option<Degree>,
    /// An effect that never before followed the last one in this session, which has made at least eight actions.
    pub unusual: bool,
}
