//! What only the order of receipts shows: the root, gaps, session chains, tickets, kept checkpoints.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_schemas::{ApprovalId, ReceiptId, ReceiptKind, SessionId, Verdict};
use sha2::{Digest, Sha256};

use super::receipt::{Checked, Facts};
use super::{Finding, FindingCode, OpenTicket, Report};
use crate::export::{ExportError, ExportHeader};
use crate::{Checkpoint, Frontier, LeafHash, NoteError};

/// The receipts so far.
pub(super) struct History {
    report: Report,
    from: u64,
    to: u64,
    complete: bool,
    checkpoint: Checkpoint,
    /// The index that comes next.
    next: u64,
    /// Ranges of indices that were passed over, by where they begin.
    missing: BTreeMap<u64, u64>,
    /// The tree so far, while every leaf of a complete export came in turn.
    tree: Option<Frontier>,
    ids: HashSet<[u8; 16]>,
    sessions: HashMap<SessionId, Link>,
    open: HashMap<ApprovalId, (u64, ReceiptId)>,
    kept: Vec<Kept>,
    undisclosed: u64,
}

/// The last receipt of a session.
struct Link {
    seq: u64,
    leaf: LeafHash,
}

/// A kept checkpoint.
struct Kept {
    number: usize,
    checkpoint: Checkpoint,
    /// The root that the export gives at its size, once the tree has grown to it.
    found: Option<LeafHash>,
}

impl History {
    /// Begins at the header. A header whose edge cannot be continued ends the check.
    pub(super) fn new(
        header: &ExportHeader,
        checkpoint: &Checkpoint,
        kept: Vec<Result<Checkpoint, NoteError>>,
        mut report: Report,
    ) -> Result<Self, Box<Report>> {
        let tree = match Frontier::from_hashes(header.from, header.edge.clone()) {
            _ if !header.complete => None,
            Ok(tree) => Some(tree),
            Err(_) => return Err(Box::new(report.stopped(&ExportError::Header("its edge does not fit")))),
        };
        let mut usable = Vec::new();
        for (number, kept) in (1..).zip(kept) {
            match kept {
                Ok(checkpoint) => usable.push(Kept { number, checkpoint, found: None }),
                Err(error) => report.add(Finding::on_export(
                    FindingCode::KeptNotCompared,
                    format!("kept checkpoint {number} cannot be used: {error}"),
                )),
            }
        }
        let mut history = Self {
            report,
            from: header.from,
            to: header.to,
            complete: header.complete,
            checkpoint: checkpoint.clone(),
            next: header.from,
            missing: BTreeMap::new(),
            tree,
            ids: HashSet::new(),
            sessions: HashMap::new(),
            open: HashMap::new(),
            kept: usable,
            undisclosed: 0,
        };
        history.meet_kept();
        Ok(history)
    }

    pub(super) fn take(&mut self, checked: Checked) {
        self.report.counts.receipts += 1;
        let Checked { line, leaf, facts, disclosed, faults } = checked;
        let receipt_id = facts.as_ref().map(|facts| facts.receipt_id.to_string());
        let index = leaf.map(|(index, _)| index);
        let mut at = |code, message| {
            let receipt_id = receipt_id.clone();
            self.report.add(Finding { code, line: Some(line), index, receipt_id, message });
        };
        for (code, message) in faults {
            at(code, message);
        }
        self.report.counts.disclosures += u64::from(disclosed);
        let mut findings = Vec::new();
        match leaf {
            Some((index, hash)) => {
                self.place(index, hash, &mut findings);
                if let Some(facts) = &facts {
                    self.undisclosed += u64::from(facts.committed && !disclosed);
                    self.count(facts);
                    self.chain(facts, hash, &mut findings);
                    self.tickets(facts, index, &mut findings);
                }
            }
            // A leaf that cannot be read cannot be put into the tree.
            None => self.tree = None,
        }
        for (code, message) in findings {
            let receipt_id = receipt_id.clone();
            self.report.add(Finding { code, line: Some(line), index, receipt_id, message });
        }
    }

    /// Checks the order, and grows the tree while it holds.
    fn place(&mut self, index: u64, leaf: LeafHash, findings: &mut Findings) {
        if index < self.from || index >= self.to {
            let message = format!("leaf {index} is outside {}..{} of the header", self.from, self.to);
            findings.push((FindingCode::BadLine, message));
        } else if index >= self.next {
            if index > self.next && self.complete {
                self.missing.insert(self.next, index);
                self.tree = None;
            }
            self.next = index + 1;
        } else if self.complete && self.found_late(index) {
            findings
                .push((FindingCode::Reordered, format!("leaf {index} stands after leaf {}", self.next - 1)));
        } else if self.complete {
            self.tree = None;
            findings.push((FindingCode::Duplicate, format!("leaf {index} appears twice")));
        } else {
            let message = format!("leaf {index} stands after leaf {}, or appears twice", self.next - 1);
            findings.push((FindingCode::Reordered, message));
        }
        if let Some(tree) = &mut self.tree {
            tree.push(leaf);
            self.meet_kept();
        }
    }

