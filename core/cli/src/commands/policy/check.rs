//! `countersign policy check`

use std::path::{Path, PathBuf};

use countersign_engine::{Level, PolicyErrors, PolicyProblem, lint};
use countersign_service::policies::{self, LoadError};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const CODES: &str = "\
Every finding has a code:
  error    syntax, annotation, duplicate-id, type-error-vanishes, unreachable, invalid: the set is refused
  warning  unreachable           it can never decide anything
           shadowed              another policy comes first wherever it matches, and wants something else
           always-true           its condition, or a part of it, cannot be false
           duplicate             it says the same as another policy
           broad, crowded        so many policies share a scope that requests become slow
           nothing-permitted     everything is denied
           suspicious            characters that look like others
  info     missing-reason        the receipts of what it allows will not say why
           relies-on-unpopulated the action is deferred while nobody knows what it reads

Warnings are proven, not guessed: they tell of conditions that are literally parts of each other, not of every overlap.

Examples:
  countersign policy check
  countersign policy check policies/candidate --strict
  countersign policy check --json | jq -r '.warnings[] | .code'

Exit codes: 0 nothing is wrong, 1 a warning with --strict, 3 the set is refused.";

#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub(super) struct Args {
    /// Folder of `*.cedar` files. Default: the configured one.
    dir: Option<PathBuf>,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
}

/// Checks a set.
///
/// # Errors
///
/// When its files cannot be read.
pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let settings = super::settings(args.dir.as_deref(), globals)?;
    let (problems, set) = match policies::load(&settings) {
        Ok(policies) => (lint(&policies)?, Some((policies.bundle_sha256().to_owned(), policies.len()))),
        Err(LoadError::Policies(PolicyErrors(errors))) => (errors, None),
        Err(error) => return Err(error.into()),
    };
    if globals.json {
        output::json(&view(&problems, set.as_ref()))?;
    } else {
        problems.iter().try_for_each(|problem| output::line(sentence(&settings.dir, problem)))?;
        if let Some((bundle, count)) = &set {
            output::line(format_args!(
                "ok: {count} policies (the built-in self-test is one), bundle {bundle}"
            ))?;
        }
    }
    let warned = problems.iter().any(|problem| problem.level == Level::Warning);
    Ok(match set {
        None => Exit::Misuse,
        Some(_) => Exit::when(!(args.strict && warned)),
    })
}

fn view(problems: &[PolicyProblem], set: Option<&(String, usize)>) -> Value {
    let of = |level: Level| problems.iter().filter(|problem| problem.level == level).collect::<Vec<_>>();
    let mut view = json!({
        "ok": set.is_some(),
        "errors": of(Level::Error),
        "warnings": of(Level::Warning),
        "infos": of(Level::Info),
    });
    if let Some((bundle, count)) = set {
        view["bundleSha256"] = json!(bundle);
        view["policies"] = json!(count);
    }
    view
}

/// Level, code, place, what is wrong and what to do about it.
fn sentence(dir: &Path, problem: &PolicyProblem) -> String {
    let file = match problem.file.as_str() {
        "" => String::new(),
        file => super::place(dir, file).display().to_string(),
    };
    let placed = PolicyProblem { file, ..problem.clone() };
    format!("{}[{}]: {placed}", problem.level.as_str(), problem.code.as_str())
}
