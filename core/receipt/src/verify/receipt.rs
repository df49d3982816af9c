//! What one receipt shows by itself: its form, its signature, its disclosure, its inclusion proof.

use countersign_schemas::{
    ApprovalId, Disclosure, DisclosureMode, PREDICATE_TYPE, ReceiptId, ReceiptKind, STATEMENT_TYPE,
    SessionId, Statement, Verdict,
};
use ed25519_dalek::{Signature, VerifyingKey, verify_batch};
use serde_json::Value;

use super::{Chunk, FindingCode};
use crate::disclosure::inline_digest;
use crate::export::ExportLine;
use crate::sign::LEAF_BYTES_MAX;
use crate::trust::TrustedKey;
use crate::{Checkpoint, Envelope, LeafHash, Trust, disclosure_digest, leaf_hash, verify_inclusion};

/// What a line showed.
pub(super) struct Checked {
    pub(super) line: u64,
    /// Index and leaf hash, when the line could be read.
    pub(super) leaf: Option<(u64, LeafHash)>,
    /// What the receipt says, when it could be read. Signed only if there is no fault.
    pub(super) facts: Option<Facts>,
    pub(super) disclosed: bool,
    pub(super) faults: Vec<(FindingCode, String)>,
}

/// What the history needs of a receipt.
pub(super) struct Facts {
    pub(super) receipt_id: ReceiptId,
    pub(super) kind: ReceiptKind,
    pub(super) verdict: Option<Verdict>,
    pub(super) session: SessionId,
    pub(super) seq: u64,
    pub(super) prev: String,
    /// The tickets that the receipt names.
    pub(super) tickets: Vec<ApprovalId>,
    /// The receipt has a commitment that can be opened.
    pub(super) committed: bool,
}

/// A signature that is still to be checked.
struct Signed<'t> {
    /// Which of the chunk's receipts.
    place: usize,
    message: Vec<u8>,
    signature: Signature,
    key: &'t TrustedKey,
}

pub(super) struct Checker<'a> {
    pub(super) trust: &'a Trust,
    pub(super) complete: bool,
    pub(super) checkpoint: &'a Checkpoint,
}

impl Checker<'_> {
    pub(super) fn check(&self, chunk: &Chunk) -> Vec<Checked> {
        let mut checked = Vec::with_capacity(chunk.ends.len());
        let mut signed = Vec::with_capacity(chunk.ends.len());
        for (number, line) in (chunk.first_line..).zip(chunk.lines()) {
            let mut receipt =
                Checked { line: number, leaf: None, facts: None, disclosed: false, faults: Vec::new() };
            signed.extend(self.check_line(line, &mut receipt, checked.len()));
            checked.push(receipt);
        }
        check_signatures(&signed, &mut checked);
        checked
    }

    /// Everything but the signature, which is given back.
    fn check_line(&self, line: &[u8], receipt: &mut Checked, place: usize) -> Option<Signed<'_>> {
        let line = match ExportLine::parse(line) {
            Ok(line) => line,
            Err(error) => {
                receipt.fault(FindingCode::BadLine, error);
                return None;
            }
        };
        let hash = leaf_hash(line.leaf());
        receipt.leaf = Some((line.index, hash));
        self.check_proof(&line, &hash, receipt);
        if line.leaf().len() > LEAF_BYTES_MAX {
            receipt.fault(FindingCode::BadLine, "the leaf is longer than 65535 bytes");
        }
        let envelope = match Envelope::from_leaf(line.leaf()) {
            Ok(envelope) => envelope,
            Err(error) => {
                receipt.fault(FindingCode::NotCanonical, format!("the leaf is {error}"));
                return None;
            }
        };
        let key = self.trust.keys.get(&envelope.key_id);
        match key {
            None => {
                let message = format!("signed by the key `{}`, which is not trusted", envelope.key_id);
                receipt.fault(FindingCode::UnknownKey, message);
            }
            Some(key) if key.valid_below.is_some_and(|end| line.index >= end) => {
                let message = format!("signed by the key `{}`, which was withdrawn before", envelope.key_id);
                receipt.fault(FindingCode::UnknownKey, message);
            }
            Some(_) => {}
        }
        match read_payload(&envelope.payload) {
            Ok(statement) => receipt.learn(&statement, key, line.disclosure),
            Err((code, message)) => receipt.fault(code, message),
        }
        let signature = Signature::from_bytes(&envelope.signature);
        key.map(|key| Signed { place, message: envelope.signed_bytes(), signature, key })
    }

    fn check_proof(&self, line: &ExportLine<'_>, hash: &LeafHash, receipt: &mut Checked) {
        let Checkpoint { size, root, .. } = self.checkpoint;
        match &line.proof {
            None if self.complete => {}
            Some(_) if self.complete => {
                receipt.fault(FindingCode::BadLine, "a complete export has no proofs, but this line has one");
            }
            None => receipt.fault(FindingCode::BadLine, "the line has no inclusion proof"),
            Some(path) => {
                if let Err(error) = verify_inclusion(hash, line.index, *size, path, root) {
                    let message =
                        format!("not the leaf that the checkpoint covers at index {}: {error}", line.index);
                    receipt.fault(FindingCode::LeafChanged, message);
                }
            }
        }
    }
}

