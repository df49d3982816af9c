//! Load over real HTTP: as many connections as asked for, one request at a time on each.
//!
//! The generator runs on a thread and a runtime of its own, writes requests by hand and reads no more of an answer
//! than it must, so that most of what is measured is the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_schemas::Timestamp;
use countersign_sdk::signature::sign_standard_webhooks;
use countersign_service::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What one request is made of. A body of about 2 KiB; its id and its session are written into it.
#[derive(Clone)]
pub(crate) struct Shot {
    /// `host:port`
    pub(crate) address: String,
    pub(crate) key: Vec<u8>,
    /// Path below the server's root.
    pub(crate) path: &'static str,
    /// What the sessions' names begin with.
    pub(crate) prefix: &'static str,
    /// Sessions that the requests are spread over.
    pub(crate) sessions: u64,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Answers with a decision other than a shed or late DENY.
    pub(crate) decided: u64,
    /// Explicit DENY without being looked at.
    pub(crate) shed: u64,
    /// Answers that were not 2xx.
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds, sorted.
    latencies: Vec<u32>,
}

impl Run {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        (self.decided + self.shed) as f64 / self.elapsed.as_secs_f64()
    }

    /// A percentile of the latencies, in milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.latencies.len() as f64 * percent / 100.0).ceil() as usize;
        let at = rank.clamp(1, self.latencies.len().max(1)) - 1;
        self.latencies.get(at).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends as soon as it has its answer.
    Closed,
    /// So many a second, whatever the answers do; latency counts from when a request was due.
    Open(f64),
}

/// What the connections of a run share.
struct Shared {
    due: Semaphore,
    next: AtomicU64,
    over: AtomicBool,
    pace: Pace,
    salt: u64,
    shot: Shot,
    start: Instant,
}

/// Sends for `duration` on `connections` connections.
///
/// # Errors
///
/// When no connection can be made, or one breaks.
pub(crate) fn run(shot: &Shot, connections: usize, pace: Pace, duration: Duration) -> Result<Run> {
    let shared = Arc::new(Shared {
        due: Semaphore::new(0),
        next: AtomicU64::new(0),
        over: AtomicBool::new(false),
        pace,
        salt: u64::try_from(SystemClock.now().0).unwrap_or(0),
        shot: shot.clone(),
        start: Instant::now(),
    });
    let clock = pace_maker(shared.clone(), duration);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let of = shared.clone();
    let run = runtime.block_on(async move {
        let tasks: Vec<_> =
            (0..connections).map(|at| tokio::spawn(connection(of.clone(), at as u64))).collect();
        let mut total = Run::default();
        for task in tasks {
            let one = task.await.context("a connection's task")??;
            total.decided += one.decided;
            total.shed += one.shed;
            total.failed += one.failed;
            total.latencies.extend(one.latencies);
        }
        anyhow::Ok(total)
    });
    let elapsed = shared.start.elapsed();
    shared.over.store(true, Ordering::Relaxed);
    if clock.join().is_err() {
        bail!("the pace maker failed");
    }
    let mut run = run?;
    run.elapsed = elapsed;
    run.latencies.sort_unstable();
    Ok(run)
}

/// Releases requests as they become due, and ends the run. A thread, because the runtime's timer is too coarse.
fn pace_maker(shared: Arc<Shared>, duration: Duration) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut released = 0_u64;
        while shared.start.elapsed() < duration && !shared.over.load(Ordering::Relaxed) {
            if let Pace::Open(rate) = shared.pace {
                let due = (shared.start.elapsed().as_secs_f64() * rate) as u64;
                shared.due.add_permits(usize::try_from(due - released).unwrap_or(0));
                released = due;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        shared.over.store(true, Ordering::Relaxed);
        // Whoever waits for a request that never becomes due is woken and sees that it is over.
        shared.due.close();
    })
}

