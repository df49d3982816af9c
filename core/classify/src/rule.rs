//! An operator's own detectors.

use std::fmt;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

/// How many rules an operator can add: each reads the whole text.
pub(crate) const RULES_MAX: usize = 64;
/// How large a compiled pattern can grow, in bytes.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// How many context words a rule can have.
const WORDS_MAX: usize = 32;
/// Longest name and label, in bytes; sessions carry labels of this size.
const NAME_BYTES_MAX: usize = 64;

/// A detector of the operator's own, for example of customer numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Words of which one must stand near a match, at most one line before it or behind it. Empty: none needed. A
    /// space in a word also stands for `_`, `-` and nothing; case does not matter.
    #[serde(default)]
    pub context: Vec<String>,
    /// The label that a match gives: `[A-Z][A-Z0-9_]*`, at most 64 bytes.
    pub label: String,
    /// The kind that is reported: `[a-z][a-z0-9_]*`, at most 64 bytes, and no built-in detector's.
    pub name: String,
    /// A pattern in the syntax of the Rust `regex` crate, which has no backtracking; so every pattern takes linear
    /// time. It cannot match the empty text.
    pub pattern: String,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The name is of another form than a kind's.
    #[error("name `{0}` is not of the form `[a-z][a-z0-9_]*`, at most 64 bytes")]
    Name(String),
    /// Another rule or a built-in detector has the name.
    #[error("name `{0}` is taken")]
    NameTaken(String),
    /// The label is of another form than labels.
    #[error("rule `{rule}`: label `{label}` is not of the form `[A-Z][A-Z0-9_]*`, at most 64 bytes")]
    Label {
        /// Whose.
        rule: String,
        /// What it says.
        label: String,
    },
    /// A word is empty or longer than 64 bytes, or there are more than 32.
    #[error("rule `{0}`: there may be 32 context words of 1 to 64 bytes each")]
    Context(String),
    /// The pattern cannot be compiled, or not within the limit of 1 MiB.
    #[error("rule `{rule}`: pattern: {reason}")]
    Pattern {
        /// Whose.
        rule: String,
        /// What the pattern compiler says, on one line.
        reason: String,
    },
    /// The pattern matches the empty text, so it would match everywhere.
    #[error("rule `{0}`: the pattern matches the empty text")]
    MatchesNothing(String),
    /// There are more rules than 64.
    #[error("{0} rules are more than 64")]
    TooMany(usize),
}

/// Everything that is wrong with a set of rules. Not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<RuleError>);

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(place, error)| {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")
        })
    }
}

impl std::error::Error for RuleErrors {}

/// A pattern of a rule, compiled; or everything that is wrong with the rule.
pub(crate) fn compile(rule: &Rule) -> Result<Regex, Vec<RuleError>> {
    let name = rule.name.clone();
    let mut errors = Vec::new();
    if !is_name(&name, u8::is_ascii_lowercase) {
        errors.push(RuleError::Name(name.clone()));
    }
    if !is_name(&rule.label, u8::is_ascii_uppercase) {
        errors.push(RuleError::Label { rule: name.clone(), label: rule.label.clone() });
    }
    let is_word = |word: &String| !word.trim().is_empty() && word.len() <= NAME_BYTES_MAX;
    if rule.context.len() > WORDS_MAX || !rule.context.iter().all(is_word) {
        errors.push(RuleError::Context(name.clone()));
    }
    match RegexBuilder::new(&rule.pattern).size_limit(PATTERN_SIZE_MAX).build() {
        Err(error) => errors.push(RuleError::Pattern { rule: name, reason: on_one_line(&error) }),
        Ok(regex) if regex.is_match("") => errors.push(RuleError::MatchesNothing(name)),
        Ok(regex) if errors.is_empty() => return Ok(regex),
        Ok(_) => {}
    }
    Err(errors)
}

fn is_name(text: &str, is_letter: fn(&u8) -> bool) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.as_bytes().first().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(&byte) || byte.is_ascii_digit() || byte == b'_')
}

/// The compiler draws the pattern over several lines; the last one says what is wrong.
fn on_one_line(error: &regex::Error) -> String {
    let told = error.to_string();
    told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
