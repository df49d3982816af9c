//! How a question ended: its receipt, and what follows from it, in one commit.

use std::time::Duration;

use countersign_schemas::{
    Approval, ApprovalAnswer, ApprovalView, Context, Decision, DeferralView, Expressed, Expression, Grant,
    GrantId, GrantScope, OutboxId, PendingKind, ReceiptId, ReceiptKind, Refused, Timestamp, Verdict,
};
use countersign_sdk::Said;
use countersign_sdk::parse::sha256_hex;
use countersign_store::{
    ApprovalWrite, Commit, CommitError, GrantWrite, NewLeaf, OutboxEntry, OutboxWrite, SessionState,
    SessionWrite,
};

use super::{ATTEMPTS_MAX, AnswerError, TIMEOUT, WITHDRAWN, approvers, next_question};
use crate::changes::Ended;
use crate::connect::{Route, Routes};
use crate::evidence::{self, Chain, Draft, EvidenceError, Fingerprint};
use crate::pipeline::Pipeline;

/// A permission for a session ends with the day, also when the session does not.
const SESSION_GRANT: Duration = Duration::from_secs(24 * 3600);
/// Refusals that a session remembers; the oldest is forgotten first.
const REFUSED_MAX: usize = 32;

impl Pipeline {
    /// Writes the resolution: receipt, end of the question, grant or callback, at once.
    pub(super) async fn settle(
        &self,
        routes: &Routes,
        approval: &Approval,
        answer: &ApprovalAnswer,
    ) -> Result<ReceiptId, AnswerError> {
        let session_id = &approval.action.session.id;
        let not_open = || AnswerError::NotOpen(approval.approval_id.clone());
        let next = next_question(approval, answer);
        for _ in 0..ATTEMPTS_MAX {
            let state = self.store.session(session_id).await?;
            // Read after the session's state: whoever settled it meanwhile has also moved the session on.
            if self.store.approval(&approval.approval_id).await?.is_none() {
                return Err(not_open());
            }
            let draft = self.resolution(approval, answer, next.as_ref());
            let receipt_id = draft.predicate.receipt_id.clone();
            let mut chain = Chain::of(session_id.clone(), &state);
            let mut commit = Commit {
                leaves: vec![self.seal_own(&mut chain, draft)?],
                session: Some(remember(&state, approval, answer)),
                ..Commit::default()
            };
            match &next {
                Some(next) => commit.approvals.push(ApprovalWrite::Open(Box::new(next.clone()))),
                None => {
                    commit.approvals.push(ApprovalWrite::Close(approval.approval_id.clone()));
                    let route = routes.get(&approval.action.source.connector);
                    self.consequence(route.map(AsRef::as_ref), approval, answer, &receipt_id, &mut commit);
                }
            }
            match self.store.commit(commit).await {
                Ok(_) => {
                    match next {
                        Some(_) => self.changes.opened(&approval.approval_id),
                        None => self.changes.ended(&approval.approval_id, ended(approval, answer)),
                    }
                    return Ok(receipt_id);
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::NotOpen(_)) => return Err(not_open()),
                Err(error) => return Err(AnswerError::Commit(error)),
            }
        }
        Err(AnswerError::Commit(CommitError::Conflict))
    }

    /// Signs a receipt that no vendor's request led to: its subject is the empty request.
    pub(super) fn seal_own(&self, chain: &mut Chain, draft: Draft) -> Result<NewLeaf, EvidenceError> {
        self.notary.seal(chain, draft, &sha256_hex(b""))
    }

