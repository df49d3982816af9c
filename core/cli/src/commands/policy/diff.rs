//! `countersign policy diff`

use std::path::{Path, PathBuf};

use countersign_engine::{Change, Difference, Part, Policies, PolicyInfo, diff};
use countersign_service::policies;

use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Policies are matched by their ids. Layout and comments do not count; a bundle's digest does not depend on them either.

Examples:
  countersign policy diff policies policies/candidate
  countersign policy diff policies policies/candidate --json | jq '.changed[] | {id, parts}'

Exit codes: 0 both sets say the same, 1 they differ, 3 one of them cannot be used.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of the old set.
    old: PathBuf,
    /// Folder of the new set.
    new: PathBuf,
}

/// Compares two sets.
///
/// # Errors
///
/// When one of them cannot be used.
pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let load = |dir: &Path| -> anyhow::Result<Policies> {
        Ok(policies::load(&super::settings(Some(dir), globals)?)?)
    };
    let difference = diff(&load(&args.old)?, &load(&args.new)?)?;
    if globals.json {
        output::json(&difference)?
    } else {
        describe(&difference)?
    }
    Ok(Exit::when(difference.is_empty()))
}

fn describe(difference: &Difference) -> anyhow::Result<()> {
    output::line(format_args!("old bundle {}", difference.old_bundle_sha256))?;
    output::line(format_args!("new bundle {}", difference.new_bundle_sha256))?;
    for (mark, infos) in [("removed", &difference.removed), ("added", &difference.added)] {
        for info in infos {
            output::line(format_args!("{mark}  {}", one_line(info)))?;
        }
    }
    for change in &difference.changed {
        let parts: Vec<&str> = change.parts.iter().map(|part| part.as_str()).collect();
        output::line(format_args!("changed  {}: {}", change.id, parts.join(", ")))?;
        values(change)?;
        let texts = [("-", &change.old_text), ("+", &change.new_text)];
        for (mark, line) in texts.iter().flat_map(|(mark, text)| text.lines().map(move |line| (mark, line))) {
            output::line(format_args!("    {mark} {line}"))?;
        }
    }
    let (added, removed, changed) =
        (difference.added.len(), difference.removed.len(), difference.changed.len());
    output::line(format_args!("{added} added, {removed} removed, {changed} changed"))?;
    Ok(())
}

fn one_line(info: &PolicyInfo) -> String {
    let reason = if info.reason.is_empty() { String::new() } else { format!(": {}", info.reason) };
    format!("{} ({}, priority {}){reason}", info.id, info.verdict, info.priority)
}

/// What fits on a line is told on one.
fn values(change: &Change) -> anyhow::Result<()> {
    let (old, new) = (&change.old, &change.new);
    if old.verdict != new.verdict {
        output::line(format_args!("    {} -> {}", old.verdict, new.verdict))?;
    }
    if change.parts.contains(&Part::Priority) {
        output::line(format_args!("    priority {} -> {}", old.priority, new.priority))?;
    }
    Ok(())
}
