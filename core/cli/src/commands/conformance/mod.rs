//! `countersign conformance`: what AARM requires, row by row, as calls over HTTP to a fresh server or to one that runs.
//!
//! The rows and the policies that they need are data: `rows.toml` and `policies.cedar` beside this file.

mod runner;
mod suite;
mod want;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use countersign_receipt::Trust;
use countersign_sdk::http::Egress;
use countersign_sdk::signature::standard_webhooks_key;
use countersign_sdk::{Secret, SecretRef};
use countersign_service::clock::{Clock as _, SystemClock};
use reqwest::Url;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::exit::Exit;
use crate::stage::{Plan, Stage};
use crate::{output, site};
use runner::{Shown, Target};
use suite::{Level, POLICIES, Row, Suite};

const EXAMPLES: &str = "\
Examples:
  countersign conformance                          every row, on a server of its own that is thrown away
  countersign conformance --level core
  countersign conformance --only R2,R3,R7 --json
  countersign conformance --print-policies > policies/conformance.cedar
  countersign conformance --url https://countersign.example.com --secret-file generic.secret --trust trust.json

A server given with --url must have a `generic` connector and, as its only policies, those of --print-policies. The rows
leave receipts, approvals and deferrals on it.

Exit codes: 0 every row passed, 1 a row failed, 3 the rows could not be run.";
/// A trust file is a few keys.
const TRUST_BYTES_MAX: u64 = 1 << 20;
/// The fresh server's instance.
const GENERIC: &str = "generic";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which requirements: those that MUST be met, or those that SHOULD be, too.
    #[arg(long, value_enum, default_value_t = Level::Extended)]
    level: Level,
    /// Only these requirements, of whatever level.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the policies that the rows are decided by, and do nothing else.
    #[arg(long)]
    print_policies: bool,
    /// A server that runs, instead of a fresh one.
    #[arg(long, value_name = "URL", requires = "secret_file", requires = "trust")]
    url: Option<String>,
    /// Its generic connector's instance.
    #[arg(long, value_name = "NAME", default_value = GENERIC, requires = "url")]
    connector: String,
    /// File with the secret (`whsec_…`) that requests to it are signed with.
    #[arg(long, value_name = "FILE", requires = "url")]
    secret_file: Option<PathBuf>,
    /// File with the API token. Default: the variable COUNTERSIGN_TOKEN, then `keys/operator.token` beside the
    /// configuration.
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// Whose signatures are believed.
    #[arg(long, value_name = "FILE", requires = "url")]
    trust: Option<PathBuf>,
}

/// Runs the rows. `Done` when every row passed.
///
/// # Errors
///
/// When no server can be set up or asked.
pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    if args.print_policies {
        output::text(POLICIES)?;
        return Ok(Exit::Done);
    }
    let suite = Suite::built_in()?;
    let rows = suite.select(args.level, &args.only)?;
    let temporary = tempfile::tempdir()?;
    let (target, ours) = match &args.url {
        Some(url) => (running(url, args, globals)?, None),
        None => fresh(&temporary, globals).await.map(|(target, ours)| (target, Some(ours)))?,
    };
    let shown = show(&target, rows).await;
    if let Some(ours) = ours {
        ours.end().await?;
    }
    let shown = shown?;
    let passed = shown.iter().all(|row| row.passed);
    if globals.json {
        let requirements = summary(&suite, &shown).into_iter().map(|(id, passed, of)| {
            let verified = suite.requirements.get(&id).map(|requirement| &requirement.verified);
            json!({"requirement": id, "verified": verified, "passed": passed, "rows": of})
        });
        let requirements: Vec<_> = requirements.collect();
        output::json(&json!({"passed": passed, "requirements": requirements, "rows": shown}))?;
    } else {
        describe(&suite, &shown)?;
    }
    Ok(Exit::when(passed))
}

async fn show(target: &Target, rows: Vec<&Row>) -> anyhow::Result<Vec<Shown>> {
    let mut shown = Vec::new();
    for row in rows {
        shown.push(target.show(row).await?);
    }
    Ok(shown)
}

