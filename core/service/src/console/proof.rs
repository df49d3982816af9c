//! What the page can prove about a receipt, with nothing but the log and our public keys: the same check as
//! `countersign verify`, over an export of this one receipt.

use countersign_receipt::{
    Checkpoint, EXPORT_VERSION, ExportHeader, ExportWriter, Finding, FindingCode, VerifyOptions, leaf_hash,
    verify,
};
use countersign_schemas::Predicate;
use countersign_store::{Query, StoredLeaf};
use maud::{Markup, html};

use super::Desk;
use super::receipts::read;
use super::refusal::Refusal;

/// One thing that was checked.
pub(crate) struct Check {
    name: &'static str,
    /// What holds, or what does not.
    result: Result<String, String>,
}

/// The findings that speak against each of the checks.
const AGAINST: [(&str, &[FindingCode]); 4] = [
    (
        "Signature",
        &[
            FindingCode::Signature,
            FindingCode::UnknownKey,
            FindingCode::NotCanonical,
            FindingCode::BadStatement,
            FindingCode::BadLine,
        ],
    ),
    ("In the log", &[FindingCode::LeafChanged]),
    ("Checkpoint", &[FindingCode::CheckpointSignature]),
    ("Disclosed content", &[FindingCode::Disclosure]),
];

/// Checks a receipt.
///
/// # Errors
///
/// [`Refusal::Store`] when the log cannot be read.
pub(crate) async fn check(
    desk: &Desk,
    leaf: &StoredLeaf,
    predicate: Option<&Predicate>,
) -> Result<Vec<Check>, Refusal> {
    let store = &desk.app.pipeline.store;
    let none = || Refusal::NotFound("the log is empty".into());
    let head = store.checkpoint().await?.ok_or_else(none)?;
    let path = store.inclusion(leaf.index, head.size).await?;
    let export = export(leaf, &head.note, head.size, &path).map_err(Refusal::Write)?;
    let report = verify(export.as_slice(), &desk.console.trust, &VerifyOptions::default());
    let says = |codes: &[FindingCode]| report.findings.iter().find(|of| codes.contains(&of.code)).map(text);
    let holds = [
        format!("by receipt key epoch {}", predicate.map_or(0, |predicate| predicate.signer_epoch)),
        format!("leaf {} of {}, proved by {} hashes", leaf.index, head.size, path.len()),
        format!("of {} leaves, signed by {}", head.size, desk.console.trust.origin()),
        "fits the digest in the receipt".to_owned(),
    ];
    let mut checks = Vec::new();
    for ((name, codes), holds) in AGAINST.into_iter().zip(holds) {
        if name == AGAINST[3].0 && leaf.disclosure.is_none() {
            continue;
        }
        checks.push(Check { name, result: says(codes).map_or(Ok(holds), Err) });
    }
    if let Some(predicate) = predicate {
        checks.push(Check { name: "Session chain", result: follows(desk, leaf, predicate).await? });
    }
    Ok(checks)
}

fn text(finding: &Finding) -> String {
    finding.message.clone()
}

/// An export that holds this receipt and its inclusion proof.
fn export(
    leaf: &StoredLeaf,
    note: &str,
    size: u64,
    path: &[countersign_receipt::LeafHash],
) -> Result<Vec<u8>, String> {
    let checkpoint = Checkpoint::parse_unverified(note).map_err(|error| error.to_string())?;
    let header = ExportHeader {
        checkpoint: note.to_owned(),
        complete: false,
        edge: Vec::new(),
        from: 0,
        origin: checkpoint.origin,
        to: size,
        version: EXPORT_VERSION,
    };
    let mut writer = ExportWriter::new(Vec::new(), &header).map_err(|error| error.to_string())?;
    writer
        .push(leaf.index, &leaf.bytes, Some(path), leaf.disclosure.as_deref())
        .map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())
}

/// Whether the receipt names the one before it in its session.
async fn follows(
    desk: &Desk,
    leaf: &StoredLeaf,
    predicate: &Predicate,
) -> Result<Result<String, String>, Refusal> {
    let session = &predicate.session;
    let query =
        Query { below: Some(leaf.index), limit: 1, session_id: Some(session.id.clone()), ..Query::default() };
    let before = desk.app.pipeline.store.find(&query).await?.into_iter().next();
    Ok(chained(before.as_ref(), &session.prev, session.seq))
}

/// Whether `prev` and `seq` continue from `before`, the session's receipt before, if there is one.
pub(crate) fn chained(before: Option<&StoredLeaf>, prev: &str, seq: u64) -> Result<String, String> {
    let (wanted, at) = match before {
        None => ("0".repeat(64), 0),
        Some(before) => {
            let Some(statement) = read(before) else {
                return Err("the receipt before cannot be read".into());
            };
            (hex::encode(leaf_hash(&before.bytes)), statement.predicate.session.seq + 1)
        }
    };
    match (wanted == prev, at == seq) {
        (true, true) if seq == 0 => Ok("the session's first receipt".into()),
        (true, true) => Ok(format!("receipt {seq} names receipt {} by its hash", seq - 1)),
        (false, _) => Err("it does not name the receipt that stands before it in the session".into()),
        (true, false) => Err(format!("it says it is receipt {seq} of its session, but it is {at}")),
    }
}

/// The checks as a list that says what was found in words.
pub(crate) fn list(checks: &[Check]) -> Markup {
    let failed = checks.iter().filter(|check| check.result.is_err()).count();
    html! {
        section class={ "card proof" @if failed > 0 { " broken" } } aria-labelledby="proof" {
            h2 id="proof" {
                @if failed == 0 { "Verified" } @else { "Not verified" }
            }
            p class="muted small" { "Checked for this page against the log’s newest checkpoint, with public keys only." }
            ul class="checks" {
                @for check in checks {
                    li class=(if check.result.is_ok() { "holds" } else { "fails" }) {
                        strong { (check.name) } " "
                        span class="unseen" { @if check.result.is_ok() { "holds: " } @else { "fails: " } }
                        span { (check.result.as_ref().unwrap_or_else(|why| why)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_receipt_that_names_another_or_another_place_is_not_chained() {
        let zeros = "0".repeat(64);
        assert!(chained(None, &zeros, 0).is_ok());
        assert!(chained(None, &"1".repeat(64), 0).is_err());
        assert!(chained(None, &zeros, 3).is_err());
    }
}
