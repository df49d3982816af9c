//! `countersign demo`: recorded hooks of every vendor, properly signed, through real HTTP to this program itself;
//! then the log is exported and verified as an auditor would.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_connectors::rehearsal::Scene;
use countersign_receipt::{Outcome, Trust, VerifyOptions, verify};
use countersign_schemas::{ApprovalId, ReceiptKind, Verdict};
use countersign_sdk::http::Egress;
use countersign_service::approval::{Answer, Approver};
use countersign_service::clock::{Clock, SystemClock};
use countersign_service::export::{self, Filter};
use countersign_store::{Query, Store, StoredLeaf};
use futures::TryStreamExt as _;
use reqwest::Method;

use crate::args::Globals;
use crate::exit::Exit;
use crate::output;
use crate::stage::{Plan, Stage, base_policies};

/// `countersign demo`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Exit after the demonstration instead of going on serving.
    #[arg(long)]
    once: bool,
    /// Keep store, policies and the exported log in this folder (made if needed). Default: a folder that goes away.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
    /// Port to listen on.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

const READY_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Runs the demonstration. `Done` when all five vendors and all five decisions were seen and the log verified.
///
/// # Errors
///
/// When the stage cannot be set, or a call is not answered.
pub(crate) async fn run(args: Args, _globals: &Globals) -> Result<Exit> {
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let stage =
        Stage::set(Plan { dir: &dir, policies: base_policies(), port: args.port, store: "sqlite" }).await?;
    let Stage { trust, trust_file, rehearsal, service, listener, url, .. } = stage;
    let (pipeline, routes) = (service.pipeline().clone(), service.routes().clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(service.run(listener, async move {
        // A dropped sender also means: stop.
        let _stopped = stopped.await;
    }));
    let client = Egress::new([url.trim_start_matches("http://").to_owned()])?;
    wait_until_ready(&client, &url).await?;

    output::line(format!("countersign listens on {url}; five vendors call their hooks\n"))?;
    output::line(format!(
        "{:<15} {:<44} {:<31} {:<9} {:<9} {:>6}  receipt",
        "vendor", "what", "tool", "decided", "told", "ms"
    ))?;
    let store = pipeline.store.clone();
    let mut seen = Seen::default();
    for (at, scene) in rehearsal.scenes()?.iter().enumerate() {
        let signed = rehearsal.sign(scene, &format!("demo-{at}"), SystemClock.now())?;
        let before = store.health().size;
        let headers: Vec<_> = signed.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let started = Instant::now();
        let answer =
            client.call(Method::POST, &format!("{url}{}", signed.target), &headers, signed.body).await?;
        let took = started.elapsed();
        if !answer.is_success() {
            bail!(
                "{} answered {}: {}",
                scene.connector,
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        seen.show(scene, &*store, before, took).await?;
    }
    approve_deployment(&pipeline, &routes).await?;

    let verified = audit(store, &trust, &dir).await?;
    std::fs::write(dir.join("trust.json"), serde_json::to_string_pretty(&trust_file)?)?;
    output::line(format!("\n{}", seen.summary()))?;
    if args.dir.is_some() {
        output::line(format!("kept in {}: export.ndjson, trust.json, policies/, data/", dir.display()))?;
    }
    if !args.once {
        output::line(format!("still serving on {url}; Ctrl-C ends it"))?;
        tokio::signal::ctrl_c().await?;
    }
    drop(stop);
    serving.await??;
    Ok(Exit::when(verified && seen.complete()))
}

async fn wait_until_ready(client: &Egress, url: &str) -> Result<()> {
    let deadline = Instant::now() + READY_WAIT;
    loop {
        let answer = client.call(Method::GET, &format!("{url}/readyz"), &[], Vec::new()).await;
        match answer {
            Ok(answer) if answer.is_success() => return Ok(()),
            Ok(answer) if Instant::now() > deadline => {
                bail!("not ready after {READY_WAIT:?}: {}", String::from_utf8_lossy(&answer.body))
            }
            Err(error) if Instant::now() > deadline => return Err(error).context("wait until it is ready"),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// What the demonstration has shown so far.
#[derive(Default)]
struct Seen {
    receipts: u64,
    vendors: BTreeSet<String>,
    verdicts: BTreeSet<&'static str>,
}

impl Seen {
    /// Prints a line for each receipt that a call left.
    async fn show(&mut self, scene: &Scene, store: &dyn Store, before: u64, took: Duration) -> Result<()> {
        let after = store.health().size;
        let leaves = store.leaves(before, usize::try_from(after - before)?).await?;
        let ms = took.as_secs_f64() * 1000.0;
        self.vendors.insert(scene.connector.clone());
        if leaves.is_empty() {
            output::line(format!(
                "{:<15} {:<44} {:<31} {:<9} {:<9} {ms:>6.1}  (nothing to decide)",
                scene.connector,
                cut(&scene.title, 44),
                "-",
                "-",
                "-"
            ))?;
        }
        for leaf in &leaves {
            let Some(line) = describe(leaf) else { continue };
            self.receipts += 1;
            self.verdicts
                .extend(leaf.summary.verdict.filter(|_| leaf.summary.tool.is_some()).map(Verdict::as_str));
            output::line(format!(
                "{:<15} {:<44} {line} {ms:>6.1}  {}",
                scene.connector,
                cut(&scene.title, 44),
                leaf.summary.receipt_id
            ))?;
        }
        Ok(())
    }

    fn complete(&self) -> bool {
        self.vendors.len() == 5 && self.verdicts.len() == 5
    }

    fn summary(&self) -> String {
        let decisions: Vec<_> = self.verdicts.iter().copied().collect();
        format!(
            "{} receipts, {} vendors, decisions seen: {}",
            self.receipts,
            self.vendors.len(),
            decisions.join(" ")
        )
    }
}

fn describe(leaf: &StoredLeaf) -> Option<String> {
    let of = &leaf.summary;
    let verdict = of.verdict.map_or("-", Verdict::as_str);
    let told = of.expressed.as_deref().unwrap_or("-");
    let what = match of.kind {
        ReceiptKind::Gap | ReceiptKind::PolicyChange | ReceiptKind::KeyEpoch => return None,
        ReceiptKind::Decision => of.tool.clone().unwrap_or_else(|| "-".into()),
        kind => format!("({})", kind.as_str()),
    };
    Some(format!("{:<31} {verdict:<9} {told:<9}", cut(&what, 31)))
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(width - 1).collect::<String>())
    }
}

/// Somebody on call approves the held deployment, and GitHub is called back.
async fn approve_deployment(
    pipeline: &countersign_service::pipeline::Pipeline,
    routes: &countersign_service::connect::Routes,
) -> Result<()> {
    let open = pipeline.store.approvals().await?;
    let Some(held) = open.iter().find(|approval| approval.held) else { return Ok(()) };
    let id: &ApprovalId = &held.approval_id;
    let groups =
        held.rule.iter().flat_map(|rule| &rule.approvers).filter_map(|name| name.strip_prefix("group:"));
    let approver = Approver {
        assurance: "rehearsed".into(),
        channel: "demo".into(),
        groups: groups.map(str::to_owned).collect(),
        identities: Vec::new(),
        name: "dana".into(),
    };
    output::line(format!("\n{} waits: {}", held.action.tool.canonical(), held.decision.reason))?;
    let answer = Answer { comment: Some("rehearsed".into()), ..Answer::yes() };
    pipeline.resolve(routes, id, &approver, &answer).await?;
    let deadline = Instant::now() + READY_WAIT;
    while !pipeline.store.outbox().await?.is_empty() {
        if Instant::now() > deadline {
            bail!("the callback was not delivered: {:?}", pipeline.store.outbox().await?);
        }
        tokio::time::sleep(POLL).await;
    }
    let query = Query { action_id: Some(held.action.action_id.to_string()), limit: 1, ..Query::default() };
    let receipt = pipeline.store.find(&query).await?.first().map(|leaf| leaf.summary.receipt_id.to_string());
    output::line(format!(
        "{} approved it, the vendor was called back, receipt {}",
        approver.name,
        receipt.unwrap_or_default()
    ))?;
    Ok(())
}

/// Exports the log and checks the export with nothing but the public keys.
async fn audit(store: std::sync::Arc<dyn Store>, trust: &Trust, dir: &std::path::Path) -> Result<bool> {
    let lines = export::stream(store, Filter { disclose: true, ..Filter::default() })
        .await
        .map_err(anyhow::Error::msg)?;
    let bytes: Vec<_> = lines.try_collect().await?;
    let text = bytes.concat();
    std::fs::write(dir.join("export.ndjson"), &text)?;
    let options = VerifyOptions { kept_checkpoints: &[], threads: 1, progress: &|_| {} };
    let report = verify(BufReader::new(text.as_slice()), trust, &options);
    for finding in &report.findings {
        output::line(format!("verify: {}", finding.message))?;
    }
    let verified = report.verdict == Outcome::Verified;
    let word = if verified { "verified" } else { "NOT VERIFIED" };
    output::line(format!(
        "\nexport {word}: {} receipts, {} sessions, tree of {} leaves, root {}",
        report.counts.receipts,
        report.counts.sessions,
        report.size.unwrap_or_default(),
        report.root.as_deref().unwrap_or("-")
    ))?;
    Ok(verified)
}
