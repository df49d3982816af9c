//! `countersign break-glass`

use clap::Subcommand;
use countersign_schemas::BreakGlass;
use serde_json::{Value, json};

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::commands::halt::{Scope, told};
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  countersign break-glass open --minutes 30 --connector claude-code --reason 'approvers cannot be reached, INC-42'
  countersign break-glass list
  countersign break-glass end bgl_01h…

For so long, what policies want a person to answer is allowed. A forbid stays a DENY, and so does a halt. Its start, its
end and every action it lets through are receipted under its name.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Answer questions with yes for a while.
    Open {
        /// For how long, 1 to 1440.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        #[command(flatten)]
        scope: Scope,
        /// Why. It stands in every receipt.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Print those in force.
    List(Remote),
    /// End one before its time.
    End {
        /// Which (`bgl_…`).
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Opens, lists or ends.
///
/// # Errors
///
/// What the server said, or why it could not be asked.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let (done, word): (Value, _) = match args.what {
        What::Open { minutes, scope, reason, remote } => {
            let body = json!({"reason": reason, "seconds": minutes * 60, "what": scope.what()});
            (Client::new(&remote, globals)?.post(&["v1", "break-glass"], &body).await?, "opened")
        }
        What::End { id, remote } => {
            let path = ["v1", "break-glass", &id, "end"];
            (Client::new(&remote, globals)?.post(&path, &json!({})).await?, "ended")
        }
        What::List(remote) => {
            list(&remote, globals).await?;
            return Ok(Exit::Done);
        }
    };
    if globals.json {
        output::json(&done)?;
    } else {
        let receipt = done.get("receiptId").and_then(Value::as_str).unwrap_or_default();
        output::line(format_args!("{word} (receipt {receipt})"))?;
    }
    Ok(Exit::Done)
}

async fn list(remote: &Remote, globals: &Globals) -> anyhow::Result<()> {
    let glasses: Vec<BreakGlass> = Client::new(remote, globals)?.get(&["v1", "break-glass"], &()).await?;
    if globals.json {
        return output::json(&glasses);
    }
    let mut table = output::table(["name", "covers", "since", "until", "by", "reason"]);
    for glass in glasses {
        table.add_row([
            glass.break_glass_id.to_string(),
            told(glass.what),
            glass.at.to_string(),
            glass.expires_at.to_string(),
            glass.by,
            glass.reason,
        ]);
    }
    Ok(output::line(table)?)
}
