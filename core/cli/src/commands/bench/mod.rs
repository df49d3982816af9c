//! `countersign bench`: figures as ratios, measured in one run against named baselines.

mod load;
mod parts;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use countersign_receipt::{Trust, VerifyOptions, verify};
use countersign_schemas::Timestamp;
use countersign_sdk::signature::{standard_webhooks, standard_webhooks_key};
use countersign_sdk::{Inbound, Secret};
use countersign_service::clock::{Clock, SystemClock};
use countersign_service::export::{self, Filter};
use countersign_service::http;
use countersign_store::Store;
use futures::TryStreamExt as _;
use serde::Serialize;
use tokio::net::TcpListener;

use self::load::{Pace, Run, Shot};
use crate::args::Globals;
use crate::exit::Exit;
use crate::output;
use crate::stage::{Plan, Stage, base_policies};

/// `countersign bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shorter runs, and no run to 1,000,000 receipts.
    #[arg(long)]
    quick: bool,
    /// Put the store here; the disk under it is part of what is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep going until this many receipts for the long run.
    #[arg(long, default_value_t = 1_000_000)]
    receipts: u64,
    /// Also send at this multiple of the highest rate, to see what is shed; then raise it until answers are late.
    #[arg(long, default_value_t = 3.0)]
    overload: f64,
}

/// The figures. Rates are per second, times in milliseconds unless named otherwise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    policies: usize,
    body_bytes: usize,
    fsync_median_us: f64,
    ed25519_per_second: f64,
    closed: Vec<Closed>,
    open: Open,
    overload: Vec<Overload>,
    evaluate_25_us: f64,
    evaluate_10000_us: f64,
    evaluate_ratio: f64,
    verify_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    long: Option<Long>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
    resident_mib: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Closed {
    connections: usize,
    limit_per_second: f64,
    per_second: f64,
    ratio: f64,
    p50: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    /// 4 × the median fsync + 2 ms
    bar_p99: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overload {
    /// Of the highest rate that is answered with decisions.
    times: f64,
    offered_per_second: f64,
    answered_per_second: f64,
    shed_share: f64,
    not_2xx: u64,
    p50: f64,
    p99: f64,
    slowest: f64,
    /// Everything was answered, and within the shortest window of any vendor.
    holds: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Long {
    early_receipts: u64,
    early_per_second: f64,
    late_receipts: u64,
    late_per_second: f64,
    /// Cost per decision late over early.
    cost_ratio: f64,
}

/// Copilot Studio's.
const SHORTEST_WINDOW_MS: f64 = 1_000.0;
/// More than this the generator itself cannot send.
const OVERLOAD_MAX: f64 = 24.0;
/// One session that goes on and on, one call at a time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    early_actions: u64,
    early_per_second: f64,
    late_actions: u64,
    late_per_second: f64,
    /// Cost per decision late over early.
    cost_ratio: f64,
}

/// A session this long must cost what a short one costs.
const SESSION_ACTIONS: u64 = 100_000;
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];

/// Measures everything and prints it.
///
/// # Errors
///
/// When the stage cannot be set or a request breaks.
pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<Exit> {
    let figures = measure(args).await?;
    if globals.json {
        output::json(&figures)?
    } else {
        show(&figures)?
    }
    Ok(Exit::Done)
}

async fn measure(args: &Args) -> Result<Figures> {
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let stage = Stage::set(Plan { dir: &dir, policies: base_policies(), port: 0, store: "sqlite" }).await?;
    let Stage { trust, rehearsal, service, listener, url, .. } = stage;
    let pipeline = service.pipeline().clone();
    let address = url.trim_start_matches("http://").to_owned();
    tokio::spawn(service.run(listener, std::future::pending()));
    let secret = rehearsal.lookup("REHEARSAL_WEBHOOK").ok_or_else(|| anyhow!("no webhook secret"))?;
    let key = standard_webhooks_key(&Secret::new(secret)).map_err(anyhow::Error::msg)?;
    let limit = serve_limit(key.clone()).await?;
    let decide = Shot { address, key: key.clone(), path: "/hooks/generic", prefix: "load", sessions: 1_000 };
    let limit = Shot { address: limit, key, path: "/limit", prefix: "load", sessions: 1_000 };
    let length = if args.quick { Duration::from_secs(2) } else { Duration::from_secs(8) };

    let fsync = parts::fsync(&dir, if args.quick { 500 } else { 2_000 })?;
    let ed25519 = parts::ed25519(20_000)?;
    // The first run opens files and fills caches; it is not counted.
    shoot(&decide, 16, Pace::Closed, length / 2).await?;
    let mut closed = Vec::new();
    for connections in CONNECTIONS {
        let bare = shoot(&limit, connections, Pace::Closed, length / 2).await?;
        let full = shoot(&decide, connections, Pace::Closed, length).await?;
        closed.push(Closed::of(connections, &bare, &full));
        progress(&format!("{connections} connections: {:.0}/s", full.rate()));
    }
    let highest = closed.iter().map(|run| run.per_second).fold(0.0, f64::max);
    let open = shoot(&decide, 64, Pace::Open(highest / 2.0), length).await?;
    progress(&format!("open loop at {:.0}/s: p99 {:.2} ms", highest / 2.0, open.percentile(99.0)));
    let overload = overload(&decide, highest, args.overload, length).await?;
    let long =
        if args.quick { None } else { Some(run_long(&decide, &*pipeline.store, args.receipts).await?) };
    let session = if args.quick { None } else { Some(run_session(&decide).await?) };
    // Before the bench itself takes memory: 10,000 policies, and an export as one text.
    let resident = parts::resident().unwrap_or(0);
    let (few, many) = parts::policies(if args.quick { 2_000 } else { 20_000 })?;
    let verify_per_second = verify_rate(pipeline.store.clone(), &trust).await?;
    pipeline.store.close().await?;
    Ok(Figures {
        policies: pipeline.policies.load().len(),
        body_bytes: 2048,
        fsync_median_us: fsync.median.as_secs_f64() * 1e6,
        ed25519_per_second: ed25519.per_second(),
        open: Open::of(&open, highest / 2.0, fsync.median),
        overload,
        closed,
        evaluate_25_us: few.median.as_secs_f64() * 1e6,
        evaluate_10000_us: many.median.as_secs_f64() * 1e6,
        evaluate_ratio: many.median.as_secs_f64() / few.median.as_secs_f64(),
        verify_per_second,
        long,
        session,
        resident_mib: resident >> 20,
    })
}

fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        output::complain(line);
    }
}

async fn shoot(shot: &Shot, connections: usize, pace: Pace, length: Duration) -> Result<Run> {
    let shot = shot.clone();
    tokio::task::spawn_blocking(move || load::run(&shot, connections, pace, length)).await?
}

/// Offers more than can be decided, and ever more until answers are late or missing.
async fn overload(shot: &Shot, highest: f64, times: f64, length: Duration) -> Result<Vec<Overload>> {
    let mut runs: Vec<Overload> = Vec::new();
    let mut times = times;
    while runs.last().is_none_or(|run| run.holds) && times <= OVERLOAD_MAX {
        let offered = highest * times;
        let run = shoot(shot, 1_024, Pace::Open(offered), length).await?;
        progress(&format!("offered {offered:.0}/s: {:.0}/s answered", run.rate()));
        runs.push(Overload::of(&run, times, offered));
        times *= 1.5;
    }
    Ok(runs)
}

/// Goes on deciding until the log holds `receipts`; compares the first 10,000 with the last.
async fn run_long(shot: &Shot, store: &dyn Store, receipts: u64) -> Result<Long> {
    let slice = Duration::from_secs(2);
    let early_receipts = store.health().size;
    let early = shoot(shot, 64, Pace::Closed, slice).await?;
    let mut told = Instant::now();
    while store.health().size < receipts {
        shoot(shot, 64, Pace::Closed, slice).await?;
        if told.elapsed() > Duration::from_secs(10) {
            progress(&format!("{} receipts", store.health().size));
            told = Instant::now();
        }
    }
    let late = shoot(shot, 64, Pace::Closed, slice).await?;
    Ok(Long {
        early_receipts,
        early_per_second: early.rate(),
        late_receipts: store.health().size,
        late_per_second: late.rate(),
        cost_ratio: early.rate() / late.rate(),
    })
}

/// Decides [`SESSION_ACTIONS`] actions of one session; compares the first, from 100 on, with the last.
async fn run_session(shot: &Shot) -> Result<Session> {
    let shot = Shot { prefix: "long", sessions: 1, ..shot.clone() };
    let slice = Duration::from_secs(3);
    let mut actions = 0;
    while actions < 100 {
        actions += shoot(&shot, 1, Pace::Closed, slice / 30).await?.decided;
    }
    let early_actions = actions;
    let early = shoot(&shot, 1, Pace::Closed, slice).await?;
    actions += early.decided;
    while actions < SESSION_ACTIONS {
        actions += shoot(&shot, 1, Pace::Closed, slice).await?.decided;
        progress(&format!("{actions} actions in one session"));
    }
    let late = shoot(&shot, 1, Pace::Closed, slice).await?;
    Ok(Session {
        early_actions,
        early_per_second: early.rate(),
        late_actions: actions,
        late_per_second: late.rate(),
        cost_ratio: early.rate() / late.rate(),
    })
}

/// Receipts that one core checks in a second, from the newest export of at most 200,000.
async fn verify_rate(store: Arc<dyn Store>, trust: &Trust) -> Result<f64> {
    let lines = export::stream(store, Filter::default()).await.map_err(anyhow::Error::msg)?;
    let text: Vec<u8> = lines.map_ok(|bytes| bytes.to_vec()).try_concat().await.context("export")?;
    let started = Instant::now();
    let options = VerifyOptions { kept_checkpoints: &[], threads: 1, progress: &|_| {} };
    let report = verify(text.as_slice(), trust, &options);
    Ok(report.counts.receipts as f64 / started.elapsed().as_secs_f64())
}

