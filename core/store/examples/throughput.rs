//! Measures the store on this machine: `cargo run --release -p countersign-store --example throughput -- DIRECTORY`.
//!
//! First the disk alone (write and `fdatasync` of one batch in a file that does not grow), then commits per second and
//! their latency at several numbers of committers, in a small log and in one of a million leaves.
#![expect(clippy::print_stdout, reason = "the figures are the program's output")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_receipt::{LogKey, generate_key_pem, leaf_hash};
use countersign_schemas::{ReceiptId, ReceiptKind, SessionId, Timestamp, Verdict};
use countersign_store::{Commit, Local, NewLeaf, Options, Recorded, SessionWrite, Store, Summary};

const LEAF_BYTES: usize = 3 << 10;
const CONTEXT_BYTES: usize = 1 << 10;
const ANSWER_BYTES: usize = 200;
const LEAVES_BIG: u64 = 1_000_000;
/// A session that goes on for ever would be unlike the real ones.
const SESSION_RECEIPTS: u64 = 50;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: throughput DIRECTORY")?;
    let big = std::env::args().nth(2).map_or(Ok(LEAVES_BIG), |leaves| leaves.parse())?;
    fs::create_dir_all(&directory)?;
    disk(&directory)?;
    let store = Arc::new(open(&directory)?);
    for committers in [1, 16, 64, 256] {
        measure(&store, committers, Duration::from_secs(3)).await?;
    }
    while store.health().size < big {
        measure(&store, 256, Duration::from_secs(10)).await?;
    }
    for committers in [1, 16, 64, 256] {
        measure(&store, committers, Duration::from_secs(3)).await?;
    }
    let started = Instant::now();
    store.close().await?;
    drop(store);
    println!("close {:?}, resident {} MiB", started.elapsed(), resident_kib()? / 1024);
    let started = Instant::now();
    let store = open(&directory)?;
    println!("open {:?}, {} leaves", started.elapsed(), store.health().size);
    Ok(())
}

fn open(directory: &Path) -> Result<Local, Failure> {
    let pem = directory.join("key.pem");
    if !pem.exists() {
        fs::write(&pem, generate_key_pem()?.as_bytes())?;
    }
    let key = LogKey::from_pkcs8_pem("example.com/throughput", &fs::read_to_string(pem)?)?;
    let options = Options { checkpoint_path: Some(directory.join("checkpoint")), ..Options::default() };
    Ok(Local::open(&directory.join("store"), options, key)?)
}

/// Latency of write and sync, without us.
fn disk(directory: &Path) -> Result<(), Failure> {
    let path = directory.join("disk");
    fs::write(&path, vec![0; 64 << 20])?;
    let file = File::options().write(true).open(&path)?;
    file.sync_all()?;
    for bytes in [4 << 10, 64 << 10, 256 << 10] {
        let block = vec![1; bytes];
        let mut took = Vec::new();
        for i in 0..200 {
            let started = Instant::now();
            file.write_all_at(&block, i * bytes as u64)?;
            file.sync_data()?;
            took.push(started.elapsed());
        }
        println!("disk: write and sync {:>3} KiB {}", bytes >> 10, percentiles(&mut took));
    }
    fs::remove_file(path)?;
    Ok(())
}

