//! The open questions in order, so that a page looks at those it shows and not at all of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_schemas::{Approval, ApprovalId, Degree, Severity, Timestamp};
use countersign_store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A long queue's order is made anew no more often than this, however many look and however fast questions come. What a
/// page shows of a question is always read when it is shown.
const FRESH_FOR: Duration = Duration::from_millis(500);
/// A queue that is no longer costs less than a page.
const LONG: usize = 500;

/// Alike questions: one agent of one person asks for the same tool, and the same policies want a person.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The worst first; never empty.
    pub(crate) members: Vec<ApprovalId>,
}

/// The worst first: by the policy's severity, then by drift from what was asked for, then by when silence becomes DENY.
type Rank = (Reverse<Severity>, Reverse<Degree>, Timestamp, ApprovalId);

/// The groups, the worst first.
#[derive(Default)]
pub(crate) struct Board(Mutex<Option<Kept>>);

struct Kept {
    at: Instant,
    groups: Arc<Vec<Group>>,
    /// Leaves in the log and open questions: what moves when a question does.
    seen: (u64, usize),
}

impl Board {
    /// The groups as of now; in a long queue, as of half a second ago at most.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    pub(crate) async fn groups(&self, store: &dyn Store) -> Result<Arc<Vec<Group>>, StoreError> {
        let mut kept = self.0.lock().await;
        let health = store.health();
        let seen = (health.size, health.approvals);
        if let Some(kept) = &*kept
            && (kept.seen == seen || health.approvals > LONG && kept.at.elapsed() < FRESH_FOR)
        {
            return Ok(kept.groups.clone());
        }
        let mut open = Vec::with_capacity(health.approvals);
        store.each_approval(&mut |approval| open.push((rank(approval), alike(approval))))?;
        let groups = Arc::new(grouped(open));
        *kept = Some(Kept { at: Instant::now(), groups: groups.clone(), seen });
        Ok(groups)
    }
}

impl Group {
    /// The question that stands for the group.
    pub(crate) fn first(&self) -> Option<&ApprovalId> {
        self.members.first()
    }
}

fn rank(approval: &Approval) -> Rank {
    let drift = approval.risk.as_ref().and_then(|risk| risk.drift).unwrap_or_default();
    (Reverse(approval.decision.severity), Reverse(drift), approval.expires_at, approval.approval_id.clone())
}

/// The same for questions that are alike. One from before this was kept is like no other.
fn alike(approval: &Approval) -> String {
    match approval.alike.as_str() {
        "" => approval.approval_id.to_string(),
        alike => alike.to_owned(),
    }
}

/// In the order of rank, a group stands where its worst member does.
fn grouped(mut open: Vec<(Rank, String)>) -> Vec<Group> {
    open.sort_unstable();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for ((.., id), alike) in open {
        let at = *places.entry(alike).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.members.push(id),
            None => groups.push(Group { members: vec![id] }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_group_is_first_and_its_worst_question_stands_for_it() {
        let id = |name: &str| ApprovalId::derived(&[name]);
        let open = |severity, at, name, alike: &str| {
            ((Reverse(severity), Reverse(Degree::ZERO), Timestamp(at), id(name)), alike.to_owned())
        };
        let groups = grouped(vec![
            open(Severity::Low, 1, "low", "c"),
            open(Severity::High, 9, "late", "a"),
            open(Severity::High, 2, "soon", "b"),
            open(Severity::Critical, 8, "worst", "a"),
        ]);
        let want = [vec![id("worst"), id("late")], vec![id("soon")], vec![id("low")]];
        assert_eq!(want.to_vec(), groups.into_iter().map(|group| group.members).collect::<Vec<_>>());
    }
}
