//! What is kept whole in memory: open approvals, grants, owed callbacks, halts, break-glasses. None of them is many, and
//! what a decision asks for is looked up, never searched for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use countersign_schemas::{
    Approval, ApprovalId, BreakGlass, BreakGlassId, Grant, GrantId, GrantScope, Halt, HaltScope, OutboxId,
    SessionId, Timestamp,
};

use crate::codec::Changes;
use crate::{ApprovalWrite, BreakGlassWrite, GrantWrite, HaltWrite, OutboxEntry, OutboxWrite};

/// Live state, with everything that was accepted so far.
#[derive(Default)]
pub(crate) struct Live {
    questions: Questions,
    grants: Grants,
    outbox: BTreeMap<OutboxId, OutboxEntry>,
    halts: BTreeMap<HaltScope, Halt>,
    break_glasses: BTreeMap<BreakGlassId, BreakGlass>,
}

impl Live {
    /// Whether all that these changes end is there; the name of the first that is not.
    pub(crate) fn check(&self, changes: &Changes) -> Result<(), String> {
        let approvals = changes.approvals.iter().map(|write| match write {
            ApprovalWrite::Open(approval) => (&approval.approval_id, true),
            ApprovalWrite::Close(id) => (id, false),
        });
        check_ends(approvals, |id| self.questions.all.contains_key(id)).map_err(ToString::to_string)?;
        let grants = changes.grants.iter().map(|write| match write {
            GrantWrite::Give(grant) => (&grant.grant_id, true),
            GrantWrite::Take(id) => (id, false),
        });
        check_ends(grants, |id| self.grants.all.contains_key(id)).map_err(ToString::to_string)?;
        let break_glasses = changes.break_glasses.iter().map(|write| match write {
            BreakGlassWrite::Open(glass) => (&glass.break_glass_id, true),
            BreakGlassWrite::End(id) => (id, false),
        });
        check_ends(break_glasses, |id| self.break_glasses.contains_key(id)).map_err(ToString::to_string)
    }

