//! Approval fatigue: how much each approver is asked, and whether they still look before they answer.
//!
//! The figures are made of the resolutions in the log, so an auditor comes to the same ones.

use std::collections::{BTreeMap, BTreeSet};

use countersign_schemas::{ApprovalView, Predicate, ReceiptId, ReceiptKind, Statement, Timestamp};
use countersign_store::{Query, Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval::{TIMEOUT, WITHDRAWN};
use crate::export::statement_of;

/// Resolutions that are looked at, the newest first.
const LOOKED_AT_MAX: usize = 10_000;
/// A yes that came sooner was hardly read.
const HASTY_MS: u64 = 3_000;
const DAY_MS: i64 = 86_400_000;

/// What one approver was asked and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApproverFigures {
    /// Who.
    pub approver: String,
    /// Answers that were yes.
    pub approved: u64,
    /// Answers that were no.
    pub refused: u64,
    /// Days (UTC) on which they answered something.
    pub days: u64,
    /// Answers for each such day.
    pub per_day: f64,
    /// Half of the answers came sooner after the question was put, or was shown when the channel knows that; in
    /// milliseconds.
    pub median_ms: u64,
    /// The share of the yeses that came in under three seconds, from 0 to 1.
    pub hasty_share: f64,
}

/// What approvers were asked and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FatigueFigures {
    /// By name.
    pub approvers: Vec<ApproverFigures>,
    /// Questions that nobody answered in time.
    pub timed_out: u64,
    /// Questions that ended with their session.
    pub withdrawn: u64,
}

#[derive(Default)]
struct Tally {
    approved: u64,
    days: BTreeSet<i64>,
    hasty: u64,
    refused: u64,
    took_ms: Vec<u64>,
}

/// The figures since `since`, of at most the newest 10,000 resolutions.
///
/// # Errors
///
/// When the store cannot be read.
pub async fn figures(store: &dyn Store, since: Timestamp) -> Result<FatigueFigures, StoreError> {
    let query = Query {
        kind: Some(ReceiptKind::Resolution),
        limit: LOOKED_AT_MAX,
        since: Some(since),
        ..Query::default()
    };
    let mut figures = FatigueFigures::default();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for leaf in store.find(&query).await? {
        let statement: Option<Statement> = serde_json::from_value(statement_of(&leaf.bytes)).ok();
        let Some(Predicate { approval: Some(view), parent, .. }) = statement.map(|found| found.predicate)
        else {
            continue;
        };
        let (Some(approved), Some(approver), Some(at)) = (view.approved, view.approver.clone(), view.at)
        else {
            continue;
        };
        match approver.as_str() {
            TIMEOUT => figures.timed_out += 1,
            WITHDRAWN => figures.withdrawn += 1,
            _ => {
                let asked = asked_at(store, &view, parent.as_ref()).await?;
                tallies.entry(approver).or_default().count(approved, at, asked);
            }
        }
    }
    figures.approvers = tallies.into_iter().map(|(approver, tally)| tally.figures(approver)).collect();
    Ok(figures)
}

/// When the approver was shown the question; when it was put, if the channel does not know that.
async fn asked_at(
    store: &dyn Store,
    view: &ApprovalView,
    parent: Option<&ReceiptId>,
) -> Result<Option<Timestamp>, StoreError> {
    match (view.asked_at, parent) {
        (Some(at), _) => Ok(Some(at)),
        (None, Some(parent)) => Ok(store.receipt(parent).await?.map(|leaf| leaf.summary.decided_at)),
        (None, None) => Ok(None),
    }
}

impl Tally {
    fn count(&mut self, approved: bool, at: Timestamp, asked: Option<Timestamp>) {
        let took = asked.map(|asked| u64::try_from(asked.until(at).as_millis()).unwrap_or(u64::MAX));
        self.approved += u64::from(approved);
        self.refused += u64::from(!approved);
        self.hasty += u64::from(approved && took.is_some_and(|took| took < HASTY_MS));
        self.days.insert(at.0.div_euclid(DAY_MS));
        self.took_ms.extend(took);
    }

    fn figures(mut self, approver: String) -> ApproverFigures {
        self.took_ms.sort_unstable();
        let days = self.days.len() as u64;
        ApproverFigures {
            approver,
            approved: self.approved,
            refused: self.refused,
            days,
            per_day: share(self.approved + self.refused, days),
            median_ms: self.took_ms.get(self.took_ms.len() / 2).copied().unwrap_or_default(),
            hasty_share: share(self.hasty, self.approved),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of answers are far below 2^53")]
    let (part, whole) = (part as f64, whole as f64);
    if whole > 0.0 { part / whole } else { 0.0 }
}
