//! What the offline check says of exports that somebody changed.

use countersign_receipt::{
    ExportHeader, ExportWriter, FindingCode, LogKey, Outcome, ReceiptKey, generate_key_pem,
};
use countersign_schemas::{ApprovalId, SessionId, Verdict};

use crate::support::{Keys, Log, ORIGIN, check, check_against, codes};

use FindingCode::{
    BadLine, BadStatement, CheckpointSignature, Disclosure, Duplicate, Forked, LeafChanged, MissingLeaf,
    Reordered, Resolution, RootMismatch, SessionChain, Signature, Truncated, UnknownKey,
};

/// Keys, the sample log and its whole export.
fn sample() -> (Keys, Log, Vec<u8>) {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    let export = log.export(&keys, 0, 12);
    (keys, log, export)
}

fn lines(export: &[u8]) -> Vec<String> {
    String::from_utf8(export.to_vec()).unwrap().split_inclusive('\n').map(str::to_owned).collect()
}

/// The leaves in another order, under indices that count on and the same checkpoint.
fn renumbered(log: &Log, export: &[u8], order: &[usize], to: u64) -> Vec<u8> {
    let first = lines(export).remove(0);
    let mut header = ExportHeader::parse(first.as_bytes()).unwrap();
    header.to = to;
    header.complete = false;
    let mut text = serde_json::to_string(&header).unwrap().replace("\"complete\":false", "\"complete\":true");
    for (index, old) in order.iter().enumerate() {
        let leaf = String::from_utf8(log.leaves[*old].clone()).unwrap();
        text += &format!("\n{{\"index\":{index},\"envelope\":{leaf}}}");
    }
    (text + "\n").into_bytes()
}

/// Changes every `stride`th byte, each time in another bit.
fn change_bytes(export: &[u8], keys: &Keys, stride: usize) {
    let trust = keys.trust();
    for at in (0..export.len()).step_by(stride) {
        let mut changed = export.to_vec();
        changed[at] ^= 1 << (at % 7);
        let report = check(&changed, &trust);
        let around = String::from_utf8_lossy(&changed[at.saturating_sub(20)..(at + 20).min(changed.len())]);
        assert_eq!(Outcome::Refuted, report.verdict, "byte {at}: {around}");
    }
}

#[test]
fn no_byte_of_a_tail_can_be_changed() {
    let (keys, log, _) = sample();
    change_bytes(&log.export(&keys, 9, 12), &keys, 1);
}

#[test]
fn no_byte_of_a_selection_can_be_changed() {
    let (keys, log, _) = sample();
    change_bytes(&log.selection(&keys, &[3, 6]), &keys, 1);
}

/// Every byte would take minutes without optimisation; the lines are all alike.
#[test]
fn no_byte_of_a_whole_log_can_be_changed() {
    let (keys, _, export) = sample();
    change_bytes(&export, &keys, 7);
}

#[test]
fn the_same_content_written_differently_is_refuted() {
    let (keys, _, export) = sample();
    let text = String::from_utf8(export).unwrap();
    let changes: [(&str, &str); 6] = [
        ("{\"index\":3,", "{\"index\": 3,"),
        ("{\"index\":3,", " {\"index\":3,"),
        ("{\"index\":3,", "{\"index\":3,\"index\":3,"),
        ("{\"index\":3,", "{\"index\":3.0,"),
        ("\"edge\":[]}\n", "\"edge\":[]}\r\n"),
        ("\"complete\":true,", "\"complete\":true,\"note\":1,"),
    ];
    for (old, new) in changes {
        let report = check(text.replacen(old, new, 1).as_bytes(), &keys.trust());
        assert!(codes(&report).contains(&BadLine), "{new}: {:?}", report.findings);
    }
    let added = check((text.clone() + "\n").as_bytes(), &keys.trust());
    assert_eq!(vec![BadLine], codes(&added)[..1]);
}

#[test]
fn a_deleted_line_is_a_missing_leaf() {
    let (keys, _, export) = sample();
    for at in 1..12 {
        let mut lines = lines(&export);
        lines.remove(at);
        let report = check(lines.concat().as_bytes(), &keys.trust());
        let missing = report.findings.iter().find(|finding| finding.code == MissingLeaf).unwrap();
        assert_eq!(Some(at as u64 - 1), missing.index, "{:?}", report.findings);
    }
}

