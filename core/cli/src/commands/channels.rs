//! `countersign channels`

use clap::Subcommand;
use countersign_sdk::Site;
use countersign_service::config::connector_kind;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign channels
  countersign channels setup slack
  countersign channels setup slack --public-url https://countersign.acme.example";
const PUBLIC_URL: &str = "https://countersign.example.com";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the kinds of channels and what each can do.
    List,
    /// Print what to do so that approvers are asked there.
    Setup {
        /// A configured channel, or a kind.
        name: String,
        /// How the channel's vendor and approvers reach us. Default: `server.public_url` of the configuration.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
    },
}

/// Tells about approval channels.
///
/// # Errors
///
/// When there is no such channel, or the configuration cannot be read.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what.unwrap_or(What::List) {
        What::List => list(globals)?,
        What::Setup { name, public_url } => setup(&name, public_url, globals)?,
    }
    Ok(Exit::Done)
}

fn list(globals: &Globals) -> anyhow::Result<()> {
    let registry = site::registry();
    let kinds: Vec<_> = registry.channels().map(|spec| (spec.name, (spec.traits)())).collect();
    if globals.json {
        let entry = |(name, traits): &(&str, countersign_sdk::channel::ChannelTraits)| json!({"name": name, "assurance": traits.assurance, "rooms": traits.rooms, "changes": traits.changes});
        return output::json(&kinds.iter().map(entry).collect::<Vec<_>>());
    }
    let mut table = output::table(["channel", "who answered is known by", "asks", "alike questions join"]);
    for (name, traits) in kinds {
        let asks = if traits.rooms { "rooms and people" } else { "people" };
        table.add_row([name, traits.assurance, asks, if traits.changes { "yes" } else { "no" }]);
    }
    Ok(output::line(table)?)
}

fn setup(name: &str, public_url: Option<String>, globals: &Globals) -> anyhow::Result<()> {
    let config = site::load_if_there(&globals.config)?;
    let section =
        config.as_ref().and_then(|config| config.channels.get(name)).cloned().unwrap_or(Value::Null);
    let registry = site::registry();
    let kind = connector_kind(name, &section).to_owned();
    let spec = registry.channel(&kind).ok_or_else(|| {
        let known: Vec<_> = registry.channels().map(|spec| spec.name).collect();
        anyhow::anyhow!("there is no channel `{kind}`; there are {}", known.join(", "))
    })?;
    let configured = config.map(|config| config.server.public_url);
    let public_url = public_url.or(configured).unwrap_or_else(|| PUBLIC_URL.to_owned());
    let public_url = public_url.trim_end_matches('/').to_owned();
    let site = Site { instance: name.to_owned(), public_url, settings: section };
    let text = (spec.setup)(&site);
    if globals.json {
        return output::json(&json!({"channel": kind, "channelUrl": site.channel_url(), "setup": text}));
    }
    output::line(format_args!("channel URL: {}\n", site.channel_url()))?;
    Ok(output::text(&text)?)
}