async fn connection(shared: Arc<Shared>, number: u64) -> Result<Run> {
    let mut stream = TcpStream::connect(&shared.shot.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let mut run = Run::default();
    let mut buffer = vec![0; 16 << 10];
    let mut template = Template::new(&shared.shot, number);
    // A session without a request has no drift to measure.
    stream.write_all(&template.intent(shared.salt, number, SystemClock.now())).await?;
    read_answer(&mut stream, &mut buffer).await?;
    while !shared.over.load(Ordering::Relaxed) {
        let due = match shared.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => {
                let Ok(permit) = shared.due.acquire().await else { break };
                permit.forget();
                let at = shared.next.fetch_add(1, Ordering::Relaxed);
                shared.start + Duration::from_secs_f64((at + 1) as f64 / rate)
            }
        };
        let id = shared.next.fetch_add(u64::from(matches!(shared.pace, Pace::Closed)), Ordering::Relaxed);
        let request = template.request(shared.salt, (number << 40) | id, SystemClock.now());
        stream.write_all(request).await?;
        let answer = read_answer(&mut stream, &mut buffer).await?;
        let took = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
        run.latencies.push(took);
        match answer {
            Answer::Decided => run.decided += 1,
            Answer::Shed => run.shed += 1,
            Answer::Failed => run.failed += 1,
        }
    }
    Ok(run)
}

enum Answer {
    Decided,
    Shed,
    Failed,
}

/// Reads one answer: head, then as many bytes as its Content-Length says.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Answer> {
    let mut filled = 0;
    loop {
        let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
            bail!("the answer is too long")
        };
        let count = stream.read(rest).await?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        filled += count;
        let head = &buffer[..filled];
        let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        let length = text.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|digits| digits.trim().parse().ok()).unwrap_or(0);
        if filled < end + 4 + length {
            continue;
        }
        let body = &head[end + 4..];
        if !text.starts_with("http/1.1 2") {
            return Ok(Answer::Failed);
        }
        let shed = [b"overloaded".as_slice(), b"took longer".as_slice()];
        let is_shed = shed.iter().any(|word| body.windows(word.len()).any(|window| window == *word));
        return Ok(if is_shed { Answer::Shed } else { Answer::Decided });
    }
}

const ID_SLOT: &str = "0000000000000000-0000000000000000";
const BODY_BYTES: usize = 2048;

/// A request that only needs its id, time and signature written into it.
struct Template {
    body: String,
    head: String,
    key: Vec<u8>,
    out: Vec<u8>,
    session: String,
}

impl Template {
    fn new(shot: &Shot, connection: u64) -> Self {
        let session = format!("{}-{}", shot.prefix, connection % shot.sessions.max(1));
        let body = |note: &str| {
            format!(
                r#"{{"version":1,"id":"{ID_SLOT}","type":"action","session":{{"id":"{session}"}},"agent":{{"id":"load-agent"}},"human":{{"id":"u-1"}},"tool":{{"namespace":"warehouse","name":"query"}},"effect":"read","parameters":{{"query":"select name from customers","limit":50,"note":"{note}"}}}}"#
            )
        };
        let padding = "x".repeat(BODY_BYTES.saturating_sub(body("").len()));
        let body = body(&padding);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            shot.path,
            shot.address,
            body.len()
        );
        Self { body, head, key: shot.key.clone(), out: Vec::with_capacity(BODY_BYTES * 2), session }
    }

    /// What the session's user asks for: not counted, and the same for every run.
    fn intent(&self, salt: u64, number: u64, now: Timestamp) -> Vec<u8> {
        let id = format!("{salt:016x}-i{number:015x}");
        let (session, id_json) = (&self.session, format!(r#""id":"{id}""#));
        let body = format!(
            r#"{{"version":1,{id_json},"type":"intent","session":{{"id":"{session}"}},"agent":{{"id":"load-agent"}},"human":{{"id":"u-1"}},"text":"Look up the names of our customers in the warehouse and make a list"}}"#
        );
        let (line, _) = self.head.split_once("content-length: ").unwrap_or((&self.head, ""));
        let mut out = format!("{line}content-length: {}\r\n", body.len());
        for (name, value) in sign_standard_webhooks(&self.key, &id, now, body.as_bytes()) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.push_str(&body);
        out.into_bytes()
    }

    fn request(&mut self, salt: u64, id: u64, now: Timestamp) -> &[u8] {
        let id = format!("{salt:016x}-{id:016x}");
        let at = self.body.find(r#""id":""#).map_or(0, |at| at + 6);
        self.body.replace_range(at..at + ID_SLOT.len(), &id);
        self.out.clear();
        self.out.extend_from_slice(self.head.as_bytes());
        for (name, value) in sign_standard_webhooks(&self.key, &id, now, self.body.as_bytes()) {
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b": ");
            self.out.extend_from_slice(value.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(self.body.as_bytes());
        &self.out
    }
}
