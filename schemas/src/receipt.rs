//! The signed part of a receipt: an in-toto Statement v1 with our predicate.
//!
//! Fields are declared in RFC 8785 (JCS) order, so that plain `serde_json` output *is* the canonical form; a
//! property test in `countersign-receipt` holds that. No floats, no nulls, times as RFC 3339 strings. Nothing
//! personal: that is what [`Disclosed`] is for, and the leaf carries only its salted digest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ActionId, ApprovalId, Assurance, BreakGlassId, DeferralKind, Degree, Delegation, Effect, Expressed,
    GrantScope, HaltScope, OutcomeStatus, Person, PolicyRef, ReceiptId, Risk, SessionId, Severity, Timestamp,
    Tool, Trend, Verdict,
};

/// `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of every statement. A predicate belongs to its author; this one is ours, version 1.
pub const PREDICATE_TYPE: &str = "https://countersign.dev/receipt/v1";
/// DSSE `payloadType`.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// in-toto Statement v1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What is stated.
    pub predicate: Predicate,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What it is stated about: the vendor's request, by the digest of its raw bytes.
    pub subject: Vec<Subject>,
}

/// in-toto ResourceDescriptor, the part we use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Digests of the raw bytes.
    pub digest: SubjectDigest,
    /// `<session id>/<receipt id>`.
    pub name: String,
}

/// in-toto DigestSet, the part we use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectDigest {
    /// Lower hex.
    pub sha256: String,
}

/// What a receipt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// An action was decided.
    Decision,
    /// A STEP_UP or DEFER came to its end.
    Resolution,
    /// An action ended.
    Outcome,
    /// Something happened that we did not mediate, or only watch.
    Observation,
    /// A user's request was seen.
    Intent,
    /// A session began.
    SessionStart,
    /// A session ended.
    SessionEnd,
    /// Requests were denied in bulk, without a receipt each.
    Gap,
    /// A policy set came into force, or was refused.
    PolicyChange,
    /// Agents were halted, or a halt was lifted.
    Halt,
    /// Policies that ask were suspended for a while, or that was ended.
    BreakGlass,
    /// A signing key came into use.
    KeyEpoch,
    /// Personal data was erased.
    Erasure,
}

impl ReceiptKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Decision,
        Self::Resolution,
        Self::Outcome,
        Self::Observation,
        Self::Intent,
        Self::SessionStart,
        Self::SessionEnd,
        Self::Gap,
        Self::PolicyChange,
        Self::Halt,
        Self::BreakGlass,
        Self::KeyEpoch,
        Self::Erasure,
    ];

    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Resolution => "resolution",
            Self::Outcome => "outcome",
            Self::Observation => "observation",
            Self::Intent => "intent",
            Self::SessionStart => "session_start",
            Self::SessionEnd => "session_end",
            Self::Gap => "gap",
            Self::PolicyChange => "policy_change",
            Self::Halt => "halt",
            Self::BreakGlass => "break_glass",
            Self::KeyEpoch => "key_epoch",
            Self::Erasure => "erasure",
        }
    }
}

/// AARM R5's receipt. Which parts are present depends on `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    /// The action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionView>,
    /// Who answered a STEP_UP and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalView>,
    /// The break-glass that was opened or closed, or under which this was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlassView>,
    /// What the session had done when this was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextView>,
    /// When this was decided or learnt.
    pub decided_at: Timestamp,
    /// What was decided and what the vendor was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionView>,
    /// What a DEFER waits for, or how it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferral: Option<DeferralView>,
    /// The personal part: inline, or its salted digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<Disclosure>,
    /// Requests that were denied in bulk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapView>,
    /// A halt, given or lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<HaltView>,
    /// Who acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityView>,
    /// What this receipt is about.
    pub kind: ReceiptKind,
    /// How the action ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
    /// The receipt this one follows: a decision for its resolution and outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ReceiptId>,
    /// The policies that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyView>,
    /// A policy set that came into force or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_change: Option<PolicyChangeView>,
    /// This receipt's name.
    pub receipt_id: ReceiptId,
    /// Its place in the session's chain.
    pub session: SessionView,
    /// Which epoch of the receipt key signed it.
    pub signer_epoch: u32,
    /// Where it came from.
    pub vendor: VendorView,
}

/// The action, without its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionView {
    /// See [`crate::action_hash`].
    pub action_hash: String,
    /// The action.
    pub action_id: ActionId,
    /// The vendor's call id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// What kind of thing it does.
    pub effect: Effect,
    /// The vendor's word for the operation.
    pub operation: String,
    /// What was measured about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Findings of detectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk_signals: Vec<String>,
    /// When it was received.
    pub timestamp: Timestamp,
    /// What it uses.
    pub tool: Tool,
}

/// A person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalView {
    /// The ticket.
    pub approval_id: ApprovalId,
    /// True for yes. Absent while the question is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// Who has approved so far, this one included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// Who may answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// When the approver was shown the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// How the channel made sure who answered, for example `oidc+mfa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<String>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// By which channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// When silence becomes DENY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The grant that was given, on the resolution; the one that let this action through, on the retry's decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// How many different approvers must agree, when it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// How far the grant reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<GrantScope>,
}

impl ApprovalView {
    /// A question about which nothing more is known than its ticket.
    #[must_use]
    pub fn of(approval_id: ApprovalId) -> Self {
        Self {
            approval_id,
            approved: None,
            approved_by: Vec::new(),
            approver: None,
            approvers: Vec::new(),
            asked_at: None,
            assurance: None,
            at: None,
            channel: None,
            expires_at: None,
            grant: None,
            quorum: None,
            scope: None,
        }
    }
}

