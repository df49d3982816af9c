//! `countersign halt`

use clap::Subcommand;
use countersign_schemas::{Halt, HaltScope};
use serde_json::{Value, json};

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  countersign halt --agent claude-code/claude-code --reason 'deleting files'
  countersign halt --human eve@example.com --reason 'account taken over'
  countersign halt --all --reason drill
  countersign halt --lift --all --reason 'drill over'
  countersign halt list

A halt denies from the next decision on, survives restarts, and is receipted, as is lifting it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    list: Option<List>,
    #[command(flatten)]
    scope: Scope,
    /// Lift the halt of this scope instead of giving one.
    #[arg(long)]
    lift: bool,
    /// Why. It is told to the agents that are halted, and stands in the receipt.
    #[arg(long, required = true)]
    reason: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum List {
    /// Print the halts in force.
    List(Remote),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Scope {
    /// Everything.
    #[arg(long)]
    all: bool,
    /// One agent: `<connector>/<agent id>`.
    #[arg(long, value_name = "CONNECTOR/ID")]
    agent: Option<String>,
    /// One connector instance.
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// One person, by the vendor's id or e-mail address.
    #[arg(long, value_name = "ID")]
    human: Option<String>,
}

impl Scope {
    pub(crate) fn what(self) -> HaltScope {
        let Self { all: _, agent, connector, human } = self;
        let agent = agent.map(HaltScope::Agent);
        let other = connector.map(HaltScope::Connector).or(human.map(HaltScope::Human));
        agent.or(other).unwrap_or(HaltScope::All)
    }
}

/// Halts, lifts, or lists.
///
/// # Errors
///
/// What the server said, or why it could not be asked.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.list {
        Some(List::List(remote)) => list(&remote, globals).await?,
        None => {
            let client = Client::new(&args.remote, globals)?;
            let path: &[&str] = if args.lift { &["v1", "halts", "lift"] } else { &["v1", "halts"] };
            let body = json!({"what": args.scope.what(), "reason": args.reason.unwrap_or_default()});
            let done: Value = client.post(path, &body).await?;
            if globals.json {
                output::json(&done)?;
            } else {
                let what = if args.lift { "lifted" } else { "halted" };
                let receipt = done.get("receiptId").and_then(Value::as_str).unwrap_or_default();
                output::line(format_args!("{what} (receipt {receipt})"))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn list(remote: &Remote, globals: &Globals) -> anyhow::Result<()> {
    let halts: Vec<Halt> = Client::new(remote, globals)?.get(&["v1", "halts"], &()).await?;
    if globals.json {
        return output::json(&halts);
    }
    let mut table = output::table(["what", "since", "by", "reason"]);
    for halt in halts {
        table.add_row([told(halt.what), halt.at.to_string(), halt.by, halt.reason]);
    }
    Ok(output::line(table)?)
}

/// A scope, for people.
pub(crate) fn told(what: HaltScope) -> String {
    match what {
        HaltScope::All => "everything".to_owned(),
        HaltScope::Agent(name) => format!("agent {name}"),
        HaltScope::Connector(name) => format!("connector {name}"),
        HaltScope::Human(name) => format!("human {name}"),
    }
}
