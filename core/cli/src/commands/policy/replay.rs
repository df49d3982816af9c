//! `countersign policy replay`

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::thread;

use clap::ValueEnum;
use countersign_engine::{Policies, Replay, replay};
use countersign_schemas::{Predicate, ReceiptKind, Timestamp, Verdict};
use countersign_sdk::parse::{canonical, sha256_hex};
use countersign_service::clock::{Clock as _, SystemClock};
use countersign_service::export::Filter;
use countersign_service::policies;
use indicatif::ProgressBar;
use serde::Serialize;

use super::history::{Lines, Place, Receipt, Sessions, moment};
use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Every recorded decision is made again with its recorded action, identity and time, in the context that its session had
then: what happened, happened, so a DENY that would have been an ALLOW has no followers. The context is folded from the
session's receipts. What receipts do not tell is unknown: hidden instructions in outcomes, the average of drift, what the
same person's other sessions did, and, without disclosures, parameters and facets. A decision is not replayable only when a policy
reads something unknown and could change the answer. An answer that a person gave counts as the question it answered.

Examples:
  countersign policy replay --candidate policies/candidate --since 7d
  countersign policy replay --candidate policies/candidate --from log.ndjson --fail-on any
  countersign policy replay --candidate policies/candidate --offline --json | jq .changes

Exit codes: 0 nothing changed that --fail-on names, 1 something did, 2 nothing did, but with --fail-on something could
not be replayed, 3 the set or the receipts cannot be used.";
/// Lines that are worked on at once: enough for every thread, and bounded memory.
const BATCH: usize = 4_096;
const BATCH_BYTES: usize = 64 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder of the set to try.
    #[arg(long, value_name = "DIR")]
    candidate: PathBuf,
    /// Only what was decided at or after this time: RFC 3339, or how long ago (`7d`, `12h`, `30m`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was decided before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what came through this connector instance.
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// Which changes make the exit code 1.
    #[arg(long, value_name = "CHANGES", default_value = "none")]
    fail_on: FailOn,
    /// How many examples of each change are shown.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    examples: usize,
    #[command(flatten)]
    place: Place,
}

/// Which changes make the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Every other decision, and MODIFY with other parameters.
    Any,
    /// What is let through more easily: from DENY over STEP_UP and DEFER over MODIFY to ALLOW. MODIFY with other
    /// parameters counts too.
    Weaker,
    /// None.
    None,
}

/// What a candidate would have changed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bundle_sha256: String,
    /// Changes, the weaker ones first.
    changes: Vec<Change>,
    /// Decisions that were made again.
    decisions: u64,
    /// Decisions about which policy was not asked: halts, unreadable requests.
    not_by_policy: u64,
    not_replayable: NotReplayable,
    unchanged: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct NotReplayable {
    count: u64,
    examples: Vec<String>,
    /// Attributes that were missed, and for how many decisions.
    needs: BTreeMap<String, u64>,
    /// Policies that missed them, and for how many decisions.
    policies: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    count: u64,
    examples: Vec<Example>,
    new: Verdict,
    old: Verdict,
    weaker: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Example {
    index: u64,
    new_policies: Vec<String>,
    new_reason: String,
    old_policies: Vec<String>,
    receipt_id: String,
    tool: String,
}

/// Makes recorded decisions again.
///
/// # Errors
///
/// When the candidate or the receipts cannot be used.
pub(super) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let candidate = policies::load(&super::settings(Some(&args.candidate), globals)?)?;
    let now = SystemClock.now();
    let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
    let wanted = Wanted {
        connector: args.connector.clone(),
        examples: args.examples,
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let mut crew = Crew::new(&candidate, &wanted);
    // Earlier receipts are read too: they tell what the sessions had done.
    let filter = Filter { disclose: true, ..Filter::default() };
    let mut lines = Lines::new(|line, size| crew.take(line, size));
    args.place.read(globals, filter, &mut lines).await?;
    lines.finish()?;
    let report = crew.finish()?;
    if globals.json {
        output::json(&report)?
    } else {
        describe(&report)?
    }
    Ok(exit(&report, args.fail_on))
}

fn exit(report: &Report, fail_on: FailOn) -> Exit {
    let fails = report.changes.iter().any(|change| match fail_on {
        FailOn::Any => true,
        FailOn::Weaker => change.weaker,
        FailOn::None => false,
    });
    if fails {
        Exit::No
    } else if fail_on != FailOn::None && report.not_replayable.count > 0 {
        Exit::Incomplete
    } else {
        Exit::Done
    }
}

/// Which decisions are made again, and how many are shown.
struct Wanted {
    connector: Option<String>,
    examples: usize,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    fn wants(&self, of: &Predicate) -> bool {
        self.connector.as_ref().is_none_or(|name| *name == of.vendor.connector)
            && self.since.is_none_or(|since| of.decided_at >= since)
            && self.until.is_none_or(|until| of.decided_at < until)
    }
}

/// All processors at work: lines are decoded in parallel, then each worker takes the receipts of its own sessions in
/// their order.
struct Crew<'a> {
    bar: ProgressBar,
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    workers: Vec<Worker<'a>>,
}

