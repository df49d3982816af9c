//! What `rows.toml` may say. `docs/conformance.md` explains it to whoever adds rows.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use countersign_schemas::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::want::Want;

const ROWS: &str = include_str!("rows.toml");
/// What the rows need to be decided by.
pub(super) const POLICIES: &str = include_str!("policies.cedar");

/// Which requirements are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// What AARM says MUST be.
    Core,
    /// What it says SHOULD be, too.
    Extended,
}

/// Every row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    /// By AARM's number, for example `R2`.
    pub(super) requirements: BTreeMap<String, Requirement>,
    pub(super) rows: Vec<Row>,
}

/// One of AARM's requirements.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirement {
    pub(super) level: Level,
    /// How AARM has it verified.
    pub(super) verified: String,
}

/// One thing that is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Key of [`Suite::requirements`].
    pub(super) requirement: String,
    /// Names the row within its requirement.
    pub(super) id: String,
    /// What is done, for people.
    pub(super) done: String,
    pub(super) steps: Vec<Step>,
}

/// One thing that is done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub(super) enum Step {
    Answer(Answer),
    Silence(Silence),
    Send(Send),
    Replay(Replay),
    Audit(Audit),
}

/// Sends one request to the hook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    /// How later steps call it; also the call's id, so that an outcome can name it.
    pub(super) name: String,
    /// Another session than the row's own.
    #[serde(default)]
    pub(super) session: String,
    /// Of the generic hook's contract. Version, id, session, agent and human are filled in where they are not given.
    pub(super) request: Map<String, Value>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// What must come of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// The answer's decision, which is also the receipt's.
    pub(super) decision: Option<Verdict>,
    /// The policies that decided, all of them, in the order of their ids.
    pub(super) by: Option<Vec<String>>,
    /// Fields of the receipt's predicate, by JSON pointer.
    pub(super) receipt: BTreeMap<String, Want>,
}

/// Answers the ticket that an earlier step was given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) name: String,
    /// The step that was given the ticket.
    pub(super) to: String,
    pub(super) approved: bool,
    /// Fields of the resolution's receipt, by JSON pointer.
    #[serde(default)]
    pub(super) receipt: BTreeMap<String, Want>,
}

/// Waits until the ticket that an earlier step was given has ended by itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Silence {
    pub(super) name: String,
    /// The step that was given the ticket.
    pub(super) after: String,
    /// How long that may take, in seconds.
    pub(super) within_seconds: u64,
    /// Fields of the resolution's receipt, by JSON pointer.
    #[serde(default)]
    pub(super) receipt: BTreeMap<String, Want>,
}

/// Sends a session of `fixtures/drift/sessions.json`: its request, then its actions one by one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) kind: String,
    /// The agent's kind, for policies per kind.
    pub(super) agent: String,
    /// When policies must have had their first say.
    #[serde(default)]
    pub(super) first: Vec<First>,
    /// Policies that must not have a say at all.
    #[serde(default)]
    pub(super) never: Vec<String>,
}

/// A policy that must have a say before an action, counted from 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub(super) policy: String,
    pub(super) before: usize,
}

/// Exports the log and checks it as an auditor does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub(super) name: String,
    /// What is done to the export first.
    pub(super) edit: Option<Edit>,
    /// `verified` or `refuted`.
    pub(super) verdict: String,
    /// A finding that must be among those of the check.
    pub(super) finding: Option<String>,
}

/// A change that no auditor may overlook.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Edit {
    /// Another value in a step's receipt, its signature left as it is.
    Change { step: String, pointer: String, value: Value },
    /// A step's receipt is left out.
    Drop(String),
}

impl Suite {
    /// The built-in rows.
    ///
    /// # Errors
    ///
    /// Where the file is wrong.
    pub(super) fn built_in() -> anyhow::Result<Self> {
        let suite: Self = toml::from_str(ROWS).context("rows.toml")?;
        for row in &suite.rows {
            if !suite.requirements.contains_key(&row.requirement) {
                bail!("rows.toml: row `{}` is of no requirement `{}`", row.id, row.requirement);
            }
        }
        Ok(suite)
    }

    /// The rows of the requirements up to `level`, or of those in `only`.
    ///
    /// # Errors
    ///
    /// When `only` names a requirement that has no rows.
    pub(super) fn select(&self, level: Level, only: &[String]) -> anyhow::Result<Vec<&Row>> {
        let has_rows = |name: &&String| self.rows.iter().any(|row| row.requirement == **name);
        if let Some(unknown) = only.iter().find(|name| !has_rows(name)) {
            let known: Vec<_> = self.requirements.keys().filter(has_rows).map(String::as_str).collect();
            bail!("no rows for `{unknown}`; there are some for {}", known.join(", "));
        }
        let wanted = |row: &&Row| match only {
            [] => self.requirements.get(&row.requirement).is_some_and(|found| found.level <= level),
            only => only.contains(&row.requirement),
        };
        Ok(self.rows.iter().filter(wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_expects_something() {
        let suite = Suite::built_in().unwrap();
        let names: BTreeSet<_> = suite.rows.iter().map(|row| (&row.requirement, &row.id)).collect();
        assert_eq!(names.len(), suite.rows.len());
        for row in &suite.rows {
            let expects = row.steps.iter().any(|step| match step {
                Step::Answer(answer) => !answer.receipt.is_empty(),
                Step::Silence(silence) => !silence.receipt.is_empty(),
                Step::Send(send) => send.expect.decision.is_some() || !send.expect.receipt.is_empty(),
                Step::Replay(replay) => !replay.first.is_empty() || !replay.never.is_empty(),
                Step::Audit(_) => true,
            });
            assert!(expects, "{} {}", row.requirement, row.id);
        }
    }

    #[test]
    fn core_leaves_out_what_should_be_unless_it_is_asked_for() {
        let suite = Suite::built_in().unwrap();
        let of = |level, only: &[&str]| -> BTreeSet<String> {
            let only: Vec<_> = only.iter().map(ToString::to_string).collect();
            suite.select(level, &only).unwrap().iter().map(|row| row.requirement.clone()).collect()
        };
        assert!(of(Level::Core, &[]).contains("R2") && !of(Level::Core, &[]).contains("R7"));
        assert!(of(Level::Extended, &[]).contains("R7"));
        assert_eq!(BTreeSet::from(["R7".to_owned()]), of(Level::Core, &["R7"]));
        assert!(suite.select(Level::Core, &["R99".to_owned()]).is_err());
    }
}
