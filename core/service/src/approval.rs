//! Questions that wait: answered by a person, or by time. Silence is DENY.

use countersign_schemas::{
    Approval, ApprovalAnswer, ApprovalId, ApprovalView, Decision, DeferralView, Expressed, Expression, Grant,
    GrantId, GrantScope, OutboxId, PendingKind, ReceiptId, ReceiptKind, Verdict,
};
use countersign_sdk::Said;
use countersign_sdk::parse::sha256_hex;
use countersign_store::{
    ApprovalWrite, Commit, CommitError, GrantWrite, OutboxEntry, OutboxWrite, SessionState, SessionWrite,
    StoreError,
};
use tracing::{info, warn};

use crate::connect::Routes;
use crate::evidence::{self, Chain, Draft, EvidenceError, Fingerprint};
use crate::pipeline::Pipeline;

/// The channel name of an answer that nobody gave.
const TIMEOUT: &str = "timeout";
const ATTEMPTS_MAX: usize = 64;

/// Who answers, as far as it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The channel, for example `cli`.
    pub channel: String,
    /// Groups, without `group:`.
    pub groups: Vec<String>,
    /// The approver's own ids at the vendors.
    pub identities: Vec<String>,
    /// Who.
    pub name: String,
}

/// What an answer led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It is settled; this receipt says so.
    Settled(ReceiptId),
    /// It counts, but more have to agree.
    Counted {
        /// How many agree so far.
        approved: usize,
        /// How many have to.
        quorum: u32,
    },
}

/// An answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Nobody waits under this ticket (any more).
    #[error("`{0}` is not open: it was answered, timed out, or never asked")]
    NotOpen(ApprovalId),
    /// The policy names others.
    #[error("{name} may not answer this: the policy asks for {wanted}")]
    NotAnApprover {
        /// Who tried.
        name: String,
        /// Whom the policy asks for.
        wanted: String,
    },
    /// Four eyes: nobody approves their own agent.
    #[error("{0} may not approve an action of their own agent")]
    OwnAgent(String),
    /// The same person cannot make up a quorum.
    #[error("{0} has approved this already")]
    Twice(String),
    /// The store cannot answer.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The commit was not made.
    #[error("{0}")]
    Commit(CommitError),
    /// The receipt could not be made.
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
}

impl Pipeline {
    /// Takes a person's answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError`]; nothing has changed then.
    pub async fn resolve(
        &self,
        routes: &Routes,
        id: &ApprovalId,
        approver: &Approver,
        approved: bool,
        comment: Option<String>,
    ) -> Result<Resolved, AnswerError> {
        for _ in 0..ATTEMPTS_MAX {
            let (state, mut approval) = self.open_question(id).await?;
            authorise(&approval, approver, approved)?;
            let quorum = approval.rule.as_ref().map_or(1, |rule| rule.quorum.max(1));
            if approved {
                approval.approved_by.push(approver.name.clone());
            }
            let count = approval.approved_by.len();
            if !approved || u32::try_from(count).unwrap_or(u32::MAX) >= quorum {
                let all = approval.approved_by.join(", ");
                let answer = ApprovalAnswer {
                    approved,
                    approver: if approved { all } else { approver.name.clone() },
                    at: self.clock.now(),
                    channel: approver.channel.clone(),
                    comment,
                };
                return self.settle(routes, &approval, &answer).await.map(Resolved::Settled);
            }
            // Bound to the session's version: a refusal in between must not be undone, nor another approval lost.
            let session = SessionWrite {
                context: state.context,
                expected_version: state.version,
                id: approval.action.session.id.clone(),
            };
            let approvals = vec![ApprovalWrite::Open(Box::new(approval))];
            match self.store.commit(Commit { approvals, session: Some(session), ..Commit::default() }).await {
                Ok(_) => return Ok(Resolved::Counted { approved: count, quorum }),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(AnswerError::Commit(error)),
            }
        }
        Err(AnswerError::Commit(CommitError::Conflict))
    }

    /// An open question and the state of its session, read so that a change to either shows in the session's version.
    /// A question whose time is up is not open, also while nobody has settled it yet.
    async fn open_question(&self, id: &ApprovalId) -> Result<(SessionState, Approval), AnswerError> {
        let not_open = || AnswerError::NotOpen(id.clone());
        let session = self.store.approval(id).await?.ok_or_else(not_open)?.action.session.id;
        let state = self.store.session(&session).await?;
        let approval =
            self.store.approval(id).await?.filter(|approval| approval.expires_at > self.clock.now());
        Ok((state, approval.ok_or_else(not_open)?))
    }

