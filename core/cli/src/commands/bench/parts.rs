//! What the whole is compared with: the disk alone, the signature alone, the policies alone, the check alone.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_engine::{Options, Policies, PolicySource, evaluate};
use countersign_schemas::{
    Action, ActionId, Agent, Assurance, Context, Effect, Facets, Human, Identity, SessionId, SessionRef,
    Source, Timestamp, Tool,
};
use serde_json::json;

/// A median and how many a second that would be, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    pub(crate) median: Duration,
}

impl Alone {
    pub(crate) fn per_second(self) -> f64 {
        1.0 / self.median.as_secs_f64()
    }
}

fn median(mut times: Vec<Duration>) -> Alone {
    times.sort_unstable();
    Alone { median: times.get(times.len() / 2).copied().unwrap_or_default() }
}

/// Appends 2 KiB and syncs, one after the other, on the disk that holds `dir`.
///
/// # Errors
///
/// When the disk does not take it.
pub(crate) fn fsync(dir: &Path, rounds: usize) -> Result<Alone> {
    let path = dir.join("fsync.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = [7_u8; 2048];
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(median(times))
}

/// Signs 2 KiB with Ed25519.
///
/// # Errors
///
/// When the system gives no key.
pub(crate) fn ed25519(rounds: usize) -> Result<Alone> {
    let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("no Ed25519 key"))?;
    let message = [7_u8; 2048];
    let times = (0..rounds).map(|_| {
        let started = Instant::now();
        black_box(pair.sign(black_box(&message)));
        started.elapsed()
    });
    Ok(median(times.collect()))
}

/// One evaluation with 25 policies in scope, and with those 25 among 10,000.
///
/// # Errors
///
/// When the generated policies do not load.
pub(crate) fn policies(rounds: usize) -> Result<(Alone, Alone)> {
    let small = load(25, 0)?;
    let large = load(25, 9_975)?;
    let (action, context) = (action(), Context::default());
    let time = |set: &Policies| {
        let times = (0..rounds).map(|_| {
            let started = Instant::now();
            black_box(evaluate(set, black_box(&action), &context, Timestamp(1)));
            started.elapsed()
        });
        median(times.collect())
    };
    Ok((time(&small), time(&large)))
}

/// `near` policies whose scope matches [`action`], `far` whose scope does not.
fn load(near: usize, far: usize) -> Result<Policies> {
    let mut text = String::new();
    for at in 0..near {
        text.push_str(&policy(&format!("near-{at}"), "warehouse/-/query", at));
    }
    for at in 0..far {
        text.push_str(&policy(&format!("far-{at}"), &format!("elsewhere/-/tool-{at}"), at));
    }
    let source = PolicySource { name: "bench.cedar".into(), text };
    Policies::load(&[source], Options::default()).map_err(|error| anyhow!("{error}"))
}

fn policy(id: &str, tool: &str, at: usize) -> String {
    if at == 0 {
        return format!(
            "@id(\"{id}\") permit (principal, action == Action::\"read\", resource == Tool::\"{tool}\");\n"
        );
    }
    format!(
        "@id(\"{id}\") @reason(\"bench\") forbid (principal, action == Action::\"read\", resource == Tool::\"{tool}\") \
         when {{ context.facets.hosts.contains(\"host-{at}.example\") }};\n"
    )
}

fn action() -> Action {
    let parameters = json!({"query": "select name from customers", "limit": 50});
    Action {
        action_id: ActionId::derived(&["bench"]),
        call_id: None,
        delivery_id: None,
        effect: Effect::Read,
        facets: Facets::default(),
        identity: Identity {
            agent: Agent { id: "load-agent".into(), ..Agent::default() },
            assurance: Assurance::VendorSigned,
            human: Some(Human { id: "u-1".into(), ..Human::default() }),
            ..Identity::default()
        },
        operation: "query".into(),
        parameters: parameters.as_object().cloned().unwrap_or_default(),
        risk_signals: Vec::new(),
        session: SessionRef { id: SessionId::derived(&["bench"]), turn: None, vendor_id: "bench".into() },
        source: Source { connector: "generic".into(), event: "action".into(), vendor: "generic".into() },
        timestamp: Timestamp(1),
        tool: Tool { name: "query".into(), namespace: "warehouse".into(), raw: "query".into(), server: None },
        vendor_fields: serde_json::Map::new(),
    }
}

/// Resident memory of this process in bytes, where the system says.
pub(crate) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
