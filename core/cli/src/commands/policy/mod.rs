//! `countersign policy`

mod check;
mod diff;
mod explain;
mod history;
mod replay;
mod suggest;
mod test;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use countersign_schemas::PolicyChangeView;
use countersign_service::config::PolicySettings;
use serde_json::json;

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign policy check                    the configured folder
  countersign policy check policies/candidate --strict
  countersign policy test                     the cases in policies/tests
  countersign policy test policies my-cases.json --min-coverage 100
  countersign policy diff policies policies/candidate
  countersign policy replay --candidate policies/candidate --since 7d --fail-on weaker
  countersign policy explain rcp_01h…         why it was decided so
  countersign policy suggest --since 30d      a draft of permits from what was allowed
  countersign policy reload                   make the running server read its folder again

A change, step by step: edit a copy of the folder, `check` it, `test` it, see with `diff` what changed and with `replay`
what that would have changed, then copy it into place and `reload`.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say everything that is wrong with a policy set, and what is worth a look.
    Check(check::Args),
    /// Run test cases, and say which policies no case reaches.
    Test(test::Args),
    /// Decide again, under another set, what was decided before, and say what would have changed.
    Replay(replay::Args),
    /// Say why a receipt's action was decided as it was, and what would be decided now.
    Explain(explain::Args),
    /// Draft permits from what was allowed: no wider than what agents did.
    Suggest(suggest::Args),
    /// Compare two policy sets, policy by policy. Exit code 1 when they differ.
    Diff(diff::Args),
    /// Make a running server load its policies again. A bad set is refused and the old one stays.
    Reload(Remote),
}

/// Checks, tests, compares, replays, explains, drafts or reloads policies.
///
/// # Errors
///
/// When files or receipts cannot be read, or the server refused.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::Check(args) => check::run(&args, globals),
        What::Test(args) => test::run(&args, globals),
        What::Replay(args) => replay::run(args, globals).await,
        What::Explain(args) => explain::run(args, globals).await,
        What::Suggest(args) => suggest::run(args, globals).await,
        What::Diff(args) => diff::run(&args, globals),
        What::Reload(remote) => reload(&remote, globals).await,
    }
}

/// How the policies of `dir`, or of the configured folder, are to be read.
///
/// # Errors
///
/// When there is neither a folder nor a configuration.
pub(crate) fn settings(dir: Option<&Path>, globals: &Globals) -> anyhow::Result<PolicySettings> {
    let configured = match dir {
        Some(_) => site::load_if_there(&globals.config)?,
        None => Some(site::load(&globals.config).context("say which policies, or configure them")?),
    };
    match (configured, dir) {
        (Some(config), None) => Ok(config.policies),
        (Some(config), Some(dir)) => Ok(PolicySettings { dir: dir.to_owned(), ..config.policies }),
        (None, dir) => Ok(serde_json::from_value(json!({"dir": dir}))?),
    }
}

/// A file of a policy set, as an editor opens it.
fn place(dir: &Path, file: &str) -> PathBuf {
    let path = dir.join(file);
    // What is built in has no file.
    if path.exists() { path } else { file.into() }
}

async fn reload(remote: &Remote, globals: &Globals) -> anyhow::Result<Exit> {
    let client = Client::new(remote, globals)?;
    let change: PolicyChangeView = client.post(&["v1", "policies", "reload"], &json!({})).await?;
    if globals.json {
        output::json(&change)?;
    } else {
        let what = if change.applied { "in force" } else { "unchanged" };
        output::line(format_args!("{what}: {} policies, bundle {}", change.policies, change.bundle_sha256))?;
    }
    Ok(Exit::Done)
}