    /// Denies, or escalates, what has waited long enough. Called in short intervals by a task of the service.
    pub async fn expire_approvals(&self, routes: &Routes) {
        let Ok(open) = self.store.approvals().await else { return };
        let now = self.clock.now();
        for approval in open.iter().filter(|approval| approval.expires_at <= now) {
            let answer = ApprovalAnswer {
                approved: false,
                approver: TIMEOUT.into(),
                at: now,
                channel: TIMEOUT.into(),
                comment: None,
            };
            match self.settle(routes, approval, &answer).await {
                Ok(receipt) => {
                    info!(approval.id = %approval.approval_id, receipt.id = %receipt, "nobody answered in time")
                }
                Err(AnswerError::NotOpen(_)) => {}
                Err(error) => {
                    warn!(approval.id = %approval.approval_id, %error, "cannot settle an expired question: {error}")
                }
            }
        }
    }

    /// Writes the resolution: receipt, end of the question, grant or callback, at once.
    async fn settle(
        &self,
        routes: &Routes,
        approval: &Approval,
        answer: &ApprovalAnswer,
    ) -> Result<ReceiptId, AnswerError> {
        let session_id = &approval.action.session.id;
        for _ in 0..ATTEMPTS_MAX {
            let state = self.store.session(session_id).await?;
            // Read after the session's state: whoever settled it meanwhile has also moved the session on.
            if self.store.approval(&approval.approval_id).await?.is_none() {
                return Err(AnswerError::NotOpen(approval.approval_id.clone()));
            }
            let escalated = escalation(approval, answer);
            let draft = self.resolution(approval, answer, escalated.as_ref());
            let receipt_id = draft.predicate.receipt_id.clone();
            let mut chain = Chain::of(session_id.clone(), &state);
            let raw = sha256_hex(b"");
            let mut commit = Commit {
                leaves: vec![self.notary.seal(&mut chain, draft, &raw)?],
                session: Some(SessionWrite {
                    context: state.context.clone(),
                    expected_version: state.version,
                    id: session_id.clone(),
                }),
                ..Commit::default()
            };
            match escalated {
                Some(next) => commit.approvals.push(ApprovalWrite::Open(Box::new(next))),
                None => {
                    commit.approvals.push(ApprovalWrite::Close(approval.approval_id.clone()));
                    self.consequence(routes, approval, answer, &receipt_id, &mut commit);
                }
            }
            match self.store.commit(commit).await {
                Ok(_) => return Ok(receipt_id),
                Err(CommitError::Conflict) => {}
                Err(CommitError::NotOpen(_)) => {
                    return Err(AnswerError::NotOpen(approval.approval_id.clone()));
                }
                Err(error) => return Err(AnswerError::Commit(error)),
            }
        }
        Err(AnswerError::Commit(CommitError::Conflict))
    }

    /// What a settled question changes: the vendor is called back, or the agent may retry once.
    fn consequence(
        &self,
        routes: &Routes,
        approval: &Approval,
        answer: &ApprovalAnswer,
        receipt_id: &ReceiptId,
        commit: &mut Commit,
    ) {
        let route = routes.get(&approval.action.source.connector);
        if let Some(held) = route.and_then(|route| route.held()).filter(|_| approval.held) {
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
        } else if answer.approved {
            commit.grants.push(GrantWrite::Give(Grant {
                action_hash: approval.action_hash.clone(),
                action_id: approval.action.action_id.clone(),
                approval_id: approval.approval_id.clone(),
                expires_at: answer.at.after(self.limits.grant()),
                grant_id: GrantId::at(answer.at),
                scope: GrantScope::Once,
                session_id: approval.action.session.id.clone(),
            }));
        }
    }