impl<'a> Crew<'a> {
    fn new(candidate: &'a Policies, wanted: &'a Wanted) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let worker = |_| Worker { candidate, sessions: Sessions::default(), tally: Tally::default(), wanted };
        Self {
            bar: output::progress("receipts"),
            batch: Vec::new(),
            batch_bytes: 0,
            workers: (0..count).map(worker).collect(),
        }
    }

    fn take(&mut self, line: Vec<u8>, size: u64) -> anyhow::Result<()> {
        self.bar.set_length(size);
        self.batch_bytes += line.len();
        self.batch.push(line);
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES { self.work() } else { Ok(()) }
    }

    fn work(&mut self) -> anyhow::Result<()> {
        let lines = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let mut dealt: Vec<Vec<Receipt>> = self.workers.iter().map(|_| Vec::new()).collect();
        for receipt in decode(&lines, self.workers.len())? {
            let mut hasher = DefaultHasher::new();
            receipt.predicate.session.id.hash(&mut hasher);
            let worker = hasher.finish() % self.workers.len() as u64;
            dealt[worker as usize].push(receipt);
        }
        thread::scope(|scope| {
            let working = self.workers.iter_mut().zip(&dealt);
            let working: Vec<_> = working
                .map(|(worker, receipts)| scope.spawn(|| receipts.iter().for_each(|of| worker.take(of))))
                .collect();
            let ended = working.into_iter().try_for_each(|worker| worker.join());
            ended.map_err(|_| anyhow::anyhow!("a decision could not be made again: the engine failed"))
        })?;
        self.bar.inc(lines.len() as u64);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Report> {
        self.work()?;
        self.bar.finish_and_clear();
        let Some(Worker { candidate, wanted, .. }) = self.workers.first() else {
            return Ok(Report::default());
        };
        let (bundle_sha256, examples) = (candidate.bundle_sha256().to_owned(), wanted.examples);
        let mut all = Tally::default();
        self.workers.into_iter().for_each(|worker| all.add(worker.tally));
        Ok(Report { bundle_sha256, ..all.report(examples) })
    }
}

fn decode(lines: &[Vec<u8>], threads: usize) -> anyhow::Result<Vec<Receipt>> {
    let share = lines.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let decode = |lines: &[Vec<u8>]| lines.iter().map(|line| Receipt::parse(line)).collect();
        let working: Vec<_> = lines
            .chunks(share)
            .map(|lines| scope.spawn(move || -> anyhow::Result<Vec<Receipt>> { decode(lines) }))
            .collect();
        let mut receipts = Vec::with_capacity(lines.len());
        for worker in working {
            let decoded = worker.join().map_err(|_| anyhow::anyhow!("a receipt could not be decoded"))?;
            receipts.extend(decoded?);
        }
        Ok(receipts)
    })
}

struct Worker<'a> {
    candidate: &'a Policies,
    sessions: Sessions,
    tally: Tally,
    wanted: &'a Wanted,
}

impl Worker<'_> {
    fn take(&mut self, receipt: &Receipt) {
        let of = &receipt.predicate;
        let situation = self.sessions.note(receipt);
        if of.kind != ReceiptKind::Decision || !self.wanted.wants(of) {
            return;
        }
        let (Some(situation), Some(_)) = (situation, &of.policy) else {
            self.tally.not_by_policy += 1;
            return;
        };
        let known = |path: &str| situation.known.knows(path);
        let again = replay(self.candidate, &situation.action, &situation.context, situation.now, &known);
        match again {
            Replay::Decided(explanation) => {
                self.tally.compare(receipt, &explanation.decision, self.wanted.examples)
            }
            Replay::Unknown { needs, policies } => {
                let missed = &mut self.tally.not_replayable;
                missed.count += 1;
                needs.into_iter().for_each(|path| *missed.needs.entry(path).or_default() += 1);
                policies.into_iter().for_each(|id| *missed.policies.entry(id).or_default() += 1);
                if missed.examples.len() < self.wanted.examples {
                    missed.examples.push(of.receipt_id.to_string());
                }
            }
        }
    }
}

/// From what to what: places in [`Verdict::ALL`].
type Turn = (usize, usize);

#[derive(Default)]
struct Tally {
    changes: BTreeMap<Turn, (u64, Vec<Example>)>,
    not_by_policy: u64,
    not_replayable: NotReplayable,
    unchanged: u64,
}

