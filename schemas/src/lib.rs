//! Every shape that crosses a process boundary: what a connector normalises a hook into, what the engine
//! decides, what a receipt signs.
//!
//! The wire form *is* the domain here, because receipts sign it; so there is one set of types, and the JSON
//! Schemas in `schemas/json/` are generated from them. This crate depends on nothing of ours.

mod action;
mod approval;
mod decision;
mod degree;
mod event;
mod generate;
mod id;
mod identity;
mod receipt;
mod risk;
mod session;
mod time;

pub use action::{Action, Effect, Facets, SessionRef, Source, Tool, action_hash};
pub use approval::{
    Approval, ApprovalAnswer, ApprovalContext, BreakGlass, Grant, GrantScope, Halt, HaltScope, PendingKind,
};
pub use decision::{
    ApprovalRule, Decision, Deferral, DeferralKind, Escalation, Expressed, Expression, GrantLimit, PolicyRef,
    Severity, Verdict,
};
pub use degree::{Degree, DegreeError};
pub use event::{Event, Intent, Observation, Outcome, OutcomeStatus, SessionBoundary};
pub use generate::all;
pub use id::{ActionId, ApprovalId, BreakGlassId, GrantId, IdError, OutboxId, ReceiptId, SessionId};
pub use identity::{Agent, Assurance, Delegation, Human, Identity};
pub use receipt::{
    ActionView, ApprovalView, BreakGlassStep, BreakGlassView, ContextView, DecisionView, DeferralView,
    Disclosed, Disclosure, DisclosureMode, GapView, HaltView, IdentityView, OutcomeView, PAYLOAD_TYPE,
    PREDICATE_TYPE, PolicyChangeView, PolicyView, Predicate, ReceiptKind, STATEMENT_TYPE, SessionView,
    Statement, Subject, SubjectDigest, VendorView,
};
pub use risk::Risk;
pub use session::{Context, Person, Prior, PriorAction, PriorOutcome, Refused, Trend};
pub use time::{Timestamp, TimestampError};