#[test]
fn a_deleted_leaf_cannot_be_hidden_by_counting_on() {
    let (keys, log, export) = sample();
    for at in 0..12 {
        let order: Vec<usize> = (0..12).filter(|i| *i != at).collect();
        let short = check(&renumbered(&log, &export, &order, 12), &keys.trust());
        assert!(codes(&short).contains(&Truncated), "{:?}", short.findings);
        let shorter = check(&renumbered(&log, &export, &order, 11), &keys.trust());
        assert!(codes(&shorter).contains(&Truncated), "{:?}", shorter.findings);
    }
}

#[test]
fn a_doubled_line_is_a_duplicate() {
    let (keys, _, export) = sample();
    for at in 1..13 {
        let mut lines = lines(&export);
        lines.insert(at, lines[at].clone());
        let report = check(lines.concat().as_bytes(), &keys.trust());
        assert!(codes(&report).contains(&Duplicate), "{:?}", report.findings);
    }
}

#[test]
fn a_moved_line_is_reordered() {
    let (keys, _, export) = sample();
    for at in 1..12 {
        for to in at + 1..13 {
            let mut lines = lines(&export);
            lines.swap(at, to);
            let report = check(lines.concat().as_bytes(), &keys.trust());
            assert!(codes(&report).contains(&Reordered), "{at} and {to}: {:?}", report.findings);
            assert!(!codes(&report).contains(&MissingLeaf), "{at} and {to}: {:?}", report.findings);
        }
    }
}

#[test]
fn a_cut_tail_is_truncated() {
    let (keys, _, export) = sample();
    for length in 1..13 {
        let report = check(lines(&export)[..length].concat().as_bytes(), &keys.trust());
        assert_eq!(vec![Truncated], codes(&report), "{length} lines left: {:?}", report.findings);
    }
}

#[test]
fn a_tail_that_the_operator_cut_shows_against_a_kept_checkpoint_only() {
    let (keys, log, _) = sample();
    let kept = [log.checkpoint(&keys, 12)];
    for size in 0..12 {
        let export = log.export(&keys, 0, size);
        assert_eq!(Outcome::Verified, check(&export, &keys.trust()).verdict);
        let report = check_against(&export, &keys.trust(), &kept);
        assert_eq!((1, vec![Truncated]), (report.exit_code(), codes(&report)));
        assert!(report.findings[0].message.starts_with("truncated: "), "{}", report.findings[0].message);
    }
}

#[test]
fn a_history_that_the_operator_rewrote_is_a_fork() {
    let (keys, log, _) = sample();
    let mut other = Log::default();
    for step in 0..13 {
        let statement = other.statement(&SessionId::derived(&["another"]), step);
        other.add(&keys, statement, step);
    }
    for kept in 1..=12 {
        let kept = [log.checkpoint(&keys, kept)];
        let report = check_against(&other.export(&keys, 0, 13), &keys.trust(), &kept);
        assert_eq!(vec![Forked], codes(&report));
        assert!(report.findings[0].message.starts_with("forked: "), "{}", report.findings[0].message);
    }
}

#[test]
fn two_sessions_that_change_places_give_another_root() {
    let (keys, log, export) = sample();
    let order: Vec<usize> = (0..12)
        .map(|i| {
            if i % 3 == 0 {
                i + 1
            } else if i % 3 == 1 {
                i - 1
            } else {
                i
            }
        })
        .collect();
    let report = check(&renumbered(&log, &export, &order, 12), &keys.trust());
    assert!(codes(&report).contains(&RootMismatch), "{:?}", report.findings);
    assert!(!codes(&report).contains(&Signature), "{:?}", report.findings);
}

#[test]
fn a_session_whose_receipts_change_places_is_no_chain() {
    let (keys, log, export) = sample();
    let mut order: Vec<usize> = (0..12).collect();
    order.swap(3, 6);
    let report = check(&renumbered(&log, &export, &order, 12), &keys.trust());
    assert_eq!(vec![SessionChain, Resolution, RootMismatch], codes(&report));
}

