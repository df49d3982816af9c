//! Counts and times, and their Prometheus text (exposition format 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_schemas::{Expressed, Verdict};
use countersign_sdk::VerifyError;
use countersign_store::Health;

use crate::connect::Routes;

const VERDICTS: [Verdict; 5] =
    [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer];
const EXPRESSED: [Expressed; 6] = [
    Expressed::Allow,
    Expressed::Deny,
    Expressed::Modify,
    Expressed::StepUp,
    Expressed::Defer,
    Expressed::Held,
];
const REFUSALS: [&str; 7] =
    ["missing_header", "malformed_header", "mismatch", "stale", "token", "no_key", "not_allowed"];
/// Upper bounds of the answer-time histogram, in milliseconds.
pub const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];

/// What one route has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Verified requests that were answered.
    pub answered: u64,
    /// The same by the time that it took: below each of [`BOUNDS_MS`], then longer.
    pub buckets: Vec<u64>,
    /// Requests denied because something of ours failed.
    pub faults: u64,
    /// Requests denied because their time was up.
    pub late: u64,
    /// Requests that did not prove their origin.
    pub refused: u64,
    /// Requests denied by overload.
    pub shed: u64,
}

/// What one route counts.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    refused: [AtomicU64; REFUSALS.len()],
    unread: AtomicU64,
    decided: [AtomicU64; VERDICTS.len()],
    expressed: [AtomicU64; EXPRESSED.len()],
    repeated: AtomicU64,
    shed: AtomicU64,
    late: AtomicU64,
    faults: AtomicU64,
    fail_open_seen: AtomicU64,
    unprotected: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    answer_us: AtomicU64,
}

impl RouteMetrics {
    /// A request did not prove where it came from.
    pub fn refused(&self, error: &VerifyError) {
        if let Some(at) = REFUSALS.iter().position(|code| *code == error.code()) {
            add(&self.refused[at]);
        }
    }

    /// A request was denied because its body could not be taken in, before anybody was verified.
    pub fn unread(&self) {
        add(&self.unread);
    }

    /// The vendor reported that a gate failed and the action may have run unasked.
    pub fn fail_open_seen(&self) {
        add(&self.fail_open_seen);
    }

    /// A result came in a session in which nothing was ever decided.
    pub fn unprotected(&self) {
        add(&self.unprotected);
    }

    /// An action was decided and something was said.
    pub fn decided(&self, verdict: Verdict, expressed: Expressed) {
        if let Some(at) = VERDICTS.iter().position(|v| *v == verdict) {
            add(&self.decided[at]);
        }
        if let Some(at) = EXPRESSED.iter().position(|e| *e == expressed) {
            add(&self.expressed[at]);
        }
    }

    /// A repetition got its recorded answer.
    pub fn repeated(&self) {
        add(&self.repeated);
    }

    /// A request was denied without being looked at.
    pub fn shed(&self) {
        add(&self.shed);
    }

    /// A request was denied because its time was up.
    pub fn late(&self) {
        add(&self.late);
    }

    /// A request was denied because something of ours failed.
    pub fn fault(&self) {
        add(&self.faults);
    }

    /// A verified request was answered.
    pub fn answered(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.iter().position(|bound| ms < *bound).unwrap_or(BOUNDS_MS.len());
        add(&self.buckets[bucket]);
        self.answer_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let buckets: Vec<u64> = self.buckets.iter().map(get).collect();
        Figures {
            answered: buckets.iter().sum(),
            buckets,
            faults: get(&self.faults),
            late: get(&self.late),
            refused: self.refused.iter().map(get).sum(),
            shed: get(&self.shed),
        }
    }

