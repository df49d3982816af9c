//! Makes receipts: from what happened to a signed leaf that continues its session's chain.

use std::sync::Arc;

use countersign_receipt::{LeafHash, ReceiptKey, SealError, disclose};
use countersign_schemas::{
    Action, ActionView, Decision, DecisionView, Disclosed, DisclosureMode, Expression, Identity,
    IdentityView, Outcome, OutcomeView, PREDICATE_TYPE, PolicyView, Predicate, ReceiptId, ReceiptKind, Risk,
    STATEMENT_TYPE, SessionId, SessionRef, SessionView, Source, Statement, Subject, SubjectDigest, Timestamp,
    VendorView, action_hash,
};
use countersign_sdk::parse::{canonical, sha256_hex};
use countersign_store::{NewLeaf, SessionState, Summary};
use serde_json::Value;

/// The largest integer that every JSON reader keeps (RFC 8785 section 3.2.2.3); a vendor may send a larger one.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Signs receipts.
#[derive(Clone)]
pub struct Notary {
    key: Arc<ReceiptKey>,
    mode: DisclosureMode,
}

/// Where the next receipt of a session goes.
#[derive(Clone, Debug)]
pub struct Chain {
    head: LeafHash,
    id: SessionId,
    next_seq: u64,
}

/// What happened, ready to be signed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Everything personal.
    pub disclosed: Disclosed,
    /// The rest. Its `session` is filled in by [`Notary::seal`].
    pub predicate: Predicate,
}

impl Chain {
    /// Continues a session.
    #[must_use]
    pub fn of(id: SessionId, state: &SessionState) -> Self {
        Self { head: state.head, id, next_seq: state.next_seq }
    }
}

impl Notary {
    /// Signs with `key` and keeps personal data as `mode` says.
    #[must_use]
    pub fn new(key: ReceiptKey, mode: DisclosureMode) -> Self {
        Self { key: Arc::new(key), mode }
    }

    /// The epoch of the key.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.key.epoch()
    }

    /// Signs `draft` as the next receipt of `chain`, and moves the chain on.
    ///
    /// `raw_sha256` is the digest of the vendor's request, in lower hex.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`]; the action is then denied.
    pub fn seal(&self, chain: &mut Chain, draft: Draft, raw_sha256: &str) -> Result<NewLeaf, EvidenceError> {
        let Draft { disclosed, mut predicate } = draft;
        predicate.session =
            SessionView { id: chain.id.clone(), prev: hex::encode(chain.head), seq: chain.next_seq };
        let mut text = None;
        if disclosed != Disclosed::default() {
            let (disclosure, kept) = disclose(&disclosed, self.mode, salt()?);
            predicate.disclosure = Some(disclosure);
            text = kept;
        }
        let summary = summary(&predicate);
        let name = format!("{}/{}", chain.id, predicate.receipt_id);
        let statement = Statement {
            kind: STATEMENT_TYPE.to_owned(),
            predicate,
            predicate_type: PREDICATE_TYPE.to_owned(),
            subject: vec![Subject { digest: SubjectDigest { sha256: raw_sha256.to_owned() }, name }],
        };
        let sealed = self.key.seal(&statement)?;
        chain.head = sealed.hash;
        chain.next_seq += 1;
        Ok(NewLeaf { bytes: sealed.bytes, hash: sealed.hash, summary, disclosure: text })
    }
}

/// A receipt cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It cannot be serialised, or is larger than a leaf may be.
    #[error("cannot sign the receipt: {0}")]
    Seal(#[from] SealError),
    /// The system gives no random bytes for a salt.
    #[error("no random bytes for a salt: {0}")]
    Randomness(getrandom::Error),
}

/// 128 random bits for a disclosure.
fn salt() -> Result<[u8; 16], EvidenceError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(EvidenceError::Randomness)?;
    Ok(salt)
}

fn summary(predicate: &Predicate) -> Summary {
    let action = predicate.action.as_ref();
    let outcome = predicate.outcome.as_ref().map(|outcome| outcome.action_id.to_string());
    let decision = predicate.decision.as_ref();
    let identity = predicate.identity.as_ref();
    Summary {
        receipt_id: predicate.receipt_id.clone(),
        kind: predicate.kind,
        session_id: predicate.session.id.clone(),
        session_seq: predicate.session.seq,
        decided_at: predicate.decided_at,
        connector: predicate.vendor.connector.clone(),
        action_id: action.map(|action| action.action_id.to_string()).or(outcome),
        tool: action.map(|action| action.tool.canonical()),
        verdict: decision.map(|decision| decision.verdict),
        expressed: decision.map(|decision| decision.expressed.as_str().to_owned()),
        agent: identity.map(|identity| identity.agent.clone()),
        human: identity.and_then(|identity| identity.human.clone()),
    }
}