#[test]
fn everything_signed_anew_with_other_keys_is_signed_by_nobody() {
    let (keys, _, _) = sample();
    let other = Keys::new();
    let report = check(&Log::sample(&other).export(&other, 0, 12), &keys.trust());
    assert_eq!(vec![CheckpointSignature, UnknownKey], codes(&report));
    assert_eq!(13, report.findings_total);
}

#[test]
fn another_keys_signature_under_a_trusted_name_is_wrong() {
    let (keys, _, export) = sample();
    let other =
        Keys { log: LogKey::from_pkcs8_pem(ORIGIN, &generate_key_pem().unwrap()).unwrap(), ..Keys::new() };
    let forged = Log::sample(&other).export(&other, 0, 12);
    let forged = String::from_utf8(forged).unwrap().replace(other.receipt.key_id(), keys.receipt.key_id());
    let mut lines_of_both = lines(forged.as_bytes());
    lines_of_both[0] = lines(&export).remove(0);
    let report = check(lines_of_both.concat().as_bytes(), &keys.trust());
    assert!(codes(&report).contains(&Signature), "{:?}", report.findings);
    assert_eq!(12, report.findings.iter().filter(|finding| finding.code == Signature).count());
}

#[test]
fn one_wrong_signature_among_many_is_the_one_that_is_named() {
    let (keys, log, export) = sample();
    let leaf = String::from_utf8(log.leaves[7].clone()).unwrap();
    let at = leaf.find("\"sig\":\"").unwrap() + 7;
    let mut changed = leaf.clone().into_bytes();
    changed[at + 10] = if changed[at + 10] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let report = check(String::from_utf8(export).unwrap().replace(&leaf, &changed).as_bytes(), &keys.trust());
    let wrong: Vec<_> = report.findings.iter().filter(|finding| finding.code == Signature).collect();
    assert_eq!(vec![Some(7)], wrong.iter().map(|finding| finding.index).collect::<Vec<_>>());
}

#[test]
fn a_selection_with_a_leaf_of_another_log_is_refuted() {
    let (keys, log, _) = sample();
    let selection = log.selection(&keys, &[1, 4, 7]);
    let mut lines = lines(&selection);
    lines[2] = lines[2].replace("\"index\":4", "\"index\":5");
    let report = check(lines.concat().as_bytes(), &keys.trust());
    assert_eq!(vec![LeafChanged], codes(&report));
}

#[test]
fn exchanged_disclosures_do_not_fit() {
    let (keys, log, export) = sample();
    let (first, second) = (log.disclosures[2].clone().unwrap(), log.disclosures[4].clone().unwrap());
    let text = String::from_utf8(export).unwrap();
    let exchanged = text.replace(&first, "#").replace(&second, &first).replace('#', &second);
    let report = check(exchanged.as_bytes(), &keys.trust());
    assert_eq!((vec![Disclosure], 2), (codes(&report), report.findings_total));
}

#[test]
fn a_withheld_disclosure_is_not_a_forgery() {
    let (keys, log, export) = sample();
    let withheld = format!(",\"disclosure\":\"{}\"", log.disclosures[2].clone().unwrap());
    let report = check(String::from_utf8(export).unwrap().replace(&withheld, "").as_bytes(), &keys.trust());
    assert_eq!(Outcome::Verified, report.verdict);
    assert!(report.not_checked.iter().any(|text| text.starts_with("The personal part of 1 ")));
}

#[test]
fn a_key_is_believed_for_its_epoch_and_until_it_was_withdrawn() {
    let (keys, _, export) = sample();
    let mut file = keys.trust_file();
    file.receipt_keys[0].valid_below = Some(9);
    let report = check(&export, &file.check().unwrap());
    assert_eq!((vec![UnknownKey], 3), (codes(&report), report.findings_total));
    file.receipt_keys[0].valid_below = None;
    file.receipt_keys[0].epoch = 2;
    let report = check(&export, &file.check().unwrap());
    assert_eq!((vec![UnknownKey], 12), (codes(&report), report.findings_total));
}

