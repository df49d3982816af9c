//! Tells others: pure projections of receipts. A projection is for reading and searching; the evidence is the receipt,
//! and `countersign verify` takes an export of receipts, never one of these.
//!
//! - [`ocsf::events`]: Open Cybersecurity Schema Framework, for security platforms.
//! - [`csv::row`]: RFC 4180, for people with a spreadsheet.
//!
//! What stands in clear in the signed leaf is projected. What the leaf only commits to, and what it carries inline, is
//! projected when [`Projection::disclosed`] is given, and not otherwise.

pub mod csv;
pub mod ocsf;

use countersign_receipt::leaf_hash;
use countersign_schemas::{ActionId, Disclosed, PolicyRef, Predicate};

/// One receipt and its place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// The personal part. `None` keeps it out of the projection, whatever the receipt's disclosure mode is.
    pub disclosed: Option<&'a Disclosed>,
    /// The exact text of the leaf.
    pub envelope: &'a str,
    /// Index of the leaf.
    pub index: u64,
    /// The log's name, the first line of its checkpoints.
    pub origin: &'a str,
    /// What the envelope's statement says.
    pub predicate: &'a Predicate,
}

impl<'a> Projection<'a> {
    /// RFC 6962 hash of the leaf, lower hex: what an inclusion proof is about.
    fn leaf_hash(&self) -> String {
        hex::encode(leaf_hash(self.envelope.as_bytes()))
    }

    /// The action that the receipt is about, or whose end it reports.
    fn action_id(&self) -> Option<&'a ActionId> {
        let action = self.predicate.action.as_ref().map(|action| &action.action_id);
        action.or(self.predicate.outcome.as_ref().map(|outcome| &outcome.action_id))
    }

    /// The vendor's id of the call.
    fn call_id(&self) -> Option<&'a str> {
        let action = self.predicate.action.as_ref().and_then(|action| action.call_id.as_deref());
        action.or(self.predicate.outcome.as_ref().and_then(|outcome| outcome.call_id.as_deref()))
    }

    /// The policies that decided.
    fn matched(&self) -> &'a [PolicyRef] {
        self.predicate.policy.as_ref().map_or(&[], |policy| &policy.matched)
    }

    /// Why, in words for people.
    fn reason(&self) -> Option<&'a str> {
        let Predicate { decision, gap, halt, policy_change, .. } = self.predicate;
        let decision = decision.as_ref().map(|decision| &decision.reason);
        let gap = gap.as_ref().map(|gap| &gap.reason);
        let halt = halt.as_ref().map(|halt| &halt.reason);
        let change = policy_change.as_ref().and_then(|change| change.error.as_ref());
        decision.or(gap).or(halt).or(change).map(String::as_str)
    }
}
