//! Questions that wait: answered by a person, or by time. Silence is DENY.
//!
//! Here is who may answer and what an answer counts for; `settle` writes how a question ended.

mod settle;

pub(crate) use settle::ended;

use countersign_schemas::{
    Approval, ApprovalAnswer, ApprovalId, ApprovalRule, GrantScope, PendingKind, ReceiptId, Timestamp,
};
use countersign_store::{ApprovalWrite, Commit, CommitError, SessionState, SessionWrite, StoreError};
use tracing::{info, warn};

use crate::connect::Routes;
use crate::evidence::{Chain, EvidenceError};
use crate::pipeline::Pipeline;

/// The channel name of an answer that nobody gave.
pub(crate) const TIMEOUT: &str = "timeout";
/// The channel name of a question that was taken back, because its session ended.
pub(crate) const WITHDRAWN: &str = "withdrawn";
const ATTEMPTS_MAX: usize = 64;
/// Questions whose time is up that are looked at in one go.
const DUE_MAX: usize = 256;

/// Who answers, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approver {
    /// How the channel made sure who it is, for example `api_token`, `oidc`, `oidc+mfa`, `chat`, `mail_link`.
    pub assurance: String,
    /// The channel, for example `cli`.
    pub channel: String,
    /// Groups, without `group:`.
    pub groups: Vec<String>,
    /// The approver's own ids at the vendors.
    pub identities: Vec<String>,
    /// Who.
    pub name: String,
}

/// What an approver says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// True for yes.
    pub approved: bool,
    /// When the approver was shown the question, if the channel knows.
    pub asked_at: Option<Timestamp>,
    /// What the approver wrote, if anything.
    pub comment: Option<String>,
    /// How far a yes reaches. The policy's `@grant` limits it.
    pub scope: GrantScope,
}

impl Answer {
    /// Yes, for one run.
    #[must_use]
    pub fn yes() -> Self {
        Self { approved: true, ..Self::default() }
    }

