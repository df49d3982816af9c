//! The detectors, compiled, and the scan itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde_json::Value;

use crate::detector::{Detector, Found};
use crate::findings::{Findings, Kind, Tally};
use crate::rule::{self, RULES_MAX, Rule, RuleError, RuleErrors};
use crate::{contact, identity, injection, json, payment, secrets};

/// How much of a text is read, in bytes: half from its beginning, half from its end.
pub const SCAN_BYTES_MAX: usize = 256 << 10;
/// A rejected match longer than this is passed over whole; a shorter one is looked into again. It bounds the work on
/// texts in which everything nearly matches.
const RETRY_BYTES_MAX: usize = 64;
/// How large the compiled literals may grow, in bytes; 64 rules with 32 words of 64 bytes each stay far below it.
const GATES_SIZE_MAX: usize = 64 << 20;
/// How much each thread may keep of the automaton that it builds from them while it reads, in bytes. Too little, and
/// it builds the same states again and again.
const GATES_DFA_SIZE_MAX: usize = 16 << 20;

static BUILTIN: LazyLock<Detectors> = LazyLock::new(|| {
    let detectors = [secrets::DETECTORS, payment::DETECTORS, identity::DETECTORS, contact::DETECTORS];
    // Patterns of injections are compiled here too, not within the first request.
    injection::look("", &mut Tally::default());
    Detectors::of(detectors.into_iter().flatten().map(Compiled::of).collect())
});

/// Everything that is looked for. It holds no state of a scan, so one can be shared by all threads; a clone has to warm
/// up again.
///
/// Every text is first read once for a few literals of each detector; only detectors whose literals occur read it
/// again with their whole pattern.
///
/// ```
/// use countersign_classify::Detectors;
///
/// let findings = Detectors::builtin().scan("IBAN DE44 5001 0517 5407 3249 31");
/// assert_eq!(["FINANCIAL"], *findings.labels);
/// ```
#[derive(Clone)]
pub struct Detectors {
    compiled: Vec<Compiled>,
    gates: RegexSet,
}

/// A detector with its patterns compiled.
#[derive(Clone)]
struct Compiled {
    kind: Kind,
    label: Cow<'static, str>,
    gate: String,
    pattern: Regex,
    needs: Option<Regex>,
    against: Option<Regex>,
    accept: fn(&Found<'_>) -> Option<usize>,
    /// Whether it takes what it finds. An operator's rule does not: a broad one must not hide a secret, nor a built-in
    /// detector the rule.
    takes: bool,
}

impl Detectors {
    /// The built-in detectors. All patterns are compiled at the first call, which takes some tens of milliseconds;
    /// later calls clone them.
    #[must_use]
    pub fn builtin() -> Self {
        BUILTIN.clone()
    }

    /// These and the operator's. A rule without context words reads every text whole.
    ///
    /// # Errors
    ///
    /// [`RuleErrors`] with everything that is wrong with the rules; none of them is added then.
    pub fn with_rules(&self, rules: &[Rule]) -> Result<Self, RuleErrors> {
        let mut errors = Vec::new();
        let mut compiled = self.compiled.clone();
        if rules.len() > RULES_MAX {
            return Err(RuleErrors(vec![RuleError::TooMany(rules.len())]));
        }
        for rule in rules {
            if compiled.iter().any(|other| other.kind.as_str() == rule.name) {
                errors.push(RuleError::NameTaken(rule.name.clone()));
            }
            match rule::compile(rule) {
                Ok(pattern) => compiled.push(Compiled::of_rule(rule, pattern)),
                Err(wrong) => errors.extend(wrong),
            }
        }
        if errors.is_empty() { Ok(Self::of(compiled)) } else { Err(RuleErrors(errors)) }
    }

    /// The name and label of every detector, in the order in which they look.
    pub fn kinds(&self) -> impl Iterator<Item = (&Kind, &str)> {
        self.compiled.iter().map(|detector| (&detector.kind, &*detector.label))
    }

    /// What a text holds. Reads at most [`SCAN_BYTES_MAX`] bytes of it.
    #[must_use]
    pub fn scan(&self, text: &str) -> Findings {
        let (head, tail, is_cut) = head_and_tail(text, SCAN_BYTES_MAX);
        let mut tally = Tally::default();
        tally.truncated = is_cut;
        for part in [head, tail].into_iter().filter(|part| !part.is_empty()) {
            self.scan_part(part, &mut tally);
        }
        tally.finish()
    }

    /// What a JSON value holds: strings and numbers at any depth, and names. A name counts as a word near its value, so
    /// `{"ssn": 78051121}` needs no other. At most 64 KiB of one string and about 256 KiB of the whole are read.
    #[must_use]
    pub fn scan_json(&self, value: &Value) -> Findings {
        let (text, is_cut) = json::flatten(value);
        let mut findings = self.scan(&text);
        findings.truncated |= is_cut;
        findings
    }

