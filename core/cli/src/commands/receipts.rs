//! `countersign receipts`

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use comfy_table::Table;
use countersign_schemas::{Predicate, ReceiptId};
use countersign_service::export::Filter;
use countersign_service::http::receipt_view;
use serde_json::Value;

use crate::args::{Globals, Remote, Selection};
use crate::client::Client;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign receipts list --verdict DENY --limit 20
  countersign receipts show rcp_01h…          with its signed envelope and, where kept, its personal part
  countersign receipts tail --json | jq .statement.predicate.decision
  countersign receipts list --offline         read the store itself, while no server runs";
const TAIL_EVERY: Duration = Duration::from_millis(500);
/// What the server gives at once.
const PAGE: usize = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the newest receipts that match, newest first.
    List {
        #[command(flatten)]
        selection: Selection,
        /// At most this many, up to 1000.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Print one receipt.
    Show {
        /// The receipt (`rcp_…`).
        id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Print receipts as they are written, oldest first, until interrupted.
    Tail {
        #[command(flatten)]
        selection: Selection,
        /// Begin with this many that are there already.
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10)]
        lines: usize,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Where receipts are read.
#[derive(Debug, clap::Args)]
struct Place {
    /// Read the configured store itself. No server may be running.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Reads receipts.
///
/// # Errors
///
/// When neither the server nor the store can be read.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::List { selection, limit, place } => {
            let filter = Filter { limit: Some(limit), ..selection.filter() };
            let views = match place.offline {
                true => find_offline(&globals.config, &filter).await?,
                false => find(&Client::new(&place.remote, globals)?, &filter).await?,
            };
            if globals.json { output::json(&views)? } else { output::line(table(&views))? }
        }
        What::Show { id, place } => {
            let view = match place.offline {
                true => show_offline(&globals.config, &id).await?,
                false => Client::new(&place.remote, globals)?.get(&["v1", "receipts", &id], &()).await?,
            };
            if globals.json { output::json(&view)? } else { show(&view)? }
        }
        What::Tail { selection, lines, remote } => {
            tail(&Client::new(&remote, globals)?, selection.filter(), lines, globals).await?;
        }
    }
    Ok(Exit::Done)
}

async fn find(client: &Client, filter: &Filter) -> anyhow::Result<Vec<Value>> {
    client.get(&["v1", "receipts"], filter).await
}

async fn find_offline(config: &Path, filter: &Filter) -> anyhow::Result<Vec<Value>> {
    let query = filter.query().map_err(anyhow::Error::msg)?;
    let store = site::open_store(config)?;
    let found = store.find(&query).await?;
    store.close().await?;
    found.iter().map(|leaf| Ok(serde_json::to_value(receipt_view(leaf, false))?)).collect()
}

async fn show_offline(config: &Path, id: &str) -> anyhow::Result<Value> {
    let id: ReceiptId = id.parse()?;
    let store = site::open_store(config)?;
    let found = store.receipt(&id).await?;
    store.close().await?;
    let found = found.with_context(|| format!("no receipt `{id}`"))?;
    Ok(serde_json::to_value(receipt_view(&found, true))?)
}

async fn tail(client: &Client, filter: Filter, lines: usize, globals: &Globals) -> anyhow::Result<()> {
    let newest = Filter { limit: Some(lines.max(1)), ..filter.clone() };
    let mut views = find(client, &newest).await?;
    let mut next = views.first().map_or(0, |view| index(view) + 1);
    views.truncate(lines);
    loop {
        for view in views.iter().rev() {
            output::line(if globals.json { view.to_string() } else { one_line(view) })?;
        }
        tokio::time::sleep(TAIL_EVERY).await;
        views = since(client, &filter, next).await?;
        next = views.first().map_or(next, |view| index(view) + 1);
    }
}

/// Every matching receipt from index `next` on, newest first.
async fn since(client: &Client, filter: &Filter, next: u64) -> anyhow::Result<Vec<Value>> {
    let mut views: Vec<Value> = Vec::new();
    loop {
        let below = views.last().map(index);
        let page = Filter { below, limit: Some(PAGE), ..filter.clone() };
        let mut page = find(client, &page).await?;
        let full = page.len() == PAGE;
        let whole = page.len();
        page.retain(|view| index(view) >= next);
        let ended = page.len() < whole;
        views.append(&mut page);
        if ended || !full {
            return Ok(views);
        }
    }
}

fn index(view: &Value) -> u64 {
    view.get("index").and_then(Value::as_u64).unwrap_or(0)
}

fn predicate(view: &Value) -> Option<Predicate> {
    serde_json::from_value(view.pointer("/statement/predicate")?.clone()).ok()
}

/// What a receipt says, in a few words: when, kind, what was decided, tool, agent, its own name.
fn words(view: &Value) -> [String; 6] {
    let Some(of) = predicate(view) else { return Default::default() };
    let decided = of.decision.as_ref().map(|decision| {
        let (verdict, told) = (decision.verdict.as_str(), decision.expressed.as_str());
        if verdict == told { verdict.to_owned() } else { format!("{verdict}, told {told}") }
    });
    let answered = of.approval.as_ref().and_then(|approval| approval.approved);
    let answered = answered.map(|yes| if yes { "approved" } else { "refused" }.to_owned());
    let ended = of.outcome.as_ref().map(|outcome| format!("{:?}", outcome.status).to_lowercase());
    let tool = of.action.as_ref().map(|action| output::cut(&action.tool.canonical(), usize::MAX));
    let agent = of.identity.as_ref().map(|identity| output::cut(&identity.agent, usize::MAX));
    [
        of.decided_at.to_string(),
        of.kind.as_str().to_owned(),
        decided.or(answered).or(ended).unwrap_or_default(),
        tool.unwrap_or_default(),
        agent.unwrap_or_default(),
        of.receipt_id.to_string(),
    ]
}

fn table(views: &[Value]) -> Table {
    let mut table = output::table(["leaf", "time", "kind", "decided", "tool", "agent", "receipt"]);
    for view in views {
        let mut row = vec![index(view).to_string()];
        row.extend(words(view));
        table.add_row(row);
    }
    table
}

fn one_line(view: &Value) -> String {
    let words: Vec<String> = words(view).into_iter().filter(|word| !word.is_empty()).collect();
    format!("{:>8}  {}", index(view), words.join("  "))
}

fn show(view: &Value) -> anyhow::Result<()> {
    output::line(one_line(view))?;
    if let Some(decision) = predicate(view).and_then(|predicate| predicate.decision) {
        output::line(output::cut(&decision.reason, usize::MAX))?;
    }
    for (name, key) in [("statement", "statement"), ("personal part", "disclosed"), ("envelope", "envelope")]
    {
        if let Some(part) = view.get(key) {
            output::line(format_args!("\n{name}\n{part:#}"))?;
        }
    }
    Ok(())
}
