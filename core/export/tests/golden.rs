//! Projections of the receipts in `fixtures/export`, against the files beside them. `UPDATE=1` writes those.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign_export::{Projection, csv, ocsf};
use countersign_receipt::Envelope;
use countersign_schemas::{
    Disclosed, PREDICATE_TYPE, Predicate, ReceiptKind, STATEMENT_TYPE, Statement, Subject, SubjectDigest,
    Verdict,
};
use serde::Deserialize;
use serde_json::Value;

const ORIGIN: &str = "countersign.example/log";

/// `<case>.receipt.json`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Why the case exists.
    #[serde(rename = "note")]
    _note: String,
    index: u64,
    predicate: Predicate,
    disclosed: Option<Disclosed>,
}

impl Case {
    /// A leaf with this predicate. The signature is not one: projections do not look at it.
    fn leaf(&self) -> String {
        let name = format!("{}/{}", self.predicate.session.id, self.predicate.receipt_id);
        let statement = Statement {
            kind: STATEMENT_TYPE.to_owned(),
            predicate: self.predicate.clone(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            subject: vec![Subject { digest: SubjectDigest { sha256: "0".repeat(64) }, name }],
        };
        let payload = serde_json::to_vec(&statement).unwrap();
        let leaf = Envelope { payload, key_id: "0".repeat(64), signature: [0; 64] }.to_leaf();
        String::from_utf8(leaf).unwrap()
    }

    fn project<T>(&self, disclosed: Option<&Disclosed>, project: impl Fn(&Projection) -> T) -> T {
        let (index, predicate) = (self.index, &self.predicate);
        project(&Projection { disclosed, envelope: &self.leaf(), index, origin: ORIGIN, predicate })
    }
}

fn cases() -> Vec<(PathBuf, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/export");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inputs = files.filter(|path| path.to_str().unwrap().ends_with(".receipt.json"));
    let read = |path: PathBuf| {
        let case = serde_json::from_slice(&fs::read(&path).unwrap());
        let case = case.map_err(|error| format!("{}: {error}", path.display())).unwrap();
        (path, case)
    };
    inputs.map(read).collect()
}

#[track_caller]
fn check(input: &Path, extension: &str, got: &str) {
    let path = input.with_extension("").with_extension(extension);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(want, got, "{}", path.display());
}

#[test]
fn every_receipt_is_projected_as_the_files_say() {
    for (path, case) in cases() {
        let events = case.project(case.disclosed.as_ref(), ocsf::events);
        check(&path, "ocsf.json", &(serde_json::to_string_pretty(&events).unwrap() + "\n"));
        let row = case.project(case.disclosed.as_ref(), csv::row);
        check(&path, "csv", &(csv::header() + &row));
    }
}

#[test]
fn the_files_hold_every_kind_of_receipt_and_every_verdict() {
    let cases = cases();
    let kinds: HashSet<_> = cases.iter().map(|(_, case)| case.predicate.kind).collect();
    for kind in [
        ReceiptKind::Decision,
        ReceiptKind::Resolution,
        ReceiptKind::Outcome,
        ReceiptKind::Observation,
        ReceiptKind::Intent,
        ReceiptKind::SessionStart,
        ReceiptKind::SessionEnd,
        ReceiptKind::Gap,
        ReceiptKind::PolicyChange,
        ReceiptKind::Halt,
        ReceiptKind::KeyEpoch,
        ReceiptKind::Erasure,
    ] {
        assert!(kinds.contains(&kind), "{}", kind.as_str());
    }
    let decisions = cases.iter().filter_map(|(_, case)| case.predicate.decision.as_ref());
    let verdicts: HashSet<_> = decisions.map(|decision| decision.verdict).collect();
    for verdict in [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer] {
        assert!(verdicts.contains(&verdict), "{verdict}");
    }
}

#[test]
fn an_event_holds_the_whole_receipt_but_for_its_personal_part() {
    for (path, case) in cases() {
        let event = case.project(None, ocsf::event);
        let held: Predicate = serde_json::from_value(event["unmapped"]["aarm"]["receipt"].clone()).unwrap();
        let mut want = case.predicate.clone();
        if let Some(disclosure) = &mut want.disclosure {
            disclosure.content = None;
        }
        assert_eq!(want, held, "{}", path.display());
    }
}

/// Personal text in the files is marked, so that it can be looked for.
const PERSONAL: &str = "PRIVATE";

#[test]
fn what_is_disclosed_is_there_when_it_is_given_and_never_otherwise() {
    let mut marked = 0;
    for (path, case) in cases() {
        let text = |disclosed| {
            let events = case.project(disclosed, ocsf::events);
            Value::from(events).to_string() + &case.project(disclosed, csv::row)
        };
        assert!(!text(None).contains(PERSONAL), "{}", path.display());
        if let Some(disclosed) = &case.disclosed {
            let given = serde_json::to_string(disclosed).unwrap().matches(PERSONAL).count();
            // Once in the events and once in the row, or more often.
            assert!(text(Some(disclosed)).matches(PERSONAL).count() >= 2 * given, "{}", path.display());
            marked += given;
        }
    }
    assert!(marked > 0);
}

#[test]
fn events_that_belong_together_can_be_joined_and_none_is_taken_for_another() {
    let mut seen = HashSet::new();
    for (path, case) in cases() {
        let events = case.project(None, ocsf::events);
        for event in &events {
            assert_eq!(case.predicate.receipt_id.as_str(), event["metadata"]["original_event_uid"]);
            assert_eq!(events[0]["metadata"]["correlation_uid"], event["metadata"]["correlation_uid"]);
            assert!(seen.insert(event["metadata"]["uid"].clone()), "{}", path.display());
        }
    }
}