    /// Requests denied without being looked at, so far.
    #[must_use]
    pub fn shed_count(&self) -> u64 {
        get(&self.shed)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What the pipeline is doing.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Break-glasses in force.
    pub break_glasses: usize,
    /// Calls that are kept waiting for a person.
    pub held: usize,
    /// Decisions in flight.
    pub in_flight: usize,
}

/// The text of `/metrics`.
#[must_use]
pub fn render(routes: &Routes, health: &Health, load: Load) -> String {
    let mut text = String::new();
    counters(&mut text, routes);
    histogram(&mut text, routes);
    let gauges = [
        ("in_flight", "Decisions in flight", load.in_flight as u64),
        ("held_calls", "Calls that are kept waiting for a person", load.held as u64),
        ("break_glasses_open", "Break-glasses in force", load.break_glasses as u64),
        ("log_size", "Leaves in the durable log", health.size),
        ("log_commits", "Commits since start", health.commits),
        ("log_batches", "Batches (one sync each) since start", health.batches),
        ("log_commit_microseconds", "Smoothed time to write and sync a batch", health.commit_us),
        ("log_queued", "Commits that wait", health.queued as u64),
        ("index_lag", "Leaves the index has not seen", health.index_lag),
        ("approvals_open", "Open approvals and deferrals", health.approvals as u64),
        ("callbacks_owed", "Callbacks owed to vendors", health.outbox as u64),
        ("callbacks_dead", "Callbacks given up", health.dead_letters as u64),
        (
            "store_stopped",
            "1 when the store has stopped and everything is denied",
            u64::from(health.stopped.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        line(
            &mut text,
            format_args!(
                "# HELP countersign_{name} {help}.\n# TYPE countersign_{name} gauge\ncountersign_{name} {value}"
            ),
        );
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{arguments}");
}

fn counters(text: &mut String, routes: &Routes) {
    line(
        text,
        format_args!(
            "# HELP countersign_decisions_total Actions decided.\n# TYPE countersign_decisions_total counter"
        ),
    );
    for (name, route) in routes {
        for (verdict, count) in VERDICTS.iter().zip(&route.metrics.decided) {
            let count = get(count);
            line(
                text,
                format_args!(
                    "countersign_decisions_total{{connector=\"{name}\",verdict=\"{verdict}\"}} {count}"
                ),
            );
        }
    }
    line(
        text,
        format_args!(
            "# HELP countersign_answers_total What vendors were told.\n# TYPE countersign_answers_total counter"
        ),
    );
    for (name, route) in routes {
        for (said, count) in EXPRESSED.iter().zip(&route.metrics.expressed) {
            let (said, count) = (said.as_str(), get(count));
            line(
                text,
                format_args!(
                    "countersign_answers_total{{connector=\"{name}\",expressed=\"{said}\"}} {count}"
                ),
            );
        }
    }
    line(
        text,
        format_args!(
            "# HELP countersign_refused_total Requests that did not prove their origin.\n# TYPE countersign_refused_total counter"
        ),
    );
    for (name, route) in routes {
        for (code, count) in REFUSALS.iter().zip(&route.metrics.refused) {
            let count = get(count);
            line(
                text,
                format_args!("countersign_refused_total{{connector=\"{name}\",reason=\"{code}\"}} {count}"),
            );
        }
    }
    type Field = fn(&RouteMetrics) -> &AtomicU64;
    let plain: [(&str, &str, Field); 7] = [
        ("repeated", "Repetitions that got their recorded answer", |m| &m.repeated),
        ("unread", "Requests denied because their body could not be taken in", |m| &m.unread),
        ("shed", "Requests denied by overload", |m| &m.shed),
        ("late", "Requests denied because their time was up", |m| &m.late),
        ("faults", "Requests denied because something failed", |m| &m.faults),
        ("fail_open_seen", "Gates that failed while the action may have run", |m| &m.fail_open_seen),
        ("unprotected", "Results in sessions in which nothing was decided", |m| &m.unprotected),
    ];
    for (what, help, field) in plain {
        line(
            text,
            format_args!("# HELP countersign_{what}_total {help}.\n# TYPE countersign_{what}_total counter"),
        );
        for (name, route) in routes {
            let count = get(field(&route.metrics));
            line(text, format_args!("countersign_{what}_total{{connector=\"{name}\"}} {count}"));
        }
    }
}

fn histogram(text: &mut String, routes: &Routes) {
    line(
        text,
        format_args!(
            "# HELP countersign_answer_seconds Time from receipt to answer.\n# TYPE countersign_answer_seconds histogram"
        ),
    );
    for (name, route) in routes {
        let mut total = 0;
        for (bound, count) in BOUNDS_MS.iter().zip(&route.metrics.buckets) {
            total += get(count);
            let (seconds, millis) = (bound / 1000, bound % 1000);
            line(
                text,
                format_args!(
                    "countersign_answer_seconds_bucket{{connector=\"{name}\",le=\"{seconds}.{millis:03}\"}} {total}"
                ),
            );
        }
        total += route.metrics.buckets.last().map_or(0, get);
        let us = get(&route.metrics.answer_us);
        line(
            text,
            format_args!("countersign_answer_seconds_bucket{{connector=\"{name}\",le=\"+Inf\"}} {total}"),
        );
        line(
            text,
            format_args!(
                "countersign_answer_seconds_sum{{connector=\"{name}\"}} {}.{:06}",
                us / 1_000_000,
                us % 1_000_000
            ),
        );
        line(text, format_args!("countersign_answer_seconds_count{{connector=\"{name}\"}} {total}"));
        let budget = route.budget.as_millis();
        line(text, format_args!("countersign_budget_milliseconds{{connector=\"{name}\"}} {budget}"));
    }
}
