//! `countersign policy test`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use countersign_engine::cases::{self, CaseReport, Cases};
use countersign_engine::coverage::{self, Coverage};
use countersign_engine::{Policies, PolicyInfo};
use countersign_service::policies;
use serde_json::json;

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
A case is an action, perhaps what its session did before, and what must be decided; policies/README.md shows one.
Coverage is the share of policies whose condition some case satisfies. A policy that no case leaves silent may hold for
everything: \"never seen silent\" names those.

Examples:
  countersign policy test
  countersign policy test policies my-cases.json --min-coverage 100
  countersign policy test --json | jq '.coverage.neverSatisfied'

Exit codes: 0 all is well, 1 a case failed or coverage is too low, 3 the set or the cases cannot be used.";
const CASES_DIR: &str = "tests";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of `*.cedar` files. Default: the configured one.
    dir: Option<PathBuf>,
    /// Files of cases, or folders of them. Default: `tests` in the policy folder or beside it.
    cases: Vec<PathBuf>,
    /// Fail also when a policy decides no case.
    #[arg(long)]
    require_coverage: bool,
    /// Fail also when fewer than this share of policies, in percent, is satisfied by some case.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
}

/// Runs cases.
///
/// # Errors
///
/// When the set or the cases cannot be read or used.
pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let settings = super::settings(args.dir.as_deref(), globals)?;
    let sources = policies::sources(&settings.dir)?;
    let policies = Policies::load(&sources, policies::options(&settings))?;
    let places = if args.cases.is_empty() { vec![default_cases(&settings.dir)?] } else { args.cases.clone() };
    let cases = read_cases(&places)?;
    let report = cases::run(&policies, &cases);
    let coverage = coverage::measure(&policies, &cases);
    if globals.json {
        let mut view = serde_json::to_value(&report)?;
        view["coverage"] = json!(coverage);
        output::json(&view)?;
    } else {
        describe(&report, &coverage, &policies)?;
    }
    let decided = !args.require_coverage || report.never_hit.is_empty();
    let covered = coverage.percent >= usize::from(args.min_coverage.unwrap_or(0));
    Ok(Exit::when(report.is_success() && decided && covered))
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

fn describe(report: &CaseReport, coverage: &Coverage, policies: &Policies) -> anyhow::Result<()> {
    output::line(table(report, coverage, policies.iter()))?;
    for failure in &report.failures {
        output::line(format_args!("FAILED {}", failure.name))?;
        for difference in &failure.differences {
            output::line(format_args!("       {difference}"))?;
        }
        output::line(format_args!("       reason given: {}", failure.reason))?;
    }
    for (what, ids) in [
        ("decide no case", &report.never_hit),
        ("never satisfied", &coverage.never_satisfied),
        ("never seen silent", &report.never_passed),
    ] {
        if !ids.is_empty() {
            output::line(format_args!("{what}: {}", ids.join(", ")))?;
        }
    }
    let (passed, failed, percent) = (report.passed, report.failures.len(), coverage.percent);
    output::line(format_args!("{passed} passed, {failed} failed, {percent} % of the policies covered"))?;
    Ok(())
}

fn table<'a>(
    report: &CaseReport,
    coverage: &Coverage,
    infos: impl Iterator<Item = &'a PolicyInfo>,
) -> comfy_table::Table {
    let mut table =
        output::table(["policy", "decides", "cases", "satisfied", "not satisfied", "undecidable", "failed"]);
    for (info, count) in infos.zip(&coverage.policies) {
        let hits = report.hits.get(&info.id).copied().unwrap_or(0);
        table.add_row([
            info.id.clone(),
            info.verdict.to_string(),
            hits.to_string(),
            count.satisfied.to_string(),
            count.not_satisfied.to_string(),
            count.undecidable.to_string(),
            count.faults.to_string(),
        ]);
    }
    table
}
