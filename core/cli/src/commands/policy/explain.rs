//! `countersign policy explain`

use std::path::PathBuf;

use anyhow::Context as _;
use countersign_engine::{Explanation, Policies, Replay, replay};
use countersign_schemas::{PolicyRef, ReceiptId};
use countersign_service::export::Filter;
use countersign_service::policies;
use serde::Serialize;
use serde_json::{Value, json};

use super::history::{Lines, Place, Receipt, Sessions, Situation};
use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Shows what was recorded, the policies that decided with their text, whether they still say what they said, and what the
set would decide now for the same action in the same context. `countersign policy replay --help` says what receipts do
not tell.

Examples:
  countersign policy explain rcp_01h…
  countersign policy explain rcp_01h… --policies policies/candidate
  countersign policy explain rcp_01h… --from log.ndjson --json | jq .now";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The receipt (`rcp_…`).
    receipt: ReceiptId,
    /// Folder of `*.cedar` files. Default: the configured one.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// A policy that decided, beside what the set holds under its id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    #[serde(flatten)]
    policy: PolicyRef,
    /// `as recorded`, `changed since` or `gone`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Explains a receipt.
///
/// # Errors
///
/// When the receipt or the policies cannot be read.
pub(super) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let set = policies::load(&super::settings(args.policies.as_deref(), globals)?)?;
    let session = args.place.session_of(globals, &args.receipt).await?;
    let filter = Filter { disclose: true, session, ..Filter::default() };
    let mut sessions = Sessions::default();
    let mut found = None;
    let mut lines = Lines::new(|line, _| {
        if found.is_none() {
            let receipt = Receipt::parse(&line)?;
            let situation = sessions.note(&receipt);
            if receipt.predicate.receipt_id == args.receipt {
                found = Some((receipt, situation));
            }
        }
        Ok(())
    });
    args.place.read(globals, filter, &mut lines).await?;
    lines.finish()?;
    let (receipt, situation) = found.with_context(|| format!("no receipt `{}`", args.receipt))?;
    let recorded = recorded(&receipt, &set);
    let again = situation.map(|situation| again(&set, &situation));
    if globals.json {
        output::json(&view(&receipt, &set, &recorded, again.as_ref()))?;
    } else {
        describe(&receipt, &set, &recorded)?;
        describe_again(again.as_ref())?;
    }
    Ok(Exit::Done)
}

fn again(set: &Policies, situation: &Situation) -> Replay {
    let known = |path: &str| situation.known.knows(path);
    replay(set, &situation.action, &situation.context, situation.now, &known)
}

fn recorded(receipt: &Receipt, set: &Policies) -> Vec<Recorded> {
    let matched = receipt.predicate.policy.iter().flat_map(|policy| &policy.matched);
    let recorded = |policy: &PolicyRef| {
        let info = set.iter().find(|info| info.id == policy.id);
        let status = match info {
            Some(info) if info.sha256 == policy.sha256 => "as recorded",
            Some(_) => "changed since",
            None => "gone",
        };
        Recorded { policy: policy.clone(), status, text: set.text(&policy.id) }
    };
    matched.map(recorded).collect()
}

/// Whether the set is the one that decided; `None` when no set did.
fn same_bundle(receipt: &Receipt, set: &Policies) -> Option<bool> {
    receipt.predicate.policy.as_ref().map(|policy| policy.bundle_sha256 == set.bundle_sha256())
}

fn view(receipt: &Receipt, set: &Policies, recorded: &[Recorded], again: Option<&Replay>) -> Value {
    let now = match again {
        Some(Replay::Decided(explanation)) => json!({"explanation": explanation}),
        Some(Replay::Unknown { needs, policies }) => {
            json!({"unknown": {"needs": needs, "policies": policies}})
        }
        None => Value::Null,
    };
    json!({
        "bundleSha256": set.bundle_sha256(),
        "now": now,
        "policies": recorded,
        "predicate": receipt.predicate,
        "sameBundle": same_bundle(receipt, set),
    })
}

fn describe(receipt: &Receipt, set: &Policies, recorded: &[Recorded]) -> anyhow::Result<()> {
    let of = &receipt.predicate;
    output::line(format_args!("{} of {}, {}", of.receipt_id, of.decided_at, of.kind.as_str()))?;
    if let Some(action) = &of.action {
        let tool = output::cut(&action.tool.canonical(), usize::MAX);
        output::line(format_args!("{} {tool}, through {}", action.effect.as_str(), of.vendor.connector))?;
    }
    if let Some(decision) = &of.decision {
        let reason = output::cut(&decision.reason, usize::MAX);
        output::line(format_args!("{}, told {}: {reason}", decision.verdict, decision.expressed.as_str()))?;
    }
    match same_bundle(receipt, set) {
        Some(true) => output::line("decided by the very set that is looked at")?,
        Some(false) => {
            output::line("decided by another set: what stands below is the set that is looked at")?
        }
        None => output::line("no policy was asked: the reason above is all there is")?,
    }
    if recorded.is_empty() && of.policy.is_some() {
        output::line("no policy matched: the default decided")?;
    }
    for Recorded { policy, status, text } in recorded {
        output::line(format_args!("\n{}: {status}", policy.id))?;
        text.iter().try_for_each(|text| output::line(text.trim()))?;
    }
    Ok(())
}

fn describe_again(again: Option<&Replay>) -> anyhow::Result<()> {
    match again {
        Some(Replay::Decided(explanation)) => table(explanation),
        Some(Replay::Unknown { needs, policies }) => Ok(output::line(format_args!(
            "\nwhat would be decided now cannot be told: receipts do not tell {}, which {} read",
            needs.join(", "),
            policies.join(", ")
        ))?),
        None => Ok(()),
    }
}

fn table(explanation: &Explanation) -> anyhow::Result<()> {
    let decision = &explanation.decision;
    output::line(format_args!("\nnow: {}: {}", decision.verdict, output::cut(&decision.reason, usize::MAX)))?;
    let mut table = output::table(["policy", "would", "found", "priority", "place"]);
    for of in &explanation.considered {
        let found = serde_json::to_value(of.finding)?;
        table.add_row([
            of.id.clone(),
            of.verdict.to_string(),
            found.as_str().unwrap_or_default().replace('_', " "),
            of.priority.to_string(),
            format!("{}:{}", of.file, of.line),
        ]);
    }
    Ok(output::line(table)?)
}
