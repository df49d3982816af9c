//! Makes and checks evidence: one signed receipt per action, one leaf per receipt in a Merkle log, signed heads of
//! that log, and the offline check of all of it. Pure: no clock, no network, no files; bytes in, bytes out.
//!
//! - [`ReceiptKey::seal`] turns a statement into the exact bytes of a leaf.
//! - [`Frontier`], [`inclusion_path`] and [`consistency_path`] are the tree of RFC 6962.
//! - [`LogKey`] and [`Checkpoint`] are the log's signed heads (C2SP signed-note, tlog-checkpoint).
//! - [`ExportWriter`] and [`verify()`] are the two ends of an export.

mod checkpoint;
mod disclosure;
mod envelope;
mod export;
mod key;
mod sign;
mod tree;
mod trust;
mod verify;

pub use checkpoint::{Checkpoint, LogKey, NoteError, Vkey};
pub use disclosure::{DisclosureError, disclose, disclosure_digest, open_disclosure};
pub use envelope::{Envelope, EnvelopeError, pae};
pub use export::{EXPORT_VERSION, ExportError, ExportHeader, ExportLine, ExportWriter, LINE_BYTES_MAX};
pub use key::{KeyError, generate_key_pem};
pub use sign::{ReceiptKey, SealError, Sealed};
pub use tree::{
    Frontier, LeafHash, Nodes, ProofError, TreeError, consistency_path, inclusion_path, leaf_hash, node_hash,
    verify_consistency, verify_inclusion,
};
pub use trust::{Trust, TrustError, TrustFile, TrustedLog, TrustedReceiptKey};
pub use verify::{
    Counts, Finding, FindingCode, OpenTicket, Outcome, Progress, Report, VerifyOptions, verify,
};
