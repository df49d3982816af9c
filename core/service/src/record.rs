//! Receipts of the service's own doings: halts, policy changes, bulk denials. They form a session of their own.

use countersign_schemas::{
    BreakGlassView, GapView, Halt, HaltScope, HaltView, PolicyChangeView, ReceiptId, ReceiptKind, SessionId,
    SessionRef, Source,
};
use countersign_sdk::parse::sha256_hex;
use countersign_store::{BreakGlassWrite, Commit, CommitError, HaltWrite, SessionWrite};

use crate::evidence::{self, Chain, Draft};
use crate::gap::Batch;
use crate::pipeline::{Pipeline, Refusal};

/// Somebody else writes to the service's own session at most a few times a second.
const ATTEMPTS_MAX: usize = 64;

impl Pipeline {
    /// Gives a halt: within the call it is receipted, durable and in force.
    ///
    /// # Errors
    ///
    /// A sentence, when it could not be made durable. It is in force all the same: a kill switch does not wait for
    /// a disk.
    pub async fn halt(&self, halt: Halt) -> Result<ReceiptId, String> {
        self.halts.give(&halt);
        let view = HaltView {
            active: true,
            by: halt.by.clone(),
            reason: halt.reason.clone(),
            what: halt.what.clone(),
        };
        self.record_halt(view, HaltWrite::Give(halt)).await
    }

    /// Lifts a halt.
    ///
    /// # Errors
    ///
    /// A sentence, when it could not be made durable; then it stays in force.
    pub async fn lift(&self, what: HaltScope, by: String, reason: String) -> Result<ReceiptId, String> {
        let view = HaltView { active: false, by, reason, what: what.clone() };
        let receipt = self.record_halt(view, HaltWrite::Lift(what)).await?;
        self.halts.set(self.store.halts().await.map_err(|error| error.to_string())?);
        Ok(receipt)
    }

    async fn record_halt(&self, view: HaltView, write: HaltWrite) -> Result<ReceiptId, String> {
        let draft = || {
            let mut draft = self.own("halt", ReceiptKind::Halt);
            draft.predicate.halt = Some(view.clone());
            draft
        };
        let extra = || Commit { halts: vec![write.clone()], ..Commit::default() };
        self.record(&|| vec![draft()], &extra).await.map_err(|refusal| refusal.to_string())
    }

    pub(crate) async fn record_break_glass(
        &self,
        view: BreakGlassView,
        write: BreakGlassWrite,
    ) -> Result<ReceiptId, Refusal> {
        let draft = || {
            let mut draft = self.own("break_glass", ReceiptKind::BreakGlass);
            draft.predicate.break_glass = Some(view.clone());
            draft
        };
        let extra = || Commit { break_glasses: vec![write.clone()], ..Commit::default() };
        self.record(&|| vec![draft()], &extra).await
    }

    /// Receipts a policy set that came into force, or was refused.
    ///
    /// # Errors
    ///
    /// A sentence, when it could not be made durable.
    pub async fn record_policy_change(&self, view: PolicyChangeView) -> Result<ReceiptId, String> {
        let draft = || {
            let mut draft = self.own("policies", ReceiptKind::PolicyChange);
            draft.predicate.policy_change = Some(view.clone());
            draft
        };
        self.record(&|| vec![draft()], &Commit::default).await.map_err(|refusal| refusal.to_string())
    }

    pub(crate) async fn commit_gaps(&self, batch: &Batch) -> Result<(), Refusal> {
        let draft = |(connector, gap): &(String, GapView)| {
            let mut draft = self.own("gap", ReceiptKind::Gap);
            draft.predicate.vendor.connector.clone_from(connector);
            draft.predicate.gap = Some(gap.clone());
            draft
        };
        self.record(&|| batch.gaps.iter().map(draft).collect(), &Commit::default).await.map(|_| ())
    }

    fn own_session() -> SessionRef {
        SessionRef {
            id: SessionId::derived(&["countersign", "service"]),
            turn: None,
            vendor_id: "service".into(),
        }
    }

    fn own(&self, event: &str, kind: ReceiptKind) -> Draft {
        let source =
            Source { connector: "countersign".into(), event: event.into(), vendor: "countersign".into() };
        let predicate =
            evidence::blank(kind, self.notary.epoch(), self.clock.now(), &source, Some(&Self::own_session()));
        Draft { disclosed: countersign_schemas::Disclosed::default(), predicate }
    }

    /// Commits receipts to the service's own session. Returns the first one's id.
    async fn record(
        &self,
        drafts: &(dyn Fn() -> Vec<Draft> + Sync),
        extra: &(dyn Fn() -> Commit + Sync),
    ) -> Result<ReceiptId, Refusal> {
        let session = Self::own_session();
        for _ in 0..ATTEMPTS_MAX {
            let state = self.store.session(&session.id).await?;
            let mut chain = Chain::of(session.id.clone(), &state);
            let mut commit = extra();
            for draft in drafts() {
                // Nothing came in from outside: the subject is the empty request.
                commit.leaves.push(self.notary.seal(&mut chain, draft, &sha256_hex(b""))?);
            }
            let first = commit.leaves.first().map(|leaf| leaf.summary.receipt_id.clone());
            commit.session = Some(SessionWrite {
                context: state.context,
                expected_version: state.version,
                id: session.id.clone(),
            });
            match self.store.commit(commit).await {
                Ok(_) => return first.ok_or(Refusal::Contended),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Refusal::Commit(error)),
            }
        }
        Err(Refusal::Contended)
    }
}
