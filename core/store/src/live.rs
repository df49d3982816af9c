//! What is kept whole in memory: open approvals, grants, owed callbacks, halts. None of them is many.

use std::collections::BTreeMap;
use std::hash::Hash;

use countersign_schemas::{
    Approval, ApprovalId, Grant, GrantId, Halt, HaltScope, OutboxId, SessionId, Timestamp,
};

use crate::codec::Changes;
use crate::{ApprovalWrite, GrantWrite, HaltWrite, OutboxEntry, OutboxWrite};

/// Live state, with everything that was accepted so far.
#[derive(Default)]
pub(crate) struct Live {
    approvals: BTreeMap<ApprovalId, Approval>,
    grants: BTreeMap<GrantId, Grant>,
    outbox: BTreeMap<OutboxId, OutboxEntry>,
    halts: BTreeMap<HaltScope, Halt>,
}

impl Live {
    /// Whether all that these changes end is there; the name of the first that is not.
    pub(crate) fn check(&self, changes: &Changes) -> Result<(), String> {
        let approvals = changes.approvals.iter().map(|write| match write {
            ApprovalWrite::Open(approval) => (&approval.approval_id, true),
            ApprovalWrite::Close(id) => (id, false),
        });
        check_ends(approvals, |id| self.approvals.contains_key(id)).map_err(ToString::to_string)?;
        let grants = changes.grants.iter().map(|write| match write {
            GrantWrite::Give(grant) => (&grant.grant_id, true),
            GrantWrite::Take(id) => (id, false),
        });
        check_ends(grants, |id| self.grants.contains_key(id)).map_err(ToString::to_string)
    }

    pub(crate) fn apply(&mut self, changes: Changes) {
        for write in changes.approvals {
            match write {
                ApprovalWrite::Open(approval) => {
                    self.approvals.insert(approval.approval_id.clone(), *approval);
                }
                ApprovalWrite::Close(id) => {
                    self.approvals.remove(&id);
                }
            }
        }
        for write in changes.grants {
            match write {
                GrantWrite::Give(grant) => {
                    self.grants.insert(grant.grant_id.clone(), grant);
                }
                GrantWrite::Take(id) => {
                    self.grants.remove(&id);
                }
            }
        }
        for write in changes.outbox {
            match write {
                OutboxWrite::Put(entry) => {
                    self.outbox.insert(entry.id.clone(), *entry);
                }
                OutboxWrite::Done(id) => {
                    self.outbox.remove(&id);
                }
            }
        }
        for write in changes.halts {
            match write {
                HaltWrite::Give(halt) => {
                    self.halts.insert(halt.what.clone(), halt);
                }
                HaltWrite::Lift(what) => {
                    self.halts.remove(&what);
                }
            }
        }
    }

    /// Forgets grants that nobody can use any more.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.grants.retain(|_, grant| grant.expires_at > now);
    }

    pub(crate) fn approval(&self, id: &ApprovalId) -> Option<Approval> {
        self.approvals.get(id).cloned()
    }

    /// Oldest first.
    pub(crate) fn approvals(&self) -> Vec<Approval> {
        let mut approvals: Vec<_> = self.approvals.values().cloned().collect();
        approvals.sort_by_key(|approval| approval.opened_at);
        approvals
    }

    pub(crate) fn grant(&self, session: &SessionId, action_hash: &str, now: Timestamp) -> Option<Grant> {
        let fits = |grant: &&Grant| {
            grant.session_id == *session && grant.action_hash == action_hash && grant.expires_at > now
        };
        self.grants.values().find(fits).cloned()
    }

    /// Oldest first.
    pub(crate) fn outbox(&self, wanted: impl Fn(&OutboxEntry) -> bool) -> Vec<OutboxEntry> {
        let mut entries: Vec<_> = self.outbox.values().filter(|entry| wanted(entry)).collect();
        entries.sort_by_key(|entry| entry.created_at);
        entries.into_iter().cloned().collect()
    }

    pub(crate) fn halts(&self) -> Vec<Halt> {
        self.halts.values().cloned().collect()
    }

    /// Open approvals, callbacks, and how many of them are dead.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let dead = self.outbox.values().filter(|entry| entry.dead).count();
        (self.approvals.len(), self.outbox.len() - dead, dead)
    }
}

/// Whether everything that ends is there when it ends: from before, or begun earlier in the same commit. The first
/// that is not, otherwise.
fn check_ends<'c, Id: Ord + Hash>(
    writes: impl Iterator<Item = (&'c Id, bool)>,
    was_there: impl Fn(&Id) -> bool,
) -> Result<(), &'c Id> {
    let mut there = BTreeMap::new();
    for (id, begins) in writes {
        if !begins && !there.get(id).copied().unwrap_or_else(|| was_there(id)) {
            return Err(id);
        }
        there.insert(id, begins);
    }
    Ok(())
}