    /// Takes an index out of the missing ranges, if it is in one.
    fn found_late(&mut self, index: u64) -> bool {
        let Some((&start, &end)) = self.missing.range(..=index).next_back().filter(|(_, end)| index < **end)
        else {
            return false;
        };
        self.missing.remove(&start);
        for (start, end) in [(start, index), (index + 1, end)] {
            if start < end {
                self.missing.insert(start, end);
            }
        }
        true
    }

    fn meet_kept(&mut self) {
        let Some(tree) = &self.tree else { return };
        for kept in self.kept.iter_mut().filter(|kept| kept.checkpoint.size == tree.size()) {
            kept.found = Some(tree.root());
        }
    }

    fn count(&mut self, facts: &Facts) {
        let counts = &mut self.report.counts;
        *counts.kinds.entry(facts.kind.as_str()).or_default() += 1;
        if let (ReceiptKind::Decision, Some(verdict)) = (facts.kind, facts.verdict) {
            *counts.verdicts.entry(verdict.as_str()).or_default() += 1;
        }
    }

    fn chain(&mut self, facts: &Facts, leaf: LeafHash, findings: &mut Findings) {
        if !self.ids.insert(short(&facts.receipt_id)) {
            findings
                .push((FindingCode::Duplicate, format!("the receipt `{}` appears twice", facts.receipt_id)));
        }
        let session = &facts.session;
        let mut wrong = |message| findings.push((FindingCode::SessionChain, message));
        let link = Link { seq: facts.seq, leaf };
        match self.sessions.entry(session.clone()) {
            Entry::Vacant(entry) => {
                if facts.seq == 0 && facts.prev.bytes().any(|b| b != b'0') {
                    wrong(format!("the first receipt of session `{session}` names one before it"));
                }
                if facts.seq > 0 && self.complete && self.from == 0 {
                    wrong(format!("session `{session}` begins with receipt {}, not 0", facts.seq));
                }
                entry.insert(link);
            }
            Entry::Occupied(mut entry) => {
                let last = entry.get();
                if facts.seq == last.seq + 1 {
                    if facts.prev != hex::encode(last.leaf) {
                        wrong(format!(
                            "receipt {} of session `{session}` follows another receipt {} than the one here",
                            facts.seq, last.seq
                        ));
                    }
                } else if self.complete || facts.seq <= last.seq {
                    wrong(format!(
                        "receipt {} of session `{session}` comes after receipt {}",
                        facts.seq, last.seq
                    ));
                }
                entry.insert(link);
            }
        }
    }

    /// A decision to STEP_UP or DEFER opens its tickets, a resolution closes them; a resolution may itself be a
    /// STEP_UP, when a deferral escalates, and then they stay open.
    fn tickets(&mut self, facts: &Facts, index: u64, findings: &mut Findings) {
        let waits = matches!(facts.verdict, Some(Verdict::StepUp | Verdict::Defer));
        let resolves = facts.kind == ReceiptKind::Resolution;
        let mut known = facts.tickets.is_empty();
        for ticket in &facts.tickets {
            if resolves {
                known |= self.open.remove(ticket).is_some();
            }
            if waits && (resolves || facts.kind == ReceiptKind::Decision) {
                self.open.insert(ticket.clone(), (index, facts.receipt_id.clone()));
            }
        }
        if resolves && !known && self.complete && self.from == 0 {
            let message =
                "resolves a question that no receipt before it opened, or that was resolved already";
            findings.push((FindingCode::Resolution, message.to_owned()));
        }
    }