    #[expect(
        clippy::expect_used,
        reason = "gates are constants or escaped words of bounded number and length"
    )]
    fn of(compiled: Vec<Compiled>) -> Self {
        let gates = compiled.iter().map(|detector| &detector.gate);
        let gates = RegexSetBuilder::new(gates)
            .unicode(false)
            .size_limit(GATES_SIZE_MAX)
            .dfa_size_limit(GATES_DFA_SIZE_MAX)
            .build()
            .expect("gates compile");
        Self { compiled, gates }
    }

    fn scan_part(&self, text: &str, tally: &mut Tally) {
        let mut taken = Taken::default();
        for detector in self.gates.matches(text).iter().filter_map(|place| self.compiled.get(place)) {
            detector.look(text, &mut taken, tally);
        }
        injection::look(text, tally);
    }
}

impl fmt::Debug for Detectors {
    /// Their number: patterns of an operator may say what nobody else should know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detectors").field("count", &self.compiled.len()).finish_non_exhaustive()
    }
}

impl Compiled {
    fn of(detector: &Detector) -> Self {
        let words: Vec<&str> = detector.needs.to_vec();
        Self {
            kind: detector.name(),
            label: detector.label.into(),
            gate: if detector.gate.is_empty() {
                format!("(?i){}", alternatives(&words))
            } else {
                detector.gate.to_owned()
            },
            pattern: constant(RegexBuilder::new(detector.pattern).unicode(false)),
            needs: near(&words),
            against: near(detector.against),
            accept: detector.accept,
            takes: true,
        }
    }

    fn of_rule(rule: &Rule, pattern: Regex) -> Self {
        let words: Vec<&str> = rule.context.iter().map(|word| word.trim()).collect();
        Self {
            kind: Kind(rule.name.clone().into()),
            label: rule.label.clone().into(),
            gate: if words.is_empty() { String::new() } else { format!("(?i){}", alternatives(&words)) },
            pattern,
            needs: near(&words),
            against: None,
            accept: |found| found.if_so(true),
            takes: false,
        }
    }

    /// Counts what it finds, until there is enough.
    fn look(&self, text: &str, taken: &mut Taken, tally: &mut Tally) {
        let mut from = 0;
        while let Some(found) = self.find(text, from) {
            let (start, end) = found.value;
            let length = (self.accept)(&found).filter(|_| self.is_in_context(&found));
            let is_new = length.is_some_and(|length| !self.takes || taken.take(start, start + length));
            if is_new && !tally.add(&self.kind, &self.label) {
                return;
            }
            from = match length {
                Some(length) => start + length,
                None if end - found.start <= RETRY_BYTES_MAX => found.start + 1,
                None => end,
            };
            from = text.ceil_char_boundary(from.max(found.start + 1));
        }
    }

    fn find<'a>(&self, text: &'a str, from: usize) -> Option<Found<'a>> {
        if self.pattern.captures_len() == 1 {
            let found = self.pattern.find_at(text, from)?;
            return Some(Found { text, start: found.start(), value: (found.start(), found.end()) });
        }
        let captures = self.pattern.captures_at(text, from)?;
        let whole = captures.get(0)?;
        let value = captures.name("v").unwrap_or(whole);
        Some(Found { text, start: whole.start(), value: (value.start(), value.end()) })
    }

    fn is_in_context(&self, found: &Found<'_>) -> bool {
        let needed = |needs: &Regex| needs.is_match(found.before()) || needs.is_match(found.after());
        self.needs.as_ref().is_none_or(needed)
            && self.against.as_ref().is_none_or(|words| !words.is_match(found.before()))
    }
}

/// What earlier detectors took: beginnings and ends that do not overlap.
#[derive(Default)]
struct Taken(BTreeMap<usize, usize>);

impl Taken {
    /// Takes a place, if nobody has any of it.
    fn take(&mut self, start: usize, end: usize) -> bool {
        let is_free = self.0.range(..end).next_back().is_none_or(|(_, taken)| *taken <= start);
        if is_free {
            self.0.insert(start, end);
        }
        is_free
    }
}

/// A text whole, or its beginning and end with together at most `bytes_max` bytes; and whether it was cut.
pub(crate) fn head_and_tail(text: &str, bytes_max: usize) -> (&str, &str, bool) {
    if text.len() <= bytes_max {
        return (text, "", false);
    }
    let head = text.get(..text.floor_char_boundary(bytes_max / 2)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - bytes_max / 2)..).unwrap_or_default();
    (head, tail, true)
}

/// One of the words, wherever it stands.
fn alternatives(words: &[&str]) -> String {
    // Gates match ASCII letters in either case, and others as they are written.
    let upper = words.iter().filter(|word| !word.is_ascii()).map(|word| word.to_uppercase());
    let words = words.iter().map(|word| (*word).to_owned()).chain(upper);
    let words: Vec<_> = words.map(|word| regex::escape(&word).replace(' ', "[ _-]?")).collect();
    format!("(?:{})", words.join("|"))
}

/// One of the words, on its own or in the plural.
fn near(words: &[&str]) -> Option<Regex> {
    let pattern = format!("(?i)(?:^|[^0-9a-zß-ÿ]){}s?(?:[^0-9a-zß-ÿ]|$)", alternatives(words));
    (!words.is_empty()).then(|| constant(&RegexBuilder::new(&pattern)))
}

/// Compiles a pattern that is written in this crate, or words that were escaped.
#[expect(
    clippy::expect_used,
    reason = "a test compiles every pattern of this crate; escaped words always compile"
)]
pub(crate) fn constant(builder: &RegexBuilder) -> Regex {
    builder.build().expect("patterns of this crate compile")
}