    /// What a settled question changes: the vendor is called back, or the agent may go on.
    pub(crate) fn consequence(
        &self,
        route: Option<&Route>,
        approval: &Approval,
        answer: &ApprovalAnswer,
        receipt_id: &ReceiptId,
        commit: &mut Commit,
    ) {
        let held = route.and_then(Route::held).filter(|_| approval.held);
        if let Some(held) = held {
            let expressed = if answer.approved { Expressed::Allow } else { Expressed::Deny };
            let said = Said {
                action: Some(&approval.action),
                expression: Expression { degraded: None, expressed, reason: reason(approval, answer) },
                modified: None,
                receipt_id: Some(receipt_id.clone()),
                ticket: Some(approval.approval_id.clone()),
                verdict: if answer.approved { Verdict::Allow } else { Verdict::Deny },
            };
            let entry = OutboxEntry {
                attempts: 0,
                callback: held.callback(&approval.action, &said).0,
                connector: approval.action.source.connector.clone(),
                created_at: answer.at,
                dead: false,
                id: OutboxId::at(answer.at),
                last_error: None,
                next_at: answer.at,
                receipt_id: receipt_id.clone(),
            };
            commit.outbox.push(OutboxWrite::Put(Box::new(entry)));
        }
        // A callback lets one run through; more than that is a grant like any other.
        if answer.approved && (held.is_none() || answer.scope != GrantScope::Once) {
            commit.grants.push(GrantWrite::Give(Grant {
                action_hash: approval.action_hash.clone(),
                action_id: approval.action.action_id.clone(),
                agent: approval.action.identity.agent.id.clone(),
                approval_id: approval.approval_id.clone(),
                expires_at: self.grant_ends(approval, answer),
                given_at: answer.at,
                grant_id: GrantId::at(answer.at),
                scope: answer.scope,
                session_id: approval.action.session.id.clone(),
            }));
        }
    }

    fn grant_ends(&self, approval: &Approval, answer: &ApprovalAnswer) -> Timestamp {
        let window = || {
            let limit = approval.rule.as_ref().map(|rule| rule.grant).unwrap_or_default();
            Duration::from_secs(limit.window_seconds.unwrap_or(0))
        };
        answer.at.after(match answer.scope {
            GrantScope::Once => self.limits.grant(),
            GrantScope::Session => SESSION_GRANT,
            GrantScope::Window => window(),
        })
    }

    /// The resolution's receipt. It keeps the identity and the bundle of the decision that made the action wait.
    /// `next` is the question as it stays open, if it does.
    pub(crate) fn resolution(
        &self,
        approval: &Approval,
        answer: &ApprovalAnswer,
        next: Option<&Approval>,
    ) -> Draft {
        let action = &approval.action;
        let fingerprint = Fingerprint::of(action);
        let epoch = self.notary.epoch();
        let mut predicate =
            evidence::blank(ReceiptKind::Resolution, epoch, answer.at, &action.source, Some(&action.session));
        let verdict = match (next, answer.approved) {
            (Some(_), _) => Verdict::StepUp,
            (None, true) => Verdict::Allow,
            (None, false) => Verdict::Deny,
        };
        let expressed = match (approval.held || approval.holds_until.is_some(), verdict) {
            (true, Verdict::StepUp) => Expressed::Held,
            (_, Verdict::Allow) => Expressed::Allow,
            _ => Expressed::Deny,
        };
        let expression = Expression { degraded: None, expressed, reason: reason(approval, answer) };
        let decision = Decision { verdict, modified: None, ..approval.decision.clone() };
        predicate.action = Some(evidence::action_view(action, &fingerprint, None));
        predicate.decision = Some(evidence::decision_view(&decision, &expression, Some(&fingerprint), 0));
        predicate.identity = Some(evidence::identity_view(&action.identity));
        predicate.parent = Some(approval.receipt_id.clone());
        predicate.policy = evidence::policy_view(&decision);
        predicate.vendor.delivery_id.clone_from(&action.delivery_id);
        match approval.kind {
            PendingKind::Approval => predicate.approval = Some(approval_view(approval, answer, next)),
            PendingKind::Deferral => {
                predicate.deferral = deferral_view(approval, answer);
                predicate.approval = next.map(|next| ApprovalView {
                    approvers: approvers(next),
                    expires_at: Some(next.expires_at),
                    ..ApprovalView::of(next.approval_id.clone())
                });
            }
        }
        let mut disclosed = evidence::disclosed_action(action, None);
        disclosed.comment.clone_from(&answer.comment);
        disclosed.told = evidence::told(&decision, &expression);
        Draft { disclosed, predicate }
    }
}