/// The session's state as the policies saw it, by digest, with the parts an auditor asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextView {
    /// Decisions made before this one.
    pub action_count: u64,
    /// The session's drift, this action included. Absent while no request is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Trend>,
    /// The highest score of hidden instructions in any outcome so far.
    #[serde(default, skip_serializing_if = "Degree::is_zero")]
    pub injection: Degree,
    /// Data labels touched before this one, those that were taken over included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The session that handed its work to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// What the same person's other sessions did lately. Absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// SHA-256 of the user's first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// SHA-256 of the folded context as stored before this action.
    pub sha256: String,
    /// Whether something from outside was read before this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
}

/// What was decided and what was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// Milliseconds the vendor's window leaves us, margin taken off.
    pub budget_ms: u64,
    /// Why the vendor was told something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// What the vendor was told.
    pub expressed: Expressed,
    /// SHA-256 of the RFC 8785 form of the parameters it may run with, when the verdict is MODIFY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_sha256: Option<String>,
    /// SHA-256 of the RFC 8785 form of the parameters it asked for.
    pub parameters_sha256: String,
    /// Why it was decided, in the policy author's words. What the vendor was told is in the disclosure, if it is more.
    pub reason: String,
    /// Highest severity among the policies.
    pub severity: Severity,
    /// What was decided.
    pub verdict: Verdict,
}

/// What a DEFER waits for, or how it was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeferralView {
    /// The ticket.
    pub approval_id: ApprovalId,
    /// Why.
    pub kind: DeferralKind,
    /// How it was resolved, on the resolution: `timeout`, `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What was missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// The policies that missed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// When it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
}

/// How the personal part of a receipt is bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisclosureMode {
    /// In the leaf, for those who want it there.
    Inline,
    /// A salted digest in the leaf; the content beside the log, disclosed on request.
    #[default]
    Committed,
    /// A salted digest in the leaf; the content is not kept.
    Hashed,
}

/// The personal part, or its commitment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disclosure {
    /// The content itself, as JSON text, in mode `inline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// SHA-256 of the disclosure text (RFC 9901 section 4.2.1 construction: base64url of `[salt, name, value]`),
    /// base64url without padding.
    pub digest: String,
    /// Which.
    pub mode: DisclosureMode,
}

/// What goes into the disclosure: everything personal or secret about the event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Disclosed {
    /// An approver's comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// An outcome's error text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Facets of the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facets: Option<crate::Facets>,
    /// The human's e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human_email: Option<String>,
    /// The human's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human_name: Option<String>,
    /// Changed parameters, when the verdict is MODIFY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<Map<String, Value>>,
    /// Parameters as the vendor sent them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// A user's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the vendor was told, where that is more than the decision's reason. It may name values of parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// Vendor fields with no place of their own.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub vendor_fields: Map<String, Value>,
}

/// Requests that were denied in bulk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GapView {
    /// How many.
    pub count: u64,
    /// SHA-256 over the SHA-256 digests of the raw requests, in order.
    pub digest: String,
    /// The first.
    pub from: Timestamp,
    /// Why.
    pub reason: String,
    /// The last.
    pub to: Timestamp,
}

/// A halt, given or lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HaltView {
    /// True when it was given, false when it was lifted.
    pub active: bool,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What it stops.
    pub what: HaltScope,
}

/// A break-glass: opened, ended, or used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlassView {
    /// Which.
    pub break_glass_id: BreakGlassId,
    /// Who opened it, or who ended it; `timeout` when its time was up.
    pub by: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Whether it was opened, ended or used.
    pub step: BreakGlassStep,
    /// Whom it covers.
    pub what: HaltScope,
}

/// What happened to a break-glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakGlassStep {
    /// It was opened.
    Opened,
    /// An action that policy wanted to wait was allowed under it.
    Used,
    /// It was ended, by a person or by its time.
    Ended,
}

/// Who acted, without e-mail addresses and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityView {
    /// Agent id.
    pub agent: String,
    /// Kind of agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_kind: Option<String>,
    /// How far the claims can be believed.
    pub assurance: Assurance,
    /// Who handed the work to whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegation: Vec<Delegation>,
    /// Device id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The vendor's opaque id of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub human: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Service or application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What checked the claims.
    pub verified_by: String,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeView {
    /// The action.
    pub action_id: ActionId,
    /// The vendor's call id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// How long it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Labels of what it returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Size of the output.
    pub output_bytes: u64,
    /// SHA-256 of the output.
    pub output_sha256: String,
    /// How it ended.
    pub status: OutcomeStatus,
}

/// The policies that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// SHA-256 of the bundle.
    pub bundle_sha256: String,
    /// Engine and version.
    pub engine: String,
    /// In the order of their ids.
    pub matched: Vec<PolicyRef>,
}

/// A policy set that came into force or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyChangeView {
    /// True when it came into force.
    pub applied: bool,
    /// SHA-256 of the bundle that is in force now.
    pub bundle_sha256: String,
    /// What was wrong, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many policies are in force now.
    pub policies: u64,
}

/// A receipt's place in its session's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The session.
    pub id: SessionId,
    /// Leaf hash of the session's previous receipt, lower hex; 64 zeros for the first.
    pub prev: String,
    /// 0 for the first receipt of the session, then without gaps.
    pub seq: u64,
}

/// Where a receipt came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VendorView {
    /// The configured instance.
    pub connector: String,
    /// The vendor's delivery id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// The vendor's event.
    pub event: String,
    /// The connector's kind.
    pub name: String,
    /// The vendor's session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}
