//! What the offline check says of honest exports.

use countersign_receipt::{FindingCode, Outcome, Progress, Report, VerifyOptions, verify};

use crate::support::{Keys, Log, check, check_against, codes};

#[track_caller]
fn assert_verified(report: &Report) {
    assert_eq!((Outcome::Verified, 0), (report.verdict, report.exit_code()), "{:#?}", report.findings);
}

#[test]
fn a_whole_log_is_verified_and_its_open_question_listed() {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    let report = check(&log.export(&keys, 0, 12), &keys.trust());
    assert_verified(&report);
    assert_eq!((12, 3, 6), (report.counts.receipts, report.counts.sessions, report.counts.disclosures));
    assert_eq!(vec![11], report.still_open.iter().map(|ticket| ticket.index).collect::<Vec<_>>());
}

#[test]
fn an_empty_log_is_verified() {
    let keys = Keys::new();
    assert_verified(&check(&Log::default().export(&keys, 0, 0), &keys.trust()));
}

#[test]
fn every_tail_of_a_log_is_verified() {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    for from in 0..=12 {
        let report = check(&log.export(&keys, from, 12), &keys.trust());
        assert_verified(&report);
        let said = report.not_checked.iter().any(|text| text.starts_with("Leaves before"));
        assert_eq!(from > 0, said, "from {from}");
    }
}

#[test]
fn a_selection_is_verified_and_says_that_it_is_one() {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    let report = check(&log.selection(&keys, &[1, 3, 4, 9, 11]), &keys.trust());
    assert_verified(&report);
    assert!(report.not_checked.iter().any(|text| text.contains("left out")), "{:?}", report.not_checked);
}

#[test]
fn every_kept_checkpoint_of_the_log_fits() {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    let kept: Vec<String> = (0..=12).map(|size| log.checkpoint(&keys, size)).collect();
    let report = check_against(&log.export(&keys, 0, 12), &keys.trust(), &kept);
    assert_verified(&report);
    assert_eq!(13, report.counts.kept_checkpoints);
}

#[test]
fn a_kept_checkpoint_that_cannot_be_compared_leaves_the_check_incomplete() {
    let keys = Keys::new();
    let log = Log::sample(&keys);
    let kept = [log.checkpoint(&keys, 3)];
    for export in [log.export(&keys, 5, 12), log.selection(&keys, &[1, 2])] {
        let report = check_against(&export, &keys.trust(), &kept);
        assert_eq!((Outcome::Incomplete, 2), (report.verdict, report.exit_code()));
        assert_eq!(vec![FindingCode::KeptNotCompared], codes(&report));
    }
}

#[test]
fn the_report_does_not_depend_on_the_threads_and_progress_reaches_the_end() {
    let keys = Keys::new();
    let mut log = Log::default();
    for step in 0..250 {
        let session = countersign_schemas::SessionId::derived(&[&(step % 7).to_string()]);
        let statement = log.statement(&session, step);
        log.add(&keys, statement, step);
    }
    let export = log.export(&keys, 0, 250);
    let last = std::cell::Cell::new(Progress { receipts: 0, expected: 0, bytes: 0 });
    let report = |threads| {
        let options =
            VerifyOptions { threads, progress: &|progress| last.set(progress), ..Default::default() };
        verify(export.as_slice(), &keys.trust(), &options)
    };
    assert_verified(&report(1));
    assert_eq!(report(1), report(4));
    let header = export.iter().position(|b| *b == b'\n').unwrap() + 1;
    let whole = Progress { receipts: 250, expected: 250, bytes: (export.len() - header) as u64 };
    assert_eq!(whole, last.get());
}

#[test]
fn a_file_that_is_no_export_is_refuted_at_its_first_line() {
    let keys = Keys::new();
    for text in ["", "\n", "{}\n", "not json\n", "\u{0}"] {
        let report = check(text.as_bytes(), &keys.trust());
        assert_eq!((1, vec![FindingCode::BadLine]), (report.exit_code(), codes(&report)), "{text:?}");
    }
}

#[test]
fn an_export_that_cannot_be_read_to_its_end_is_not_refuted_for_it() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let keys = Keys::new();
    let selection = Log::sample(&keys).selection(&keys, &[1, 2]);
    let reader = std::io::BufReader::new(std::io::Read::chain(selection.as_slice(), Broken));
    let report = verify(reader, &keys.trust(), &VerifyOptions::default());
    assert_eq!((Outcome::Incomplete, vec![FindingCode::Unreadable]), (report.verdict, codes(&report)));
    assert!(report.findings[0].message.contains("the disk is gone"));
}