impl Tally {
    fn compare(&mut self, receipt: &Receipt, new: &countersign_schemas::Decision, examples: usize) {
        let of = &receipt.predicate;
        let Some(recorded) = &of.decision else { return };
        let old = recorded.verdict;
        let asked = of.approval.as_ref().is_some_and(|approval| approval.grant.is_some());
        let same = if asked {
            matches!(new.verdict, Verdict::StepUp | Verdict::Defer)
        } else if old == Verdict::Modify && new.verdict == Verdict::Modify {
            let modified = new.modified.as_ref().map(|map| sha256_hex(canonical(map).as_bytes()));
            modified == recorded.modified_sha256
        } else {
            old == new.verdict
        };
        if same {
            self.unchanged += 1;
            return;
        }
        let old = if asked { Verdict::StepUp } else { old };
        let (count, shown) = self.changes.entry((place(old), place(new.verdict))).or_default();
        *count += 1;
        if shown.len() < examples {
            shown.push(example(receipt, new));
        }
    }

    fn add(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.not_by_policy += other.not_by_policy;
        for (turn, (count, examples)) in other.changes {
            let (sum, all) = self.changes.entry(turn).or_default();
            *sum += count;
            all.extend(examples);
        }
        let (all, missed) = (&mut self.not_replayable, other.not_replayable);
        all.count += missed.count;
        all.examples.extend(missed.examples);
        missed.needs.into_iter().for_each(|(path, count)| *all.needs.entry(path).or_default() += count);
        missed.policies.into_iter().for_each(|(id, count)| *all.policies.entry(id).or_default() += count);
    }

    fn report(self, examples: usize) -> Report {
        let change = |((old, new), (count, mut shown)): (Turn, (u64, Vec<Example>))| {
            shown.sort_by_key(|example| example.index);
            shown.truncate(examples);
            let (old, new) = (Verdict::ALL[old], Verdict::ALL[new]);
            let weaker = strictness(new) < strictness(old) || old == Verdict::Modify && new == old;
            Change { count, examples: shown, new, old, weaker }
        };
        let mut changes: Vec<Change> = self.changes.into_iter().map(change).collect();
        changes.sort_by_key(|change| !change.weaker);
        let mut not_replayable = self.not_replayable;
        not_replayable.examples.sort();
        not_replayable.examples.truncate(examples);
        let changed: u64 = changes.iter().map(|change| change.count).sum();
        Report {
            bundle_sha256: String::new(),
            decisions: self.unchanged + changed + not_replayable.count,
            changes,
            not_by_policy: self.not_by_policy,
            not_replayable,
            unchanged: self.unchanged,
        }
    }
}

fn place(verdict: Verdict) -> usize {
    Verdict::ALL.iter().position(|other| *other == verdict).unwrap_or_default()
}

/// Higher lets less through.
fn strictness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Modify => 1,
        Verdict::StepUp | Verdict::Defer => 2,
        Verdict::Deny => 3,
    }
}

fn example(receipt: &Receipt, new: &countersign_schemas::Decision) -> Example {
    let of = &receipt.predicate;
    let ids = |policies: &[countersign_schemas::PolicyRef]| policies.iter().map(|of| of.id.clone()).collect();
    Example {
        index: receipt.index,
        new_policies: ids(&new.policies),
        new_reason: new.reason.clone(),
        old_policies: of.policy.as_ref().map(|policy| ids(&policy.matched)).unwrap_or_default(),
        receipt_id: of.receipt_id.to_string(),
        tool: of.action.as_ref().map(|action| action.tool.canonical()).unwrap_or_default(),
    }
}

fn describe(report: &Report) -> anyhow::Result<()> {
    let changed: u64 = report.changes.iter().map(|change| change.count).sum();
    let missed = &report.not_replayable;
    output::line(format_args!(
        "{} decisions: {} unchanged, {changed} changed, {} not replayable; {} more were not made by policy",
        report.decisions, report.unchanged, missed.count, report.not_by_policy
    ))?;
    for change in &report.changes {
        let weaker = if change.weaker { "  weaker" } else { "" };
        output::line(format_args!("\n{} -> {}: {}{weaker}", change.old, change.new, change.count))?;
        let mut table = output::table(["receipt", "tool", "policies then", "policies now", "reason now"]);
        for example in &change.examples {
            let cells = [
                &example.receipt_id,
                &example.tool,
                &named(&example.old_policies),
                &named(&example.new_policies),
                &example.new_reason,
            ];
            table.add_row(cells.map(|cell| output::cut(cell, usize::MAX)));
        }
        output::line(table)?;
    }
    if missed.count > 0 {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
        };
        output::line(format_args!(
            "\nnot replayable, because receipts do not tell: {}",
            list(&missed.needs)
        ))?;
        output::line(format_args!("which these policies read: {}", list(&missed.policies)))?;
        output::line(format_args!("for example: {}", missed.examples.join(", ")))?;
    }
    Ok(())
}

fn named(policies: &[String]) -> String {
    if policies.is_empty() { "the default".to_owned() } else { policies.join(", ") }
}