/// A receipt of `kind` with nothing in it but where it came from.
#[must_use]
pub fn blank(
    kind: ReceiptKind,
    epoch: u32,
    now: Timestamp,
    source: &Source,
    session: Option<&SessionRef>,
) -> Predicate {
    Predicate {
        action: None,
        approval: None,
        break_glass: None,
        context: None,
        decided_at: now,
        decision: None,
        deferral: None,
        disclosure: None,
        gap: None,
        halt: None,
        identity: None,
        kind,
        outcome: None,
        parent: None,
        policy: None,
        policy_change: None,
        receipt_id: ReceiptId::at(now),
        session: SessionView { id: SessionId::derived(&[]), prev: String::new(), seq: 0 },
        signer_epoch: epoch,
        vendor: VendorView {
            connector: source.connector.clone(),
            delivery_id: None,
            event: source.event.clone(),
            name: source.vendor.clone(),
            session_id: session.map(|session| session.vendor_id.clone()),
        },
    }
}

/// An action's parameters in canonical form and the hash a grant is bound to.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    /// See [`action_hash`].
    pub action_hash: String,
    /// SHA-256 of the canonical parameters.
    pub parameters_sha256: String,
}

impl Fingerprint {
    /// Of this action.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let text = canonical(&action.parameters);
        Self { action_hash: action_hash(action, &text), parameters_sha256: sha256_hex(text.as_bytes()) }
    }
}

/// The leaf's view of an action.
#[must_use]
pub fn action_view(action: &Action, fingerprint: &Fingerprint, risk: Option<Risk>) -> ActionView {
    ActionView {
        action_hash: fingerprint.action_hash.clone(),
        action_id: action.action_id.clone(),
        call_id: action.call_id.clone(),
        effect: action.effect,
        operation: action.operation.clone(),
        risk,
        risk_signals: action.risk_signals.clone(),
        timestamp: action.timestamp,
        tool: action.tool.clone(),
    }
}

/// The leaf's view of an identity: no e-mail address, no name.
#[must_use]
pub fn identity_view(identity: &Identity) -> IdentityView {
    IdentityView {
        agent: identity.agent.id.clone(),
        agent_kind: identity.agent.kind.clone(),
        assurance: identity.assurance,
        delegation: identity.delegation.clone(),
        device: identity.device.clone(),
        human: identity.human.as_ref().map(|human| human.id.clone()),
        model: identity.agent.model.clone(),
        role: identity.role.clone(),
        scope: identity.scope.clone(),
        service: identity.service.clone(),
        tenant: identity.tenant.clone(),
        verified_by: identity.verified_by.clone(),
    }
}

/// The personal part of an identity.
#[must_use]
pub fn disclosed_identity(identity: &Identity) -> Disclosed {
    let human = identity.human.as_ref();
    Disclosed {
        human_email: human.and_then(|human| human.email.clone()),
        human_name: human.and_then(|human| human.name.clone()),
        ..Disclosed::default()
    }
}

/// The personal part of an action.
#[must_use]
pub fn disclosed_action(action: &Action, modified: Option<&serde_json::Map<String, Value>>) -> Disclosed {
    Disclosed {
        facets: (action.facets != countersign_schemas::Facets::default()).then(|| action.facets.clone()),
        modified: modified.cloned(),
        parameters: Some(action.parameters.clone()),
        vendor_fields: action.vendor_fields.clone(),
        ..disclosed_identity(&action.identity)
    }
}

/// What the vendor was told, where that is more than the decision's own reason.
#[must_use]
pub fn told(decision: &Decision, expression: &Expression) -> Option<String> {
    (expression.reason != decision.reason).then(|| expression.reason.clone())
}

/// The leaf's view of a decision.
#[must_use]
pub fn decision_view(
    decision: &Decision,
    expression: &Expression,
    fingerprint: Option<&Fingerprint>,
    budget_ms: u64,
) -> DecisionView {
    let modified = decision.modified.as_ref().map(|map| sha256_hex(canonical(map).as_bytes()));
    let parameters_sha256 = fingerprint.map_or_else(|| sha256_hex(b"{}"), |f| f.parameters_sha256.clone());
    DecisionView {
        budget_ms,
        degraded: expression.degraded.clone(),
        expressed: expression.expressed,
        modified_sha256: modified,
        parameters_sha256,
        reason: decision.reason.clone(),
        severity: decision.severity,
        verdict: decision.verdict,
    }
}

/// The policies behind a decision; `None` when no bundle was asked.
#[must_use]
pub fn policy_view(decision: &Decision) -> Option<PolicyView> {
    (!decision.bundle_sha256.is_empty()).then(|| PolicyView {
        bundle_sha256: decision.bundle_sha256.clone(),
        engine: countersign_engine::engine_version().to_owned(),
        matched: decision.policies.clone(),
    })
}

/// The leaf's view of an outcome.
#[must_use]
pub fn outcome_view(outcome: &Outcome, labels: Vec<String>) -> OutcomeView {
    OutcomeView {
        action_id: outcome.action_id.clone(),
        call_id: outcome.call_id.clone(),
        duration_ms: outcome.duration_ms.map(|ms| ms.min(INTEGER_MAX)),
        labels,
        output_bytes: outcome.output_bytes.min(INTEGER_MAX),
        output_sha256: outcome.output_sha256.clone(),
        status: outcome.status,
    }
}
