//! How long a decision takes, request building included, and whether policies that cannot match cost anything.
//!
//! `in_scope/N` has N policies of which 25 have a scope that admits the action; `unindexed/N` is the same set with
//! every policy looked at. At the end the ratios to 25 policies are printed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints its result")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use countersign_engine::cases::CaseAction;
use countersign_engine::{Options, Policies, PolicySource, evaluate};
use countersign_schemas::{Action, Context, Timestamp, Verdict};
use criterion::Criterion;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_795_451_000_123);

/// 25 policies that a shell command meets, in the manner of the starter set.
fn in_scope(number: usize) -> String {
    let condition = match number % 5 {
        0 => format!("context.facets.commands.contains(\"program{number}\")"),
        1 => format!("context.params has command && context.params.command like \"*--flag{number}*\""),
        2 => format!("context.facets.pathEnds.containsAny([\".config/file{number}\", \"secret{number}\"])"),
        3 => format!(
            "context.session.labels.contains(\"L{number}\") && context.session.actionCount > {number}"
        ),
        _ => format!("context.assuranceLevel < 1 || context.signals.contains(\"signal{number}\")"),
    };
    let scope = ["action == Action::\"execute\"", "action in Action::\"mutate\"", "action"][number % 3];
    format!(
        "@id(\"near{number}\") @reason(\"r\") forbid (principal, {scope}, resource) when {{ {condition} }};\n"
    )
}

/// Policies about other effects, tools, servers and connectors.
fn out_of_scope(number: usize) -> String {
    let scope = match number % 4 {
        0 => "principal, action in [Action::\"pay\", Action::\"deploy\"], resource".to_owned(),
        1 => format!("principal, action, resource == Tool::\"mcp/s{number}/t\""),
        2 => format!("principal, action in Action::\"mutate\", resource in Server::\"s{}\"", number / 40),
        _ => format!("principal in Connector::\"c{number}\", action == Action::\"execute\", resource"),
    };
    let condition = format!("context.facets.commands.contains(\"program{number}\")");
    format!("@id(\"far{number}\") @reason(\"r\") forbid ({scope}) when {{ {condition} }};\n")
}

fn policies(total: usize) -> Policies {
    let mut text = "@id(\"permit\") permit (principal, action, resource);\n".to_owned();
    text.extend((1..25).map(in_scope));
    text.extend((25..total).map(out_of_scope));
    Policies::load(&[PolicySource { name: "bench.cedar".to_owned(), text }], Options::default()).unwrap()
}

fn shell_command() -> Action {
    let action = json!({
        "connector": "laptop-7", "vendor": "claude-code", "event": "PreToolUse", "effect": "execute",
        "tool": "claude-code/-/Bash",
        "identity": {
            "agent": {"id": "claude-code", "model": "claude"}, "assurance": "oauth_verified", "device": "laptop-7",
            "human": {"id": "u-123", "email": "ann@example.com"}, "role": "developer", "tenant": "t-1"
        },
        "facets": {"commands": ["cd", "cargo", "git"], "paths": ["/home/ann/repo/src/main.rs"]},
        "parameters": {"command": "cd /home/ann/repo && cargo test && git commit -am done", "timeout": 120_000}
    });
    serde_json::from_value::<CaseAction>(action).unwrap().to_action(NOW)
}

/// Best of 20 rounds, in nanoseconds a decision: other work on the machine only ever adds.
fn fastest(policies: &Policies, action: &Action, context: &Context, decisions: u32) -> f64 {
    let round = || {
        let start = Instant::now();
        for _ in 0..decisions {
            black_box(evaluate(black_box(policies), black_box(action), black_box(context), NOW));
        }
        start.elapsed() / decisions
    };
    (0..20).map(|_| round()).min().map_or(f64::NAN, |best| best.as_nanos() as f64)
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let (action, context) =
        (shell_command(), Context { labels: vec!["PII".to_owned()], ..Context::default() });
    let mut ratios = Vec::new();
    let mut base = f64::NAN;
    for total in [25, 10_000] {
        let indexed = policies(total);
        assert_eq!(Verdict::Allow, evaluate(&indexed, &action, &context, NOW).verdict);
        let mut measure = |name: String, policies: &Policies, decisions: u32| {
            criterion.bench_function(&name, |b| b.iter(|| evaluate(policies, &action, &context, NOW)));
            let best = fastest(policies, &action, &context, decisions);
            base = if base.is_nan() { best } else { base };
            ratios.push((name, best, best / base));
        };
        measure(format!("in_scope/{total}"), &indexed, 500);
        let flat = indexed.unindexed().unwrap();
        measure(format!("unindexed/{total}"), &flat, if total > 100 { 5 } else { 500 });
    }
    for (name, nanoseconds, ratio) in ratios {
        println!(
            "{name:>16}: best {:8.1} µs a decision, {ratio:7.2} times 25 policies",
            nanoseconds / 1_000.0
        );
    }
}