/// The limit: the same server, the same 2 KiB POST, its signature checked, and a constant answer.
async fn serve_limit(key: Vec<u8>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let router = Router::new().route("/limit", post(constant)).with_state(Arc::new(vec![key]));
    tokio::spawn(http::serve(listener, router, std::future::pending(), Duration::ZERO));
    Ok(address)
}

async fn constant(State(keys): State<Arc<Vec<Vec<u8>>>>, headers: HeaderMap, body: Bytes) -> Response {
    let now: Timestamp = SystemClock.now();
    let request = Inbound::new(String::new(), String::new(), headers, body, now);
    match standard_webhooks(&request, &keys, now) {
        Ok(_id) => (StatusCode::OK, r#"{"decision":"DENY","reason":"constant"}"#).into_response(),
        Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
}

impl Closed {
    fn of(connections: usize, bare: &Run, full: &Run) -> Self {
        Self {
            connections,
            limit_per_second: bare.rate(),
            per_second: full.rate(),
            ratio: full.rate() / bare.rate(),
            p50: full.percentile(50.0),
            p99: full.percentile(99.0),
        }
    }
}

impl Open {
    fn of(run: &Run, per_second: f64, fsync: Duration) -> Self {
        Self {
            per_second,
            p50: run.percentile(50.0),
            p99: run.percentile(99.0),
            p999: run.percentile(99.9),
            bar_p99: 4.0 * fsync.as_secs_f64() * 1000.0 + 2.0,
        }
    }
}

impl Overload {
    fn of(run: &Run, times: f64, offered: f64) -> Self {
        Self {
            holds: run.failed == 0 && run.percentile(100.0) < SHORTEST_WINDOW_MS,
            times,
            offered_per_second: offered,
            answered_per_second: run.rate(),
            shed_share: run.shed as f64 / (run.shed + run.decided).max(1) as f64,
            not_2xx: run.failed,
            p50: run.percentile(50.0),
            p99: run.percentile(99.0),
            slowest: run.percentile(100.0),
        }
    }
}

/// Prints the figures for people.
fn show(figures: &Figures) -> Result<()> {
    output::line(format!(
        "{} policies, {} byte requests, signature checked, context kept, receipt signed and synced",
        figures.policies, figures.body_bytes
    ))?;
    output::line(format!(
        "fsync alone {:.0} µs (median); Ed25519 alone {:.0}/s",
        figures.fsync_median_us, figures.ed25519_per_second
    ))?;
    output::line(format!(
        "\n{:>11} {:>12} {:>12} {:>7} {:>9} {:>9}",
        "connections", "limit/s", "decisions/s", "ratio", "p50 ms", "p99 ms"
    ))?;
    for run in &figures.closed {
        output::line(format!(
            "{:>11} {:>12.0} {:>12.0} {:>7.2} {:>9.2} {:>9.2}",
            run.connections, run.limit_per_second, run.per_second, run.ratio, run.p50, run.p99
        ))?;
    }
    let open = &figures.open;
    output::line(format!(
        "\nopen loop at {:.0}/s: p50 {:.2} ms, p99 {:.2} ms (bar {:.2}), p99.9 {:.2} ms",
        open.per_second, open.p50, open.p99, open.bar_p99, open.p999
    ))?;
    for over in &figures.overload {
        output::line(format!(
            "overload, {:.1} times the highest rate, {:.0}/s offered: {:.0}/s answered, {:.0} % shed, {} not 2xx, \
             p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms: {}",
            over.times,
            over.offered_per_second,
            over.answered_per_second,
            over.shed_share * 100.0,
            over.not_2xx,
            over.p50,
            over.p99,
            over.slowest,
            if over.holds { "inside every window" } else { "breaks" }
        ))?;
    }
    output::line(format!(
        "evaluate: {:.1} µs with 25 policies, {:.1} µs with those among 10,000: ratio {:.2}",
        figures.evaluate_25_us, figures.evaluate_10000_us, figures.evaluate_ratio
    ))?;
    if let Some(long) = &figures.long {
        output::line(format!(
            "cost per decision at {} receipts over {}: {:.2} ({:.0}/s, {:.0}/s)",
            long.late_receipts,
            long.early_receipts,
            long.cost_ratio,
            long.late_per_second,
            long.early_per_second
        ))?;
    }
    if let Some(session) = &figures.session {
        output::line(format!(
            "cost per decision at {} actions in one session over {}: {:.2} ({:.0}/s, {:.0}/s)",
            session.late_actions,
            session.early_actions,
            session.cost_ratio,
            session.late_per_second,
            session.early_per_second
        ))?;
    }
    output::line(format!(
        "verify: {:.0} receipts/s on one core; resident {} MiB",
        figures.verify_per_second, figures.resident_mib
    ))?;
    Ok(())
}