    /// The resolution's receipt. It keeps the identity and the bundle of the decision that made the action wait.
    fn resolution(
        &self,
        approval: &Approval,
        answer: &ApprovalAnswer,
        escalated: Option<&Approval>,
    ) -> Draft {
        let action = &approval.action;
        let fingerprint = Fingerprint::of(action);
        let epoch = self.notary.epoch();
        let mut predicate =
            evidence::blank(ReceiptKind::Resolution, epoch, answer.at, &action.source, Some(&action.session));
        let verdict = match (escalated, answer.approved) {
            (Some(_), _) => Verdict::StepUp,
            (None, true) => Verdict::Allow,
            (None, false) => Verdict::Deny,
        };
        let expressed = match (approval.held, verdict) {
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
            PendingKind::Approval => {
                predicate.approval = Some(ApprovalView {
                    approval_id: approval.approval_id.clone(),
                    approved: Some(answer.approved),
                    approver: Some(answer.approver.clone()),
                    approvers: approval.rule.as_ref().map(|rule| rule.approvers.clone()).unwrap_or_default(),
                    at: Some(answer.at),
                    channel: Some(answer.channel.clone()),
                    expires_at: Some(approval.expires_at),
                    grant: None,
                });
            }
            PendingKind::Deferral => {
                predicate.deferral = approval.deferral.as_ref().map(|deferral| DeferralView {
                    approval_id: approval.approval_id.clone(),
                    kind: deferral.kind,
                    method: Some(if answer.channel == TIMEOUT {
                        TIMEOUT.into()
                    } else {
                        format!("operator {}", answer.approver)
                    }),
                    needs: deferral.needs.clone(),
                    policies: deferral.policies.clone(),
                    resolved_at: Some(answer.at),
                });
                predicate.approval = escalated.map(|next| ApprovalView {
                    approval_id: next.approval_id.clone(),
                    approved: None,
                    approver: None,
                    approvers: next.rule.as_ref().map(|rule| rule.approvers.clone()).unwrap_or_default(),
                    at: None,
                    channel: None,
                    expires_at: Some(next.expires_at),
                    grant: None,
                });
            }
        }
        let mut disclosed = evidence::disclosed_action(action, None);
        disclosed.comment.clone_from(&answer.comment);
        disclosed.told = evidence::told(&decision, &expression);
        Draft { disclosed, predicate }
    }
}

fn reason(approval: &Approval, answer: &ApprovalAnswer) -> String {
    let ticket = &approval.approval_id;
    match (answer.approved, answer.channel.as_str()) {
        (true, _) => format!("approved by {} (ticket {ticket})", answer.approver),
        (false, TIMEOUT) => format!("nobody answered in time (ticket {ticket})"),
        (false, _) => format!("refused by {} (ticket {ticket})", answer.approver),
    }
}

/// A deferral whose policy says so becomes a question to people when its time is up. It keeps its ticket.
fn escalation(approval: &Approval, answer: &ApprovalAnswer) -> Option<Approval> {
    let rule = approval.rule.as_ref().filter(|rule| rule.on_timeout == Verdict::StepUp)?;
    if approval.kind != PendingKind::Deferral || answer.channel != TIMEOUT {
        return None;
    }
    let rule = countersign_schemas::ApprovalRule { on_timeout: Verdict::Deny, ..rule.clone() };
    Some(Approval {
        expires_at: answer.at.after(rule.timeout()),
        kind: PendingKind::Approval,
        opened_at: answer.at,
        rule: Some(rule),
        ..approval.clone()
    })
}

/// Anybody on the list may refuse; to approve takes somebody on the list who is not the requester.
fn authorise(approval: &Approval, approver: &Approver, approved: bool) -> Result<(), AnswerError> {
    let wanted = approval.rule.as_ref().map(|rule| rule.approvers.as_slice()).unwrap_or_default();
    let listed = wanted.iter().any(|name| match name.strip_prefix("group:") {
        Some(group) => approver.groups.iter().any(|g| g == group),
        None => name.strip_prefix("user:").unwrap_or(name) == approver.name,
    });
    if !wanted.is_empty() && !listed {
        return Err(AnswerError::NotAnApprover { name: approver.name.clone(), wanted: wanted.join(", ") });
    }
    let own = approval.action.identity.human.as_ref().is_some_and(|human| {
        let ids = [Some(&human.id), human.email.as_ref()];
        let mine = |id: &String| {
            *id == approver.name || approver.identities.iter().any(|i| i.eq_ignore_ascii_case(id))
        };
        ids.into_iter().flatten().any(mine)
    });
    if approved && own {
        return Err(AnswerError::OwnAgent(approver.name.clone()));
    }
    if approved && approval.approved_by.contains(&approver.name) {
        return Err(AnswerError::Twice(approver.name.clone()));
    }
    Ok(())
}
