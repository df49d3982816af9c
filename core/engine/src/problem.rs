//! What is wrong with a policy set: all of it at once, each with its place and what to do.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use serde::Serialize;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The set is refused.
    Error,
    /// The set is used, but it hardly says what its author meant.
    Warning,
    /// Good to know.
    Info,
}

impl Level {
    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What kind of problem it is. The names never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The condition, or a part of it, cannot be false.
    AlwaysTrue,
    /// An annotation is missing, unknown or does not fit.
    Annotation,
    /// So many policies name neither effect nor resource nor principal that every request becomes slow.
    Broad,
    /// So many policies have one and the same scope that its requests become slow.
    Crowded,
    /// Two policies say the same.
    Duplicate,
    /// Two policies have one id.
    DuplicateId,
    /// Everything that has no code of its own, for example a file that is too large.
    Invalid,
    /// A permit does not say why.
    MissingReason,
    /// No policy permits anything.
    NothingPermitted,
    /// It reads, without `has`, what is left out while nobody knows it.
    ReliesOnUnpopulated,
    /// Another policy outranks it wherever it matches, and wants something else.
    Shadowed,
    /// Cedar finds the text odd, for example characters that look like others.
    Suspicious,
    /// Not Cedar.
    Syntax,
    /// It would fail, and Cedar passes over a policy that fails.
    TypeErrorVanishes,
    /// It can never decide anything.
    Unreachable,
}

impl Code {
    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysTrue => "always-true",
            Self::Annotation => "annotation",
            Self::Broad => "broad",
            Self::Crowded => "crowded",
            Self::Duplicate => "duplicate",
            Self::DuplicateId => "duplicate-id",
            Self::Invalid => "invalid",
            Self::MissingReason => "missing-reason",
            Self::NothingPermitted => "nothing-permitted",
            Self::ReliesOnUnpopulated => "relies-on-unpopulated",
            Self::Shadowed => "shadowed",
            Self::Suspicious => "suspicious",
            Self::Syntax => "syntax",
            Self::TypeErrorVanishes => "type-error-vanishes",
            Self::Unreachable => "unreachable",
        }
    }
}

/// One thing that is wrong, or worth a look, in a policy source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyProblem {
    /// What to do about it, when that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What kind of problem it is.
    pub code: Code,
    /// Column, from 1, counted in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The source's name; empty when it concerns the whole set.
    pub file: String,
    /// How much it matters.
    pub level: Level,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// The policy's `@id`, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl PolicyProblem {
    pub(crate) fn new(file: &str, message: impl Into<String>) -> Self {
        Self {
            advice: None,
            code: Code::Invalid,
            column: None,
            file: file.to_owned(),
            level: Level::Error,
            line: None,
            message: message.into(),
            policy: None,
        }
    }

    /// What Cedar has to say about a file whose whole text is `text`.
    pub(crate) fn from_cedar(file: &str, text: &str, error: DetailedError) -> Self {
        let mut problem = Self { code: Code::Syntax, ..Self::new(file, error.message) };
        problem.advice = error.help;
        match error.source_locations.first() {
            Some(label) => problem.at(text, label.loc.start),
            None => problem,
        }
    }

    /// Puts the problem at a byte offset of `text`.
    pub(crate) fn at(mut self, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.line = Some(before.matches('\n').count() + 1);
        self.column = before.get(line_start..).map(|head| head.chars().count() + 1);
        self
    }
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, ":{number}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a policy set, in the order of the sources. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.lines())]
pub struct PolicyErrors(pub Vec<PolicyProblem>);

impl PolicyErrors {
    fn lines(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

impl From<PolicyProblem> for PolicyErrors {
    fn from(problem: PolicyProblem) -> Self {
        Self(vec![problem])
    }
}