/// The server that was started for the rows.
struct Ours {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Ours {
    /// Ends it before its folder goes away.
    async fn end(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.serving.await?
    }
}

/// A server of our own, with the rows' policies and an empty log.
async fn fresh(dir: &TempDir, globals: &Globals) -> anyhow::Result<(Target, Ours)> {
    let policies = vec![("conformance.cedar".to_owned(), POLICIES.to_owned())];
    let stage = Stage::set(Plan { dir: dir.path(), policies, port: 0, store: "sqlite" }).await?;
    let Stage { trust, rehearsal, service, listener, token, url, .. } = stage;
    let secret = rehearsal.lookup("REHEARSAL_WEBHOOK").ok_or_else(|| anyhow!("no webhook secret"))?;
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, token)?;
    let target = target(&url, GENERIC, &Secret::new(secret), Some(token_file), trust, globals)?;
    let (stop, stopped) = oneshot::channel();
    let serving = service.run(listener, async move {
        // A dropped sender also means: stop.
        let _stopped = stopped.await;
    });
    let serving = tokio::spawn(async move { serving.await.map_err(anyhow::Error::from) });
    Ok((target, Ours { stop, serving }))
}

/// The server that the arguments name.
fn running(url: &str, args: &Args, globals: &Globals) -> anyhow::Result<Target> {
    let (Some(secret), Some(trust)) = (&args.secret_file, &args.trust) else {
        return Err(anyhow!("--url needs --secret-file and --trust"));
    };
    let secret = SecretRef::File(secret.clone()).read(&site::environment)?;
    let text = String::from_utf8(site::read_file(trust, TRUST_BYTES_MAX)?)?;
    let trust = Trust::from_json(&text).with_context(|| format!("cannot use `{}`", trust.display()))?;
    target(url.trim_end_matches('/'), &args.connector, &secret, args.token_file.clone(), trust, globals)
}

fn target(
    url: &str,
    connector: &str,
    secret: &Secret,
    token_file: Option<PathBuf>,
    trust: Trust,
    globals: &Globals,
) -> anyhow::Result<Target> {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.with_context(|| format!("`{url}` is not a URL"))?;
    Ok(Target {
        client: Client::new(&Remote { server: Some(url.to_owned()), token_file }, globals)?,
        connector: connector.to_owned(),
        egress: Egress::new([host])?,
        hook: format!("{url}/hooks/{connector}"),
        key: standard_webhooks_key(secret).map_err(anyhow::Error::msg)?,
        run: format!("conformance-{}", SystemClock.now().0),
        trust,
    })
}

/// Each requirement that was shown: how many rows passed, and of how many.
fn summary(suite: &Suite, shown: &[Shown]) -> Vec<(String, usize, usize)> {
    let of = |id: &String| {
        let rows: Vec<_> = shown.iter().filter(|row| row.requirement == *id).collect();
        (id.clone(), rows.iter().filter(|row| row.passed).count(), rows.len())
    };
    suite.requirements.keys().map(of).filter(|(_, _, rows)| *rows > 0).collect()
}

/// For each row what was done, and for each check what was expected and what was seen.
fn describe(suite: &Suite, shown: &[Shown]) -> anyhow::Result<()> {
    for row in shown {
        let result = if row.passed { "pass" } else { "FAIL" };
        output::line(format!("{result}  {} {}: {}", row.requirement, row.row, row.done))?;
        let mut table = output::table(["", "step", "expected", "seen", "receipt"]);
        for check in &row.checks {
            let mark = if check.passed { "" } else { "FAIL" };
            let receipt = check.receipt.as_deref().unwrap_or("-");
            table.add_row([mark, &check.step, &check.expected, &check.seen, receipt]);
        }
        output::line(format!("{}\n", table.trim_fmt()))?;
    }
    for (id, passed, rows) in summary(suite, shown) {
        let verified = suite.requirements.get(&id).map_or("", |requirement| requirement.verified.as_str());
        output::line(format!("{id}  {passed} of {rows} rows passed. To be shown: {verified}"))?;
    }
    Ok(())
}
