//! Precision and recall over `fixtures/classification`, of which half was not looked at while tuning.
//!
//! `UPDATE=1` rewrites the table in `docs/classification.md`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "`allow-*-in-tests` does not reach functions beside the tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_classify::Detectors;
use serde::Deserialize;
use serde_json::Value;

const BEGIN: &str = "<!-- begin: made by core/classify/tests/labelled.rs -->\n";
const END: &str = "<!-- end -->\n";

/// What the sets must reach: precision and recall in hundredths, over all kinds together.
struct Floor {
    set: &'static str,
    tuned: (u32, u32),
    held_back: (u32, u32),
}

const FLOORS: [Floor; 2] = [
    Floor { set: "kinds", tuned: (98, 98), held_back: (95, 97) },
    Floor { set: "signals", tuned: (98, 98), held_back: (94, 85) },
];
/// No kind with at least this many texts may fall below [`KIND_FLOOR`].
const KIND_TEXTS_MIN: u32 = 4;
const KIND_FLOOR: (u32, u32) = (66, 50);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: Option<String>,
    json: Option<Value>,
    kinds: Option<BTreeSet<String>>,
    signals: Option<BTreeSet<String>>,
    held_back: bool,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    hit: u32,
    missed: u32,
    wrong: u32,
}

impl Counts {
    fn texts(self) -> u32 {
        self.hit + self.missed
    }

    /// Of what was found, how much was right; all of nothing.
    fn precision(self) -> u32 {
        (self.hit * 100).checked_div(self.hit + self.wrong).unwrap_or(100)
    }

    /// Of what there was, how much was found.
    fn recall(self) -> u32 {
        (self.hit * 100).checked_div(self.texts()).unwrap_or(100)
    }
}

/// Counts by name, for the tuned and for the held-back half.
#[derive(Default)]
struct Sheet(BTreeMap<String, [Counts; 2]>);

impl Sheet {
    fn note(&mut self, half: usize, wanted: &BTreeSet<String>, found: &BTreeSet<String>) {
        for name in wanted.union(found) {
            let counts = &mut self.0.entry(name.clone()).or_default()[half];
            match (wanted.contains(name), found.contains(name)) {
                (true, true) => counts.hit += 1,
                (true, false) => counts.missed += 1,
                _ => counts.wrong += 1,
            }
        }
    }

    fn whole(&self, half: usize) -> Counts {
        self.0.values().map(|halves| halves[half]).fold(Counts::default(), |sum, counts| Counts {
            hit: sum.hit + counts.hit,
            missed: sum.missed + counts.missed,
            wrong: sum.wrong + counts.wrong,
        })
    }
}

#[test]
fn precision_and_recall_stay_above_their_floors_and_are_published() {
    let detectors = Detectors::builtin();
    let mut sheets: BTreeMap<&str, Sheet> = BTreeMap::new();
    let mut harmless = [(0_u32, 0_u32); 2];
    for (file, number, line) in lines() {
        let found = match (&line.text, &line.json) {
            (Some(text), None) => detectors.scan(&expand(text)),
            (None, Some(json)) => {
                detectors.scan_json(&serde_json::from_str(&expand(&json.to_string())).expect("still JSON"))
            }
            _ => panic!("{file}:{number} has neither text nor json, or both"),
        };
        let kinds: BTreeSet<String> = found.kinds.iter().map(|(kind, _)| kind.to_string()).collect();
        let signals: BTreeSet<String> = found.signals.into_iter().collect();
        let half = usize::from(line.held_back);
        let wanted = line.kinds.clone().or_else(|| line.signals.clone()).unwrap_or_default();
        if wanted.is_empty() {
            harmless[half].0 += 1;
            harmless[half].1 += u32::from(!kinds.is_empty() || !signals.is_empty());
        }
        for (set, wanted, found) in [("kinds", line.kinds, kinds), ("signals", line.signals, signals)] {
            let Some(wanted) = wanted else { continue };
            if wanted != found && !line.held_back {
                println!("{file}:{number} wanted {wanted:?}, found {found:?}");
            }
            sheets.entry(set).or_default().note(half, &wanted, &found);
        }
    }
    let page = repository("docs/classification.md");
    publish(&page, &table(&detectors, &sheets, harmless));
    for floor in FLOORS {
        let sheet = &sheets[floor.set];
        for (half, (precision, recall)) in [floor.tuned, floor.held_back].into_iter().enumerate() {
            let whole = sheet.whole(half);
            assert!(whole.precision() >= precision && whole.recall() >= recall, "{} {half}", floor.set);
        }
        for (name, halves) in &sheet.0 {
            for counts in halves.iter().filter(|counts| counts.texts() >= KIND_TEXTS_MIN) {
                assert!(counts.precision() >= KIND_FLOOR.0 && counts.recall() >= KIND_FLOOR.1, "{name}");
            }
        }
    }
}