impl Checked {
    fn fault(&mut self, code: FindingCode, message: impl ToString) {
        self.faults.push((code, message.to_string()));
    }

    fn learn(&mut self, statement: &Statement, key: Option<&TrustedKey>, disclosure: Option<&str>) {
        let predicate = &statement.predicate;
        let known = statement.kind == STATEMENT_TYPE && statement.predicate_type == PREDICATE_TYPE;
        if !known {
            let message =
                format!("a `{}` with a `{}` is not a receipt", statement.kind, statement.predicate_type);
            self.fault(FindingCode::BadStatement, message);
        }
        let name = format!("{}/{}", predicate.session.id, predicate.receipt_id);
        if !matches!(statement.subject.as_slice(), [subject] if subject.name == name) {
            self.fault(FindingCode::BadStatement, format!("its only subject should be `{name}`"));
        }
        if let Some(key) = key.filter(|key| key.epoch != predicate.signer_epoch) {
            let message = format!(
                "says it was signed in epoch {}, but its key is the one of epoch {}",
                predicate.signer_epoch, key.epoch
            );
            self.fault(FindingCode::UnknownKey, message);
        }
        match check_disclosure(predicate.disclosure.as_ref(), disclosure) {
            Ok(disclosed) => self.disclosed = disclosed,
            Err(message) => self.fault(FindingCode::Disclosure, message),
        }
        let approval = predicate.approval.iter().map(|approval| &approval.approval_id);
        let mut tickets: Vec<_> = approval
            .chain(predicate.deferral.iter().map(|deferral| &deferral.approval_id))
            .cloned()
            .collect();
        tickets.dedup();
        let commitment = predicate.disclosure.as_ref();
        self.facts = Some(Facts {
            receipt_id: predicate.receipt_id.clone(),
            kind: predicate.kind,
            verdict: predicate.decision.as_ref().map(|decision| decision.verdict),
            session: predicate.session.id.clone(),
            seq: predicate.session.seq,
            prev: predicate.session.prev.clone(),
            tickets,
            committed: commitment.is_some_and(|it| it.mode == DisclosureMode::Committed),
        });
    }
}

/// Reads a payload that is in canonical form. Usually it is just what the schema writes; if it is not, it may be of a
/// later version with fields that this one does not know, and the general canonicaliser has to tell.
fn read_payload(payload: &[u8]) -> Result<Statement, (FindingCode, String)> {
    let bad = |error| (FindingCode::BadStatement, format!("the payload is not a receipt: {error}"));
    let statement: Statement = serde_json::from_slice(payload).map_err(bad)?;
    if serde_json::to_vec(&statement).map_err(bad)? == payload {
        return Ok(statement);
    }
    let value: Value = serde_json::from_slice(payload).map_err(bad)?;
    let canonical = serde_json_canonicalizer::to_vec(&value).map_err(bad)?;
    if canonical == payload {
        return Ok(statement);
    }
    Err((FindingCode::NotCanonical, "the payload is not in the canonical form of RFC 8785".to_owned()))
}

/// Whether something was disclosed, or in what the disclosure and the leaf differ.
fn check_disclosure(in_leaf: Option<&Disclosure>, text: Option<&str>) -> Result<bool, &'static str> {
    match (in_leaf, text) {
        (None, None) => Ok(false),
        (None, Some(_)) => Err("a disclosure came with it, but the receipt has none"),
        (Some(Disclosure { mode: DisclosureMode::Inline, content: Some(content), digest }), None) => {
            if inline_digest(content) == *digest {
                Ok(true)
            } else {
                Err("its inline content has another digest")
            }
        }
        (Some(Disclosure { mode: DisclosureMode::Inline, .. }), _) => {
            Err("an inline disclosure has its content in the receipt and nowhere else")
        }
        (Some(Disclosure { content: Some(_), .. }), _) => {
            Err("its content is in the receipt without being inline")
        }
        (Some(_), None) => Ok(false),
        (Some(Disclosure { digest, .. }), Some(text)) => {
            if disclosure_digest(text) == *digest {
                Ok(true)
            } else {
                Err("the disclosure has another digest")
            }
        }
    }
}

/// Checks a chunk's signatures all at once, and one by one only if that fails. Batch verification also accepts what
/// strict verification calls malleable, but only the owner of a trusted key could make such a signature.
fn check_signatures(signed: &[Signed<'_>], checked: &mut [Checked]) {
    let messages: Vec<&[u8]> = signed.iter().map(|one| one.message.as_slice()).collect();
    let signatures: Vec<Signature> = signed.iter().map(|one| one.signature).collect();
    let keys: Vec<VerifyingKey> = signed.iter().map(|one| one.key.key).collect();
    if verify_batch(&messages, &signatures, &keys).is_ok() {
        return;
    }
    for one in signed {
        if one.key.key.verify_strict(&one.message, &one.signature).is_err() {
            let message = "the signature does not fit the content: one of them was changed";
            checked[one.place].fault(FindingCode::Signature, message);
        }
    }
}