    /// No.
    #[must_use]
    pub fn no() -> Self {
        Self::default()
    }
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
        /// The receipt of this one's approval.
        receipt_id: ReceiptId,
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
    /// The policy does not let anybody permit that much.
    #[error("this policy does not permit `{}`; `@grant` names what it permits beside `once`", .0.as_str())]
    Scope(GrantScope),
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
        answer: &Answer,
    ) -> Result<Resolved, AnswerError> {
        for _ in 0..ATTEMPTS_MAX {
            let (state, mut approval) = self.open_question(id).await?;
            authorise(&approval, approver, answer)?;
            if answer.approved {
                approval.approved_by.push(approver.name.clone());
            }
            let given = self.given(approver, answer);
            let quorum = quorum(&approval);
            let count = approval.approved_by.len();
            if !answer.approved || u32::try_from(count).unwrap_or(u32::MAX) >= quorum {
                return self.settle(routes, &approval, &given).await.map(Resolved::Settled);
            }
            match self.count(&state, approval, &given).await {
                Ok(receipt_id) => return Ok(Resolved::Counted { approved: count, quorum, receipt_id }),
                Err(AnswerError::Commit(CommitError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(AnswerError::Commit(CommitError::Conflict))
    }

    /// The same answer to several questions, each by its name: alike questions are asked once. Each is settled on its
    /// own, with its own receipt, or not.
    pub async fn resolve_alike(
        &self,
        routes: &Routes,
        ids: &[ApprovalId],
        approver: &Approver,
        answer: &Answer,
    ) -> Vec<(ApprovalId, Result<Resolved, AnswerError>)> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            results.push((id.clone(), self.resolve(routes, id, approver, answer).await));
        }
        results
    }

    fn given(&self, approver: &Approver, answer: &Answer) -> ApprovalAnswer {
        ApprovalAnswer {
            approved: answer.approved,
            approver: approver.name.clone(),
            asked_at: answer.asked_at,
            assurance: Some(approver.assurance.clone()).filter(|assurance| !assurance.is_empty()),
            at: self.clock.now(),
            channel: approver.channel.clone(),
            comment: answer.comment.clone(),
            scope: if answer.approved { answer.scope } else { GrantScope::Once },
        }
    }

    /// Notes, with a receipt, an approval that is not enough yet. Bound to the session's version: a refusal in
    /// between must not be undone, nor another approval lost.
    async fn count(
        &self,
        state: &SessionState,
        approval: Approval,
        answer: &ApprovalAnswer,
    ) -> Result<ReceiptId, AnswerError> {
        let session = SessionWrite {
            context: state.context.clone(),
            expected_version: state.version,
            id: approval.action.session.id.clone(),
        };
        let draft = self.resolution(&approval, answer, Some(&approval));
        let receipt_id = draft.predicate.receipt_id.clone();
        let mut chain = Chain::of(session.id.clone(), state);
        let commit = Commit {
            leaves: vec![self.seal_own(&mut chain, draft)?],
            approvals: vec![ApprovalWrite::Open(Box::new(approval))],
            session: Some(session),
            ..Commit::default()
        };
        self.store.commit(commit).await.map_err(AnswerError::Commit)?;
        Ok(receipt_id)
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

    /// Denies, escalates or asks further approvers, where time has come for it. Called in short intervals by a task
    /// of the service.
    pub async fn expire_approvals(&self, routes: &Routes) {
        loop {
            let now = self.clock.now();
            let Ok(due) = self.store.due_questions(now, DUE_MAX).await else { return };
            let mut moved = 0;
            for approval in &due {
                let answer = nobody(TIMEOUT, now);
                match self.settle(routes, approval, &answer).await {
                    Ok(receipt) => {
                        moved += 1;
                        info!(approval.id = %approval.approval_id, receipt.id = %receipt, "nobody answered in time");
                    }
                    Err(AnswerError::NotOpen(_)) => moved += 1,
                    Err(error) => {
                        warn!(approval.id = %approval.approval_id, %error, "cannot settle an expired question: {error}")
                    }
                }
            }
            if due.len() < DUE_MAX || moved == 0 {
                return;
            }
        }
    }
}

/// The answer of nobody.
pub(crate) fn nobody(channel: &str, at: Timestamp) -> ApprovalAnswer {
    ApprovalAnswer {
        approved: false,
        approver: channel.to_owned(),
        asked_at: None,
        assurance: None,
        at,
        channel: channel.to_owned(),
        comment: None,
        scope: GrantScope::Once,
    }
}

fn quorum(approval: &Approval) -> u32 {
    approval.rule.as_ref().map_or(1, |rule| rule.quorum.max(1))
}

/// Who may answer now: those whom the policy names, and further ones once they were asked.
pub(crate) fn approvers(approval: &Approval) -> Vec<String> {
    let Some(rule) = &approval.rule else { return Vec::new() };
    let further = rule.escalation.iter().filter(|_| approval.escalated_at.is_some());
    rule.approvers.iter().chain(further.flat_map(|escalation| &escalation.approvers)).cloned().collect()
}

/// Anybody on the list may refuse; to approve takes somebody on the list who is not the requester.
fn authorise(approval: &Approval, approver: &Approver, answer: &Answer) -> Result<(), AnswerError> {
    let wanted = approvers(approval);
    let listed = wanted.iter().any(|name| match name.strip_prefix("group:") {
        Some(group) => approver.groups.iter().any(|g| g == group),
        None => name.strip_prefix("user:").unwrap_or(name) == approver.name,
    });
    if !wanted.is_empty() && !listed {
        return Err(AnswerError::NotAnApprover { name: approver.name.clone(), wanted: wanted.join(", ") });
    }
    if !answer.approved {
        return Ok(());
    }
    if is_own(approval, approver) {
        return Err(AnswerError::OwnAgent(approver.name.clone()));
    }
    if approval.approved_by.contains(&approver.name) {
        return Err(AnswerError::Twice(approver.name.clone()));
    }
    let limit = approval.rule.as_ref().map(|rule: &ApprovalRule| rule.grant).unwrap_or_default();
    if limit.permits(answer.scope) { Ok(()) } else { Err(AnswerError::Scope(answer.scope)) }
}

/// Whether the action is of the approver's own agent.
#[must_use]
pub fn is_own(approval: &Approval, approver: &Approver) -> bool {
    approval.action.identity.human.as_ref().is_some_and(|human| {
        let ids = [Some(&human.id), human.email.as_ref()];
        let mine = |id: &String| {
            *id == approver.name || approver.identities.iter().any(|i| i.eq_ignore_ascii_case(id))
        };
        ids.into_iter().flatten().any(mine)
    })
}

/// Whether silence changes this question rather than ends it: further approvers are asked, or a deferral becomes a
/// question to people because its policy says so. It keeps its ticket.
pub(crate) fn next_question(approval: &Approval, answer: &ApprovalAnswer) -> Option<Approval> {
    let rule = approval.rule.as_ref().filter(|_| answer.channel == TIMEOUT)?;
    if approval.kind == PendingKind::Approval {
        let is_time =
            approval.escalates_at().is_some_and(|at| at <= answer.at && answer.at < approval.expires_at);
        return is_time.then(|| Approval { escalated_at: Some(answer.at), ..approval.clone() });
    }
    if rule.on_timeout != countersign_schemas::Verdict::StepUp {
        return None;
    }
    let rule = ApprovalRule { on_timeout: countersign_schemas::Verdict::Deny, ..rule.clone() };
    Some(Approval {
        expires_at: answer.at.after(rule.timeout()),
        kind: PendingKind::Approval,
        opened_at: answer.at,
        rule: Some(rule),
        ..approval.clone()
    })
}
