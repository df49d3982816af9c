//! The starter set in `policies/`: it loads, decides what its cases say, and every policy is reached by one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use countersign_engine::cases::{CaseReport, Cases, run};
use countersign_engine::{Policies, PolicySource};
use countersign_schemas::Verdict;

use crate::options;

fn folder(name: &str) -> Vec<(String, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(name);
    let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<(String, String)> = entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn sources() -> Vec<PolicySource> {
    folder("base").into_iter().map(|(name, text)| PolicySource { name, text }).collect()
}

fn policies(sources: &[PolicySource]) -> Policies {
    Policies::load(sources, options()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn cases() -> Cases {
    let files = folder("tests").into_iter();
    let parsed =
        files.map(|(name, text)| serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}")));
    Cases { cases: parsed.flat_map(|cases: Cases| cases.cases).collect() }
}

#[test]
fn the_starter_set_decides_what_its_cases_say_and_every_policy_is_covered() {
    let policies = policies(&sources());
    assert!(policies.warnings().is_empty(), "{:?}", policies.warnings());
    let cases = cases();
    let report = run(&policies, &cases);
    let all =
        CaseReport { hits: report.hits.clone(), passed: cases.cases.len() as u64, ..CaseReport::default() };
    assert_eq!(all, report);
}

#[test]
fn the_starter_set_reaches_all_five_decisions() {
    let verdicts: BTreeSet<&str> = cases().cases.iter().map(|case| case.expect.verdict.as_str()).collect();
    let all = [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer];
    assert_eq!(all.map(Verdict::as_str).into_iter().collect::<BTreeSet<_>>(), verdicts);
}

/// A case that no policy depends on tests nothing.
#[test]
fn without_any_one_policy_some_case_fails() {
    let cases = cases();
    for policy in policies(&sources()).iter() {
        let mut sources = sources();
        let marker = format!("@id(\"{}\")", policy.id);
        let source = sources.iter_mut().find(|source| source.text.contains(&marker)).unwrap();
        let start = source.text.find(&marker).unwrap();
        let rest = &source.text[start..];
        let end = rest.find("\n\n").unwrap_or(rest.len());
        source.text.replace_range(start..start + end, "");
        let failures = run(&policies(&sources), &cases).failures;
        assert!(!failures.is_empty(), "nothing fails without `{}`", policy.id);
    }
}