#[test]
fn every_kind_has_texts_in_both_halves() {
    let known: BTreeSet<String> = Detectors::builtin().kinds().map(|(kind, _)| kind.to_string()).collect();
    for half in [false, true] {
        let named = lines().filter(|(_, _, line)| line.held_back == half);
        let named: BTreeSet<String> = named.flat_map(|(_, _, line)| line.kinds.unwrap_or_default()).collect();
        assert_eq!(known, named);
    }
}

fn table(detectors: &Detectors, sheets: &BTreeMap<&str, Sheet>, harmless: [(u32, u32); 2]) -> String {
    let labels: BTreeMap<&str, &str> =
        detectors.kinds().map(|(kind, label)| (kind.as_str(), label)).collect();
    let mut table = String::new();
    for (set, sheet) in sheets {
        let (all, found) = if *set == "kinds" { ("all kinds", "kind") } else { ("all signals", "signal") };
        writeln!(table, "| {found} | texts | precision | recall | held back: texts | precision | recall |")
            .unwrap();
        writeln!(table, "| --- | --- | --- | --- | --- | --- | --- |").unwrap();
        let mut row = |name: &str, halves: [Counts; 2]| {
            let cell = |c: Counts| format!("{} | {} % | {} %", c.texts(), c.precision(), c.recall());
            writeln!(table, "| {name} | {} | {} |", cell(halves[0]), cell(halves[1])).unwrap();
        };
        for (name, halves) in &sheet.0 {
            let label = labels.get(name.as_str()).map(|label| format!(" {label}")).unwrap_or_default();
            row(&format!("`{name}`{label}"), *halves);
        }
        row(&format!("**{all}**"), [sheet.whole(0), sheet.whole(1)]);
        table.push('\n');
    }
    let [tuned, held_back] = harmless;
    writeln!(
        table,
        "Texts with nothing in them in which something was found: {} of {}; held back: {} of {}.",
        tuned.1, tuned.0, held_back.1, held_back.0
    )
    .unwrap();
    table
}

/// Holds the block of a page between its marks.
#[track_caller]
fn publish(page: &Path, made: &str) {
    let text = fs::read_to_string(page).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the page has the block's beginning");
    let (_, tail) = rest.split_once(END).expect("the page has the block's end");
    let fresh = format!("{head}{BEGIN}\n{made}\n{END}{tail}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(page, &fresh).unwrap();
    }
    let published = fs::read_to_string(page).unwrap();
    assert!(published == fresh, "{} is stale; UPDATE=1 rewrites it:\n{made}", page.display());
}

fn lines() -> impl Iterator<Item = (String, usize, Line)> {
    let mut files: Vec<_> =
        fs::read_dir(repository("fixtures/classification")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files.into_iter().flat_map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Line> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}")))
            .collect();
        lines.into_iter().enumerate().map(move |(place, line)| (name.clone(), place + 1, line))
    })
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Writes out what stands in `{{…}}`: random text, so that no secret is in the repository; see the folder's README.
fn expand(text: &str) -> String {
    let mut random = Random(text.bytes().fold(0x9e37_79b9_7f4a_7c15, |seed: u64, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    }));
    let mut whole = String::new();
    let mut rest = text;
    while let Some((head, (inner, tail))) =
        rest.split_once("{{").and_then(|(head, rest)| Some((head, rest.split_once("}}")?)))
    {
        whole.push_str(head);
        let (name, argument) = inner.split_once(':').unwrap_or((inner, ""));
        whole.push_str(&made(name, argument, &mut random));
        rest = tail;
    }
    whole + rest
}

fn made(name: &str, argument: &str, random: &mut Random) -> String {
    const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let of = |random: &mut Random, alphabet: &str| random.text(alphabet, argument.parse().expect("a length"));
    match name {
        "alnum" => of(random, ALNUM),
        "letters" => of(random, &ALNUM[..52]),
        "upper" => of(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        "digits" => of(random, "0123456789"),
        "hex" => of(random, "0123456789abcdef"),
        "b64" => of(random, &format!("{ALNUM}+/")),
        "url" => of(random, &format!("{ALNUM}_-")),
        "encode" => STANDARD.encode(argument),
        "jwt" => {
            let [header, claims] = [r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"sub":"u-1","iat":1795451000}"#];
            let signature = random.text(ALNUM, 43);
            format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
        }
        "tags" => {
            argument.chars().map(|letter| char::from_u32(0xe_0000 + u32::from(letter)).unwrap()).collect()
        }
        "zw" => "\u{200b}".to_owned(),
        "rlo" => "\u{202e}".to_owned(),
        other => panic!("unknown placeholder {other}"),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same on every machine.
struct Random(u64);

impl Random {
    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let letters = alphabet.as_bytes();
        (0..length).map(|_| char::from(letters[(self.next() % letters.len() as u64) as usize])).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
