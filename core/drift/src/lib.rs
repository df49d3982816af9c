//! How far an agent's actions are from what its user asked for: AARM R7, semantic drift.
//!
//! Three numbers per action, each from 0 to 1 with four decimals:
//!
//! - **distance**, 1 − cosine between the request and the action said in words: is this about the same thing?
//! - **gap**, how much more the action does than the request's verbs grant: is it what was asked for?
//! - **scope**, the share of the action's resources that neither request nor earlier actions named: is it new?
//!
//! The distance alone, which is what the specification names, cannot tell "translate the contract" from an upload
//! of the contract: to a cosine the wrong deed on the right topic is nearer than a good paraphrase.
//! `docs/drift.md` has the figures. So the score is the weighted mean of the three, and a session has its running
//! maximum and its exponential moving average.
//!
//! Everything is a pure function of its arguments, in whole numbers, so every machine gives the same answer.

pub mod calibrate;
mod deed;
mod embed;
mod gap;
mod lexicon;
mod measure;
mod profile;
mod scope;
mod verbalize;
mod words;

pub use embed::{Embedder, Embedding, Lexical};
#[cfg(feature = "static-table")]
pub use embed::{StaticTable, TableError};
pub use measure::{Drift, Request, measure};
pub use profile::{Concern, Profile, Weights};
pub use scope::note;
pub use verbalize::verbalize;