fn approval_view(approval: &Approval, answer: &ApprovalAnswer, next: Option<&Approval>) -> ApprovalView {
    let quorum = approval.rule.as_ref().map(|rule| rule.quorum).filter(|quorum| *quorum > 1);
    let asked = ApprovalView {
        approvers: approvers(next.unwrap_or(approval)),
        expires_at: Some(approval.expires_at),
        quorum,
        ..ApprovalView::of(approval.approval_id.clone())
    };
    // Nobody has said anything: further approvers are asked.
    if next.is_some() && answer.channel == TIMEOUT {
        return ApprovalView { at: Some(answer.at), channel: Some(TIMEOUT.to_owned()), ..asked };
    }
    ApprovalView {
        approved: Some(answer.approved),
        approved_by: if quorum.is_some() { approval.approved_by.clone() } else { Vec::new() },
        approver: Some(answer.approver.clone()),
        asked_at: answer.asked_at,
        assurance: answer.assurance.clone(),
        at: Some(answer.at),
        channel: Some(answer.channel.clone()),
        scope: (answer.approved && next.is_none()).then_some(answer.scope),
        ..asked
    }
}

fn deferral_view(approval: &Approval, answer: &ApprovalAnswer) -> Option<DeferralView> {
    let deferral = approval.deferral.as_ref()?;
    let method = match answer.channel.as_str() {
        TIMEOUT | WITHDRAWN => answer.channel.clone(),
        _ => format!("operator {}", answer.approver),
    };
    Some(DeferralView {
        approval_id: approval.approval_id.clone(),
        kind: deferral.kind,
        method: Some(method),
        needs: deferral.needs.clone(),
        policies: deferral.policies.clone(),
        resolved_at: Some(answer.at),
    })
}

/// The session's next state: a person's no is remembered until the question would have ended, so that asking again
/// does not ask them again.
fn remember(state: &SessionState, approval: &Approval, answer: &ApprovalAnswer) -> SessionWrite {
    let mut context = state.context.clone();
    if !answer.approved && ![TIMEOUT, WITHDRAWN].contains(&answer.channel.as_str()) {
        let mut folded: Context = serde_json::from_slice(&context).unwrap_or_default();
        folded.refused.retain(|refused| refused.until > answer.at);
        if folded.refused.len() >= REFUSED_MAX {
            folded.refused.remove(0);
        }
        folded.refused.push(Refused {
            action_hash: approval.action_hash.clone(),
            approval_id: approval.approval_id.clone(),
            until: approval.expires_at,
        });
        // A Context holds maps with string keys only, which always serialise.
        context = serde_json::to_vec(&folded).unwrap_or_default().into();
    }
    SessionWrite { context, expected_version: state.version, id: approval.action.session.id.clone() }
}

/// What those learn who wait for the answer.
pub(crate) fn ended(approval: &Approval, answer: &ApprovalAnswer) -> Ended {
    Ended { approved: answer.approved, reason: reason(approval, answer) }
}

fn reason(approval: &Approval, answer: &ApprovalAnswer) -> String {
    let ticket = &approval.approval_id;
    match (answer.approved, answer.channel.as_str()) {
        (true, _) if approval.approved_by.len() > 1 => {
            format!("approved by {} (ticket {ticket})", approval.approved_by.join(", "))
        }
        (true, _) => format!("approved by {} (ticket {ticket})", answer.approver),
        (false, TIMEOUT) => format!("nobody answered in time (ticket {ticket})"),
        (false, WITHDRAWN) => format!("the session ended before anybody answered (ticket {ticket})"),
        (false, _) => format!("refused by {} (ticket {ticket})", answer.approver),
    }
}
