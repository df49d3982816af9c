//! Classifies text and JSON: which kinds of sensitive data it holds, which labels follow (AARM R2), and whether it
//! carries instructions meant for an agent.
//!
//! Pure: no I/O, no async, no clock. What matched is never kept, logged or returned; [`Findings`] holds names and
//! counts only. Every scan reads a bounded part of its input in time linear in that part.
//!
//! Start at [`Detectors`].

mod checksum;
mod contact;
mod detector;
mod entropy;
mod findings;
mod identity;
mod injection;
mod json;
mod payment;
mod rule;
mod scan;
mod secrets;

pub use findings::{FINANCIAL, Findings, Kind, LABELS, PCI, PII, RESTRICTED, SECRET};
pub use rule::{Rule, RuleError, RuleErrors};
pub use scan::{Detectors, SCAN_BYTES_MAX};