    pub(crate) fn apply(&mut self, changes: Changes) {
        for write in changes.approvals {
            match write {
                ApprovalWrite::Open(approval) => self.questions.put(*approval),
                ApprovalWrite::Close(id) => self.questions.remove(&id),
            }
        }
        for write in changes.grants {
            match write {
                GrantWrite::Give(grant) => self.grants.put(grant),
                GrantWrite::Take(id) => self.grants.remove(&id),
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
        for write in changes.break_glasses {
            match write {
                BreakGlassWrite::Open(glass) => {
                    self.break_glasses.insert(glass.break_glass_id.clone(), glass);
                }
                BreakGlassWrite::End(id) => {
                    self.break_glasses.remove(&id);
                }
            }
        }
    }

    /// Forgets grants that nobody can use any more.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.grants.expire(now);
    }

    pub(crate) fn approval(&self, id: &ApprovalId) -> Option<Arc<Approval>> {
        self.questions.all.get(id).cloned()
    }

    /// In no order.
    pub(crate) fn approvals(&self) -> Vec<Arc<Approval>> {
        self.questions.all.values().cloned().collect()
    }

    /// In no order.
    pub(crate) fn questions(&self, session: &SessionId, action_hash: Option<&str>) -> Vec<Arc<Approval>> {
        let Some(hashes) = self.questions.by_session.get(session) else { return Vec::new() };
        let of = |ids: &BTreeSet<ApprovalId>| -> Vec<_> {
            ids.iter().filter_map(|id| self.questions.all.get(id).cloned()).collect()
        };
        match action_hash {
            Some(hash) => hashes.get(hash).map(of).unwrap_or_default(),
            None => hashes.values().flat_map(of).collect(),
        }
    }

    /// The most overdue first.
    pub(crate) fn due_questions(&self, now: Timestamp, limit: usize) -> Vec<Arc<Approval>> {
        let due = self.questions.by_due.iter().take_while(|(at, _)| *at <= now).take(limit);
        due.filter_map(|(_, id)| self.questions.all.get(id).cloned()).collect()
    }

    /// The widest first, and of equals the one that ends first.
    pub(crate) fn grants(&self, session: &SessionId, action_hash: &str, now: Timestamp) -> Vec<Grant> {
        let ids = self.grants.by_hash.get(action_hash).into_iter().flatten();
        let fits = |grant: &&Grant| {
            let reaches = grant.scope == GrantScope::Window || grant.session_id == *session;
            reaches && grant.expires_at > now
        };
        let mut grants: Vec<_> = ids.filter_map(|id| self.grants.all.get(id)).filter(fits).cloned().collect();
        grants.sort_by_key(|grant| (Reverse(grant.scope), grant.expires_at));
        grants
    }

    pub(crate) fn is_granted(&self, questions: &[ApprovalId], now: Timestamp) -> bool {
        self.grants.all.values().any(|grant| grant.expires_at > now && questions.contains(&grant.approval_id))
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

    pub(crate) fn break_glasses(&self) -> Vec<BreakGlass> {
        self.break_glasses.values().cloned().collect()
    }

    /// Open approvals, callbacks, and how many of them are dead.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let dead = self.outbox.values().filter(|entry| entry.dead).count();
        (self.questions.all.len(), self.outbox.len() - dead, dead)
    }
}

/// Open approvals and deferrals. Shared, so that many can be taken out from under the lock at once.
#[derive(Default)]
struct Questions {
    all: BTreeMap<ApprovalId, Arc<Approval>>,
    by_due: BTreeSet<(Timestamp, ApprovalId)>,
    /// By session and, in it, by the hash of the action.
    by_session: HashMap<SessionId, BTreeMap<String, BTreeSet<ApprovalId>>>,
}

impl Questions {
    fn put(&mut self, approval: Approval) {
        let id = &approval.approval_id;
        self.remove(id);
        self.by_due.insert((approval.due_at(), id.clone()));
        let hashes = self.by_session.entry(approval.action.session.id.clone()).or_default();
        hashes.entry(approval.action_hash.clone()).or_default().insert(id.clone());
        self.all.insert(id.clone(), Arc::new(approval));
    }

    fn remove(&mut self, id: &ApprovalId) {
        let Some(approval) = self.all.remove(id) else { return };
        self.by_due.remove(&(approval.due_at(), id.clone()));
        let session = &approval.action.session.id;
        let Some(hashes) = self.by_session.get_mut(session) else { return };
        drop_from(hashes, &approval.action_hash, id);
        if hashes.is_empty() {
            self.by_session.remove(session);
        }
    }
}

fn drop_from(map: &mut BTreeMap<String, BTreeSet<ApprovalId>>, hash: &str, id: &ApprovalId) {
    let Some(ids) = map.get_mut(hash) else { return };
    ids.remove(id);
    if ids.is_empty() {
        map.remove(hash);
    }
}

/// Grants that were given and neither used up nor dropped.
#[derive(Default)]
struct Grants {
    all: BTreeMap<GrantId, Grant>,
    by_hash: HashMap<String, BTreeSet<GrantId>>,
}

impl Grants {
    fn put(&mut self, grant: Grant) {
        self.by_hash.entry(grant.action_hash.clone()).or_default().insert(grant.grant_id.clone());
        self.all.insert(grant.grant_id.clone(), grant);
    }

    fn remove(&mut self, id: &GrantId) {
        let Some(grant) = self.all.remove(id) else { return };
        let Some(ids) = self.by_hash.get_mut(&grant.action_hash) else { return };
        ids.remove(id);
        if ids.is_empty() {
            self.by_hash.remove(&grant.action_hash);
        }
    }

    fn expire(&mut self, now: Timestamp) {
        let expired = self.all.values().filter(|grant| grant.expires_at <= now);
        let expired: Vec<_> = expired.map(|grant| grant.grant_id.clone()).collect();
        expired.iter().for_each(|id| self.remove(id));
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
