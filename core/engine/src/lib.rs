//! Decides. Policies are Cedar; what is ours is the five decisions, how policies are combined, and that a policy
//! which cannot be evaluated is never passed over in silence.
//!
//! No async, no I/O, no clock, no randomness: [`evaluate`] is a pure function of policies, action, context and
//! time.
//!
//! A `permit` means ALLOW and nothing else. DENY, MODIFY, STEP_UP and DEFER are all `forbid`, told apart by
//! `@decision`; so every other Cedar tool, which ignores annotations, reads a policy file as stricter than this
//! crate does. How policies are combined is in [`evaluate`].

mod annotations;
pub mod cases;
pub mod coverage;
mod diff;
mod evaluate;
mod fold;
mod index;
pub mod ledger;
mod lint;
mod modify;
mod policies;
mod problem;
mod reads;
mod replay;
mod request;
mod resolve;
mod rule;
pub mod suggest;

pub use diff::{Change, Difference, Part, diff};
pub use evaluate::{Considered, Explanation, Finding, evaluate, explain};
pub use lint::lint;
pub use policies::{Options, Policies, PolicySource, Posture, Refacet, engine_version};
pub use problem::{Code, Level, PolicyErrors, PolicyProblem};
pub use replay::{Replay, replay};
pub use rule::{PolicyClass, PolicyInfo};

/// The Cedar schema that every policy is validated against.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");
