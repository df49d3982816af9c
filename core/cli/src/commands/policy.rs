//! `countersign policy`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use countersign_engine::cases::{self, CaseReport, Cases};
use countersign_engine::{Policies, PolicyErrors, PolicyProblem};
use countersign_schemas::PolicyChangeView;
use countersign_service::config::PolicySettings;
use countersign_service::policies::{self, LoadError};
use serde_json::json;

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign policy check                    the configured folder
  countersign policy check policies/candidate
  countersign policy test                     the cases in policies/tests
  countersign policy test policies my-cases.json --require-coverage
  countersign policy reload                   make the running server read its folder again";
const CASES_DIR: &str = "tests";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say everything that is wrong with a policy set, and what is worth a look. Exit code 3 when anything is wrong.
    Check {
        /// Folder of `*.cedar` files. Default: the configured one.
        dir: Option<PathBuf>,
    },
    /// Run test cases, and say which policies no case reaches. Exit code 1 when a case fails.
    Test {
        /// Folder of `*.cedar` files. Default: the configured one.
        dir: Option<PathBuf>,
        /// Files of cases, or folders of them. Default: `tests` in the policy folder or beside it.
        cases: Vec<PathBuf>,
        /// Fail also when a policy decides no case.
        #[arg(long)]
        require_coverage: bool,
    },
    /// Make a running server load its policies again. A bad set is refused and the old one stays.
    Reload(Remote),
}

/// Checks, tests or reloads policies.
///
/// # Errors
///
/// When files cannot be read, or the server refused.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::Check { dir } => check(dir.as_deref(), globals),
        What::Test { dir, cases, require_coverage } => {
            test(dir.as_deref(), &cases, require_coverage, globals)
        }
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

fn check(dir: Option<&Path>, globals: &Globals) -> anyhow::Result<Exit> {
    let settings = settings(dir, globals)?;
    let loaded = match policies::load(&settings) {
        Ok(policies) => Ok(policies),
        Err(LoadError::Policies(PolicyErrors(errors))) => Err(errors),
        Err(error) => return Err(error.into()),
    };
    if globals.json {
        output::json(&match &loaded {
            Ok(policies) => json!({
                "ok": true,
                "bundleSha256": policies.bundle_sha256(),
                "policies": policies.len(),
                "errors": [],
                "warnings": policies.warnings(),
            }),
            Err(errors) => json!({"ok": false, "errors": errors, "warnings": []}),
        })?;
    } else {
        let say = |kind: &str, problem: &PolicyProblem| {
            output::line(format_args!("{kind}: {}", place(&settings.dir, problem)))
        };
        match &loaded {
            Ok(policies) => {
                policies.warnings().iter().try_for_each(|warning| say("warning", warning))?;
                let (count, bundle) = (policies.len(), policies.bundle_sha256());
                output::line(format_args!(
                    "ok: {count} policies (the built-in self-test is one), bundle {bundle}"
                ))?;
            }
            Err(errors) => errors.iter().try_for_each(|error| say("error", error))?,
        }
    }
    Ok(if loaded.is_ok() { Exit::Done } else { Exit::Misuse })
}

/// A problem, with the path of its file as an editor opens it.
fn place(dir: &Path, problem: &PolicyProblem) -> PolicyProblem {
    let file =
        if problem.file.is_empty() { String::new() } else { dir.join(&problem.file).display().to_string() };
    PolicyProblem { file, ..problem.clone() }
}

fn test(
    dir: Option<&Path>,
    files: &[PathBuf],
    require_coverage: bool,
    globals: &Globals,
) -> anyhow::Result<Exit> {
    let settings = settings(dir, globals)?;
    let sources = policies::sources(&settings.dir)?;
    let policies = Policies::load(&sources, policies::options(&settings))?;
    let cases =
        read_cases(&if files.is_empty() { vec![default_cases(&settings.dir)?] } else { files.to_vec() })?;
    let report = cases::run(&policies, &cases);
    if globals.json {
        output::json(&report)?;
    } else {
        describe(&report, &policies)?;
    }
    let covered = report.never_hit.is_empty() || !require_coverage;
    Ok(Exit::when(report.is_success() && covered))
}

fn default_cases(dir: &Path) -> anyhow::Result<PathBuf> {
    let places = [dir.join(CASES_DIR), site::folder(dir).join(CASES_DIR)];
    let found = places.iter().find(|place| place.is_dir()).cloned();
    found.with_context(|| {
        format!("no cases: neither {} nor {} is there", places[0].display(), places[1].display())
    })
}

/// All cases of these files, and of the `*.json` files in these folders, each named after its file.
fn read_cases(places: &[PathBuf]) -> anyhow::Result<Cases> {
    let mut files = Vec::new();
    for place in places {
        if place.is_dir() {
            let mut inside = Vec::new();
            for entry in fs::read_dir(place).with_context(|| format!("cannot read `{}`", place.display()))? {
                inside.push(entry?.path());
            }
            inside.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
            inside.sort();
            files.append(&mut inside);
        } else {
            files.push(place.clone());
        }
    }
    let mut all = Cases::default();
    for file in &files {
        let mut cases = site::read_json::<Cases>(file)?.cases;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        cases.iter_mut().for_each(|case| case.name = format!("{stem}: {}", case.name));
        all.cases.append(&mut cases);
    }
    if all.cases.is_empty() {
        bail!("there is not one case");
    }
    Ok(all)
}

fn describe(report: &CaseReport, policies: &Policies) -> anyhow::Result<()> {
    let mut table = output::table(["policy", "decides", "cases"]);
    for info in policies.iter() {
        let hits = report.hits.get(&info.id).copied().unwrap_or(0);
        table.add_row([info.id.clone(), info.verdict.to_string(), hits.to_string()]);
    }
    output::line(table)?;
    for failure in &report.failures {
        output::line(format_args!("FAILED {}", failure.name))?;
        for difference in &failure.differences {
            output::line(format_args!("       {difference}"))?;
        }
        output::line(format_args!("       reason given: {}", failure.reason))?;
    }
    if !report.never_hit.is_empty() {
        output::line(format_args!("decide no case: {}", report.never_hit.join(", ")))?;
    }
    if !report.never_passed.is_empty() {
        output::line(format_args!("never seen silent: {}", report.never_passed.join(", ")))?;
    }
    output::line(format_args!("{} passed, {} failed", report.passed, report.failures.len()))?;
    Ok(())
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