async fn measure(store: &Arc<Local>, committers: usize, time: Duration) -> Result<(), Failure> {
    let (before, cpu) = (store.health(), Cpu::now()?);
    let started = Instant::now();
    let tasks: Vec<_> = (0..committers)
        .map(|number| {
            let name = format!("{}-{number}", before.size);
            tokio::spawn(committer(store.clone(), name, started + time))
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.append(&mut task.await??);
    }
    let (elapsed, after) = (started.elapsed().as_secs_f64(), store.health());
    let commits = (after.commits - before.commits) as f64;
    let batches = (after.batches - before.batches).max(1) as f64;
    let each_us = |ms: u64| ms as f64 * 1000.0 / commits;
    let spent = Cpu::now()?.since(&cpu);
    println!(
        "{committers:>3} committers: {:>6.0} commits/s {}, {:.1} per batch; CPU each {:.0} us (writer {:.1}, keeper {:.1}); \
         lag {}, log {}, resident {} MiB",
        commits / elapsed,
        percentiles(&mut took),
        commits / batches,
        each_us(spent.all),
        each_us(spent.writer),
        each_us(spent.keeper),
        after.index_lag,
        after.size,
        resident_kib()? / 1024,
    );
    Ok(())
}

/// Commits as fast as the store lets it, one session after the other.
async fn committer(store: Arc<Local>, name: String, until: Instant) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    let (mut number, mut seq) = (0_u64, 0_u64);
    while Instant::now() < until {
        let session = SessionId::derived(&[&name, &(number / SESSION_RECEIPTS).to_string()]);
        if number.is_multiple_of(SESSION_RECEIPTS) {
            seq = 0;
        }
        let commit = commit(&name, &session, number, seq, store.session(&session).await?.version);
        let started = Instant::now();
        store.commit(commit).await?;
        took.push(started.elapsed());
        (number, seq) = (number + 1, seq + 1);
    }
    Ok(took)
}

fn commit(name: &str, session: &SessionId, number: u64, seq: u64, expected_version: u64) -> Commit {
    let now = Timestamp(1_800_000_000_000 + i64::try_from(number).unwrap_or(0));
    let bytes = vec![b'x'; LEAF_BYTES];
    let summary = Summary {
        receipt_id: ReceiptId::at(now),
        kind: ReceiptKind::Decision,
        session_id: session.clone(),
        session_seq: seq,
        decided_at: now,
        connector: "claude-code".to_owned(),
        action_id: Some(ReceiptId::derived(&[name, &number.to_string()]).to_string()),
        tool: Some("claude-code/-/Bash".to_owned()),
        verdict: Some(Verdict::Allow),
        expressed: Some("allow".to_owned()),
        agent: Some("agent".to_owned()),
        human: None,
    };
    let recorded = Recorded {
        request_sha256: "0".repeat(64),
        status: 200,
        content_type: "application/json".to_owned(),
        body: vec![b'y'; ANSWER_BYTES],
        waits_for: Vec::new(),
        expires_at: Timestamp(now.0 + 86_400_000),
    };
    Commit {
        leaves: vec![NewLeaf { hash: leaf_hash(&bytes), bytes, summary, disclosure: None }],
        recorded: Some((format!("claude-code\n{name}\n{number}"), recorded)),
        session: Some(SessionWrite {
            id: session.clone(),
            expected_version,
            context: vec![b'z'; CONTEXT_BYTES].into(),
        }),
        ..Commit::default()
    }
}

fn percentiles(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at =
        |percent: usize| took.get(took.len() * percent / 1000).or(took.last()).copied().unwrap_or_default();
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    format!("p50 {:.2} p99 {:.2} p99.9 {:.2} ms", ms(at(500)), ms(at(990)), ms(at(999)))
}

fn resident_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// CPU time in milliseconds (10 ms ticks): of the process and of the store's threads.
#[derive(Default)]
struct Cpu {
    all: u64,
    writer: u64,
    keeper: u64,
}

impl Cpu {
    fn now() -> Result<Self, Failure> {
        let mut cpu = Self { all: cpu_ms("/proc/self/stat".as_ref())?, ..Self::default() };
        for entry in fs::read_dir("/proc/self/task")? {
            let thread = entry?.path();
            match fs::read_to_string(thread.join("comm"))?.trim() {
                "store-writer" => cpu.writer += cpu_ms(&thread.join("stat"))?,
                "store-keeper" => cpu.keeper += cpu_ms(&thread.join("stat"))?,
                _ => {}
            }
        }
        Ok(cpu)
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            all: self.all - before.all,
            writer: self.writer - before.writer,
            keeper: self.keeper - before.keeper,
        }
    }
}

fn cpu_ms(stat: &Path) -> Result<u64, Failure> {
    let stat = fs::read_to_string(stat)?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok((ticks(11) + ticks(12)) * 10)
}
