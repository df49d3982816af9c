//! `countersign connectors`

mod matrix;
mod rehearse;

use clap::Subcommand;
use countersign_sdk::{Manifest, Site};
use countersign_service::config::connector_kind;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign connectors
  countersign connectors setup github
  countersign connectors test generic request.http --now 2026-11-24T05:00:00Z
  countersign connectors test claude-code captured.json --skip-verify --policies policies/base
  countersign connectors matrix --markdown > docs/connectors.md";
const PUBLIC_URL: &str = "https://countersign.example.com";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print what each vendor's hook can be told, and what happens when it gets no answer.
    List,
    /// Print what to do in the vendor's console.
    Setup {
        /// A configured instance, or a connector.
        name: String,
        /// How vendors reach us. Default: `server.public_url` of the configuration.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
    },
    /// Print the whole coverage matrix: every frame of every vendor.
    Matrix {
        /// As Markdown, with the limits and the console steps: the content of docs/connectors.md.
        #[arg(long)]
        markdown: bool,
    },
    /// Show offline what verify, normalise, policy and answer make of a recorded request.
    Test(rehearse::Args),
}

/// Tells about connectors.
///
/// # Errors
///
/// When there is no such connector, or a recorded request cannot be read.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what.unwrap_or(What::List) {
        What::List => list(globals)?,
        What::Setup { name, public_url } => setup(&name, public_url, globals)?,
        What::Matrix { .. } if globals.json => output::json(&manifests())?,
        What::Matrix { markdown: true } => output::text(&matrix::markdown())?,
        What::Matrix { markdown: false } => output::line(matrix::table(&manifests()))?,
        What::Test(args) => return rehearse::run(&args, globals).await,
    }
    Ok(Exit::Done)
}

fn manifests() -> Vec<Manifest> {
    countersign_connectors::registry().iter().map(|spec| (spec.manifest)()).collect()
}

fn list(globals: &Globals) -> anyhow::Result<()> {
    let manifests = manifests();
    if globals.json {
        return output::json(&manifests);
    }
    let mut table = output::table([
        "connector",
        "vendor",
        "answers",
        "window",
        "can be told",
        "without an answer",
        "identity",
    ]);
    for manifest in manifests {
        table.add_row(matrix::row(&manifest));
    }
    Ok(output::line(table)?)
}

fn setup(name: &str, public_url: Option<String>, globals: &Globals) -> anyhow::Result<()> {
    let config = site::load_if_there(&globals.config)?;
    let mut section =
        config.as_ref().and_then(|config| config.connectors.get(name)).cloned().unwrap_or(Value::Null);
    let registry = countersign_connectors::registry();
    let kind = connector_kind(name, &section).to_owned();
    let spec = registry.get(&kind).ok_or_else(|| unknown(&kind))?;
    // The key `type` is the service's, not the connector's.
    let _type = section.as_object_mut().and_then(|section| section.shift_remove("type"));
    let configured = config.map(|config| config.server.public_url);
    let public_url = public_url.or(configured).unwrap_or_else(|| PUBLIC_URL.to_owned());
    let public_url = public_url.trim_end_matches('/').to_owned();
    let site = Site { instance: name.to_owned(), public_url, settings: section };
    let text = (spec.setup)(&site);
    if globals.json {
        return output::json(&json!({"connector": kind, "hookUrl": site.hook_url(), "setup": text}));
    }
    output::line(format_args!("hook URL: {}\n", site.hook_url()))?;
    Ok(output::text(&text)?)
}

fn unknown(kind: &str) -> anyhow::Error {
    let registry = countersign_connectors::registry();
    let known: Vec<_> = registry.iter().map(|spec| spec.name).collect();
    anyhow::anyhow!("there is no connector `{kind}`; there are {}", known.join(", "))
}