#[test]
fn a_service_that_signs_a_broken_session_is_found_out() {
    let keys = Keys::new();
    let mut log = Log::sample(&keys);
    let session = SessionId::derived(&["session", "0"]);
    let mut gap = log.statement(&session, 50);
    gap.predicate.session.seq += 1;
    log.add(&keys, gap, 50);
    let mut relinked = log.statement(&session, 51);
    relinked.predicate.session.prev = "11".repeat(32);
    log.add(&keys, relinked, 51);
    let mut late = log.statement(&SessionId::derived(&["late"]), 52);
    late.predicate.session.seq = 4;
    log.add(&keys, late, 52);
    let report = check(&log.export(&keys, 0, 15), &keys.trust());
    assert_eq!((vec![SessionChain], 3), (codes(&report), report.findings_total), "{:?}", report.findings);
}

#[test]
fn a_service_that_signs_the_same_receipt_twice_is_found_out() {
    let keys = Keys::new();
    let mut log = Log::sample(&keys);
    let again = log.statement(&SessionId::derived(&["session", "0"]), 4);
    log.add(&keys, again, 4);
    let report = check(&log.export(&keys, 0, 13), &keys.trust());
    assert_eq!(vec![Duplicate], codes(&report));
}

#[test]
fn an_answer_without_its_question_is_found_out() {
    let keys = Keys::new();
    let mut log = Log::sample(&keys);
    let mut answer = log.statement(&SessionId::derived(&["session", "1"]), 60);
    answer.predicate.kind = countersign_schemas::ReceiptKind::Resolution;
    answer.predicate.deferral = Some(countersign_schemas::DeferralView {
        approval_id: ApprovalId::derived(&["never asked"]),
        kind: countersign_schemas::DeferralKind::Policy,
        method: Some("timeout".to_owned()),
        needs: Vec::new(),
        policies: Vec::new(),
        resolved_at: None,
    });
    answer.predicate.decision.as_mut().unwrap().verdict = Verdict::Deny;
    log.add(&keys, answer, 60);
    let report = check(&log.export(&keys, 0, 13), &keys.trust());
    assert_eq!(vec![Resolution], codes(&report));
}

#[test]
fn a_statement_of_another_kind_is_no_receipt() {
    let keys = Keys::new();
    let mut log = Log::default();
    let mut statement = log.statement(&SessionId::derived(&["session"]), 0);
    statement.predicate_type = "https://slsa.dev/provenance/v1".to_owned();
    statement.subject[0].name = "another".to_owned();
    log.add(&keys, statement, 0);
    let report = check(&log.export(&keys, 0, 1), &keys.trust());
    assert_eq!((vec![BadStatement], 2), (codes(&report), report.findings_total));
}

#[test]
fn a_header_that_promises_more_than_its_checkpoint_is_refuted() {
    let (keys, log, export) = sample();
    let report = check(&renumbered(&log, &export, &[0, 1], 13), &keys.trust());
    assert_eq!(vec![BadLine], codes(&report));
}

#[test]
fn findings_are_capped_and_counted() {
    let keys = Keys::new();
    let other = ReceiptKey::from_pkcs8_pem(&generate_key_pem().unwrap(), 1).unwrap();
    let (log_key, mut log) = (keys.log, Log::default());
    let stranger = Keys { log: log_key, receipt: other };
    for step in 0..150 {
        let statement = log.statement(&SessionId::derived(&["session"]), step);
        log.add(&stranger, statement, step);
    }
    let mut trusted = stranger.trust_file();
    trusted.receipt_keys.clear();
    let report = check(&log.export(&stranger, 0, 150), &trusted.check().unwrap());
    assert_eq!((100, 150), (report.findings.len(), report.findings_total));
}

#[test]
fn the_writer_refuses_what_the_check_would_refuse() {
    let (_, log, export) = sample();
    let header = ExportHeader::parse(lines(&export)[0].as_bytes()).unwrap();
    let mut writer = ExportWriter::new(Vec::new(), &header).unwrap();
    assert!(writer.push(1, &log.leaves[1], None, None).is_err(), "a gap");
    assert!(writer.push(0, &log.leaves[0], Some(&[]), None).is_err(), "a proof in a complete export");
    writer.push(0, &log.leaves[0], None, None).unwrap();
    assert!(writer.push(0, &log.leaves[0], None, None).is_err(), "a repetition");
    assert!(writer.finish().is_err(), "an early end");
    assert!(ExportWriter::new(Vec::new(), &ExportHeader { to: 11, ..header }).is_err(), "a cut header");
}
