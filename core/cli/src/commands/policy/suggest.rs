//! `countersign policy suggest`

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use countersign_engine::suggest::{Draft, Seen};
use countersign_schemas::{ReceiptKind, Timestamp, Verdict};
use countersign_service::clock::{Clock as _, SystemClock};
use countersign_service::export::Filter;
use serde_json::json;

use super::history::{Lines, Place, Receipt, moment};
use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
One permit for every connector, kind of agent, effect and tool family (an MCP server, or a single tool of the vendor's
own), naming the tools and the lowest assurance that were seen. Only plain ALLOWs are drafted: what a person approved
is a question that should go on being asked, and what was modified needs its policy.

Examples:
  countersign policy suggest --since 30d > policies/candidate/suggested.cedar
  countersign policy suggest --from log.ndjson -o suggested.cedar";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only what was decided at or after this time: RFC 3339, or how long ago (`7d`, `12h`, `30m`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what came through this connector instance.
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// The file to write. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// What was read.
#[derive(Default)]
struct Observed {
    actions: u64,
    /// Allowed because a person said so.
    approved: u64,
    draft: Draft,
}

/// Drafts permits.
///
/// # Errors
///
/// When the receipts cannot be read or the file cannot be written.
pub(super) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let since = args.since.as_deref().map(|text| moment(text, SystemClock.now())).transpose()?;
    let mut observed = Observed::default();
    let filter = Filter {
        connector: args.connector.clone(),
        kind: Some(ReceiptKind::Decision.as_str().to_owned()),
        since: since.map(|since| since.to_string()),
        verdict: Some(Verdict::Allow.as_str().to_owned()),
        ..Filter::default()
    };
    let mut lines = Lines::new(|line, _| {
        observed.note(&Receipt::parse(&line)?, since, args.connector.as_deref());
        Ok(())
    });
    args.place.read(globals, filter, &mut lines).await?;
    lines.finish()?;
    let cedar = observed.draft.to_cedar();
    if let Some(path) = &args.output {
        fs::write(path, &cedar).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if globals.json {
        output::json(&json!({
            "actions": observed.actions,
            "approved": observed.approved,
            "cedar": cedar,
            "dropped": observed.draft.dropped(),
            "permits": observed.draft.len(),
        }))?;
    } else if args.output.is_none() {
        output::text(&cedar)?;
    }
    output::complain(&format!(
        "{} permits from {} actions; {} that a person approved are left out, {} found no room",
        observed.draft.len(),
        observed.actions,
        observed.approved,
        observed.draft.dropped()
    ));
    Ok(Exit::Done)
}

impl Observed {
    /// A file holds more than the filter wants.
    fn note(&mut self, receipt: &Receipt, since: Option<Timestamp>, connector: Option<&str>) {
        let of = &receipt.predicate;
        let (Some(action), Some(decision), Some(identity)) = (&of.action, &of.decision, &of.identity) else {
            return;
        };
        let unwanted = of.kind != ReceiptKind::Decision
            || decision.verdict != Verdict::Allow
            || since.is_some_and(|since| of.decided_at < since)
            || connector.is_some_and(|name| name != of.vendor.connector);
        if unwanted {
            return;
        }
        if of.approval.as_ref().is_some_and(|approval| approval.grant.is_some()) {
            self.approved += 1;
            return;
        }
        self.actions += 1;
        self.draft.note(&Seen {
            agent_kind: identity.agent_kind.as_deref().unwrap_or_default(),
            assurance: identity.assurance,
            connector: &of.vendor.connector,
            effect: action.effect,
            tool: &action.tool,
        });
    }
}