    /// Ends at the last line.
    pub(super) fn finish(mut self, end: Result<(), ExportError>) -> Report {
        if let Err(error) = end {
            self.report.unreadable(&error);
        }
        self.report.counts.sessions = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX);
        self.finish_order();
        let root_holds = self.finish_root();
        self.finish_kept(root_holds);
        let open = std::mem::take(&mut self.open);
        let open = open.into_iter().map(|(ticket, (index, receipt_id))| OpenTicket {
            approval_id: ticket.to_string(),
            index,
            receipt_id: receipt_id.to_string(),
        });
        self.report.leave_open(open.collect());
        self.say_what_was_not_checked();
        self.report.concluded()
    }

    fn finish_order(&mut self) {
        for (start, end) in std::mem::take(&mut self.missing) {
            let message = match end - start {
                1 => format!("leaf {start} is missing"),
                _ => format!("leaves {start} to {} are missing", end - 1),
            };
            let finding = Finding::on_export(FindingCode::MissingLeaf, message);
            self.report.add(Finding { index: Some(start), ..finding });
        }
        if self.complete && self.next < self.to {
            let message =
                format!("the export stops before leaf {}, its header says it ends at {}", self.next, self.to);
            self.report.add(Finding::on_export(FindingCode::Truncated, message));
        }
    }

    /// Whether the leaves give the signed root; `None` when they cannot tell.
    fn finish_root(&mut self) -> Option<bool> {
        let tree = self.tree.as_ref().filter(|tree| tree.size() == self.checkpoint.size)?;
        let (found, signed) = (tree.root(), self.checkpoint.root);
        if found != signed {
            let message = format!(
                "the {} leaves in this order give the root {}, but the checkpoint has {}: one was changed, moved or \
                 replaced",
                tree.size(),
                STANDARD.encode(found),
                STANDARD.encode(signed)
            );
            self.report.add(Finding::on_export(FindingCode::RootMismatch, message));
        }
        Some(found == signed)
    }

    /// Compares kept checkpoints with the roots that the log had at their sizes. Only leaves that lead to the signed
    /// root tell anything about the log.
    fn finish_kept(&mut self, root_holds: Option<bool>) {
        for Kept { number, checkpoint, found } in std::mem::take(&mut self.kept) {
            let (size, root) = (checkpoint.size, STANDARD.encode(checkpoint.root));
            let found = match found.filter(|_| root_holds == Some(true)) {
                None if size == self.checkpoint.size => Some(self.checkpoint.root),
                found => found,
            };
            let (code, message) = match found {
                Some(found) if found == checkpoint.root => {
                    self.report.counts.kept_checkpoints += 1;
                    continue;
                }
                Some(found) => (
                    FindingCode::Forked,
                    format!(
                        "forked: kept checkpoint {number} has the root {root} at {size} leaves, this log has {}",
                        STANDARD.encode(found)
                    ),
                ),
                None if size > self.checkpoint.size => (
                    FindingCode::Truncated,
                    format!(
                        "truncated: kept checkpoint {number} covers {size} leaves, the export's only {}",
                        self.checkpoint.size
                    ),
                ),
                None => (
                    FindingCode::KeptNotCompared,
                    format!(
                        "kept checkpoint {number} at {size} leaves cannot be compared: that takes every leaf from \
                         there on, each in its place"
                    ),
                ),
            };
            self.report.add(Finding::on_export(code, message));
        }
    }

    fn say_what_was_not_checked(&mut self) {
        let mut not = vec![
            "Whether the vendor asked before every action: what was never asked has no receipt.".to_owned(),
            "Whether the actions were what the vendors said they were.".to_owned(),
            "Whether the times are right: they are the service's own.".to_owned(),
            format!("What the log holds after leaf {}, where the checkpoint ends.", self.checkpoint.size),
            "The texts of the policies: receipts name them by digest.".to_owned(),
        ];
        if self.report.counts.kept_checkpoints == 0 {
            not.push(
                "Whether the log's operator cut the log or showed others another one: that takes a checkpoint kept \
                 from earlier, and none was compared."
                    .to_owned(),
            );
        }
        if !self.complete {
            not.push("Whether anything was left out: the export is a selection.".to_owned());
            not.push("Session chains where receipts between are not in the selection.".to_owned());
            not.push("Whether each question has its answer and each answer its question.".to_owned());
        } else if self.from > 0 {
            let from = self.from;
            not.push(format!("Leaves before {from}, and session chains and questions that began there."));
        }
        if self.complete && self.tree.is_none() {
            not.push("The root: leaves are missing, unreadable or out of place.".to_owned());
        }
        if self.undisclosed > 0 {
            let count = self.undisclosed;
            not.push(format!("The personal part of {count} receipts: it was not disclosed."));
        }
        self.report.not_checked = not;
    }
}

type Findings = Vec<(FindingCode, String)>;

/// 16 bytes in place of an id's 30: a digest, so that no two ids can be made to look alike.
fn short(id: &ReceiptId) -> [u8; 16] {
    let digest = Sha256::digest(id.as_str());
    std::array::from_fn(|i| digest[i])
}
