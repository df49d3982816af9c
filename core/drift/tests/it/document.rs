//! The tables of `docs/drift.md` are what the code measures.

use std::fs;
use std::path::Path;

use countersign_drift::calibrate::{Kind, calibrate};
use countersign_drift::{Embedder, Lexical, Profile};
use countersign_schemas::Degree;

use crate::bars::averages_of_sessions;
use crate::{pairs, sequences};

const BEGIN: &str = "<!-- begin: ";
const END: &str = "<!-- end -->";

/// The document with what stands between each `begin` and its `end` replaced.
fn rewritten(document: &str) -> String {
    let mut parts = document.split(BEGIN);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        made.push_str(&format!("{BEGIN}{name} -->\n{}{END}{after}", table(name)));
    }
    made
}

fn table(name: &str) -> String {
    match name {
        "held back" => report(true, &Lexical),
        "tuning" => report(false, &Lexical),
        "sessions" => sessions(),
        "thresholds" => thresholds(),
        other => format!("There is no table `{other}`.\n"),
    }
}

fn report(held_back: bool, embedder: &dyn Embedder) -> String {
    calibrate(&pairs(held_back), embedder, &Profile::default(), Degree::ratio(1, 10)).to_string()
}

fn sessions() -> String {
    let profile = Profile::default();
    let mut rows = String::from(
        "| session | highest average | alert | defer | step up |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for sequence in sequences() {
        let steps = sequence.replay(&Lexical, &profile);
        let highest = steps.iter().map(|(_, trend)| trend.ema).max().unwrap();
        let reached = |threshold| {
            let at = steps.iter().position(|(_, trend)| trend.ema >= threshold);
            at.map_or("–".to_owned(), |at| format!("step {}", at + 1))
        };
        let (domain, kind) = (&sequence.domain, format!("{:?}", sequence.kind).to_lowercase());
        let [alert, defer, step_up] = [profile.alert, profile.defer, profile.step_up].map(reached);
        rows.push_str(&format!("| {domain}, {kind} | {highest} | {alert} | {defer} | {step_up} |\n"));
    }
    rows
}

/// How often sessions pass each threshold, at how many percent of their steps.
fn thresholds() -> String {
    let profile = Profile::default();
    let kinds: [&[Kind]; 4] =
        [&[Kind::Aligned], &[Kind::Aligned, Kind::Paraphrase], &[Kind::WrongDeed], &[Kind::OffTopic]];
    let averages = kinds.map(|kinds| averages_of_sessions(true, kinds, &profile));
    let mut rows = String::from(
        "| average from | value | aligned | aligned, half in other words | wrong deed | off topic |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (name, threshold) in
        [("alert", profile.alert), ("defer", profile.defer), ("step up", profile.step_up)]
    {
        rows.push_str(&format!("| {name} | {threshold} |"));
        for averages in &averages {
            let passed = averages.iter().filter(|average| **average >= threshold).count();
            rows.push_str(&format!(" {:.1} % |", passed as f64 / averages.len() as f64 * 100.0));
        }
        rows.push('\n');
    }
    rows
}

#[test]
fn the_tables_of_the_document_are_measured() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drift.md");
    let document = fs::read_to_string(&path).unwrap();
    let made = rewritten(&document);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
        return;
    }
    assert!(document == made, "docs/drift.md is stale; UPDATE=1 rewrites it");
}

/// `STATIC_TABLE` is a folder, `STATIC_TABLE_SHA256` what its two files have together.
#[cfg(feature = "static-table")]
#[test]
fn a_static_table_measures_the_held_back_pairs_too() {
    let Some(folder) = std::env::var_os("STATIC_TABLE") else { return };
    let sha256 = std::env::var_os("STATIC_TABLE_SHA256").unwrap().into_string().unwrap();
    let table = countersign_drift::StaticTable::load("static", Path::new(&folder), &sha256).unwrap();
    println!("{}", report(true, &table));
    let lexical = calibrate(&pairs(true), &Lexical, &Profile::default(), Degree::ratio(1, 10));
    assert_eq!(lexical.lines.len(), report(true, &table).lines().count() - 2);
}
