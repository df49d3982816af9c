//! What the check found, in a stable form: programs read the codes, people the sentences.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::Checkpoint;
use crate::export::{ExportError, ExportHeader};

/// How many findings and open tickets a report lists; their number is told in full.
const LISTED_MAX: usize = 100;

/// The check's conclusion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that can be checked was checked and holds.
    Verified,
    /// Something does not hold.
    Refuted,
    /// Nothing was refuted, but something that was to be checked could not be.
    #[default]
    Incomplete,
}

/// What kind of finding. The codes never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// The file, its header or a line is not in the export format.
    BadLine,
    /// A leaf or its payload is not in canonical form.
    NotCanonical,
    /// A payload is not a statement that this version knows, or contradicts itself.
    BadStatement,
    /// Signed by a key that the trust file does not have, or not for this epoch or index.
    UnknownKey,
    /// A receipt's signature does not fit its content.
    Signature,
    /// The checkpoint is not signed by the log's key.
    CheckpointSignature,
    /// A leaf is not what the checkpoint covers at its index.
    LeafChanged,
    /// All leaves together do not give the checkpoint's root.
    RootMismatch,
    /// A leaf is missing.
    MissingLeaf,
    /// A leaf stands in the wrong place.
    Reordered,
    /// A leaf index or a receipt id appears twice.
    Duplicate,
    /// The end of the log is missing.
    Truncated,
    /// A kept checkpoint belongs to another history.
    Forked,
    /// A session's receipts do not form one chain.
    SessionChain,
    /// A resolution resolves nothing that is open.
    Resolution,
    /// A disclosure does not fit its receipt.
    Disclosure,
    /// A kept checkpoint could not be compared. Refutes nothing.
    KeptNotCompared,
    /// The export could not be read to its end. Refutes nothing.
    Unreadable,
}

impl FindingCode {
    fn refutes(self) -> bool {
        !matches!(self, Self::KeptNotCompared | Self::Unreadable)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind.
    pub code: FindingCode,
    /// Line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Index of the leaf, as the line states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The receipt, as it names itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<String>,
    /// What exactly is wrong.
    pub message: String,
}

impl Finding {
    pub(super) fn on_export(code: FindingCode, message: String) -> Self {
        Self { code, line: None, index: None, receipt_id: None, message }
    }
}

/// A STEP_UP or DEFER that was not resolved before the export ends. Not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenTicket {
    /// The ticket.
    pub approval_id: String,
    /// Index of the decision that opened it.
    pub index: u64,
    /// The receipt of that decision.
    pub receipt_id: String,
}

/// How much was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Lines after the header.
    pub receipts: u64,
    /// Sessions.
    pub sessions: u64,
    /// Receipts by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Decisions by verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Disclosures that were there and fit.
    pub disclosures: u64,
    /// Kept checkpoints that were compared and fit.
    pub kept_checkpoints: u64,
}

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The conclusion.
    pub verdict: Outcome,
    /// The log's name, as the export states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Number of leaves that the checkpoint covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The checkpoint's root, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// First leaf of the export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// First leaf beyond it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Whether the export claims to hold every leaf between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// How much was checked.
    pub counts: Counts,
    /// The first hundred findings.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub findings_total: u64,
    /// The first hundred tickets that are still open.
    pub still_open: Vec<OpenTicket>,
    /// How many there are.
    pub still_open_total: u64,
    /// What was not checked, in plain sentences.
    pub not_checked: Vec<String>,
    #[serde(skip)]
    refuted: bool,
}

impl Report {
    /// The exit code of `verify`: 0 verified, 1 refuted, 2 incomplete. 3 is for misuse, which has no report.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Outcome::Verified => 0,
            Outcome::Refuted => 1,
            Outcome::Incomplete => 2,
        }
    }

    pub(super) fn measured_by(&mut self, header: &ExportHeader, checkpoint: &Checkpoint) {
        self.origin = Some(checkpoint.origin.clone());
        self.size = Some(checkpoint.size);
        self.root = Some(STANDARD.encode(checkpoint.root));
        (self.from, self.to, self.complete) = (Some(header.from), Some(header.to), Some(header.complete));
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.findings_total += 1;
        self.refuted |= finding.code.refutes();
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        }
    }

    pub(super) fn leave_open(&mut self, mut tickets: Vec<OpenTicket>) {
        tickets.sort_by_key(|ticket| ticket.index);
        self.still_open_total = u64::try_from(tickets.len()).unwrap_or(u64::MAX);
        tickets.truncate(LISTED_MAX);
        self.still_open = tickets;
    }

    /// Reading ended before the export did.
    pub(super) fn unreadable(&mut self, error: &ExportError) {
        let (code, cause) = match error {
            ExportError::Io(cause) => (FindingCode::Unreadable, format!(": {cause}")),
            _ => (FindingCode::BadLine, String::new()),
        };
        self.add(Finding::on_export(code, format!("{error}{cause}")));
    }

    /// The header could not be used, so that nothing else was checked.
    pub(super) fn stopped(mut self, error: &ExportError) -> Self {
        self.unreadable(error);
        self.not_checked.push("Anything but the first line, because it could not be used.".to_owned());
        self.concluded()
    }

    pub(super) fn concluded(mut self) -> Self {
        self.verdict = match self.findings_total {
            _ if self.refuted => Outcome::Refuted,
            0 => Outcome::Verified,
            _ => Outcome::Incomplete,
        };
        self
    }
}
