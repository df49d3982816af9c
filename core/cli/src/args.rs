//! The command line: clap types only. What one command alone takes stands beside that command.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use countersign_service::export::Filter;
use countersign_service::telemetry::LogFormat;

use crate::commands::{
    approvals, bench, break_glass, channels, completions, config, conformance, connectors, decide, demo,
    export, halt, hook, init, keys, policy, receipts, schema, serve, verify,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, allowed, verified
  1  the answer is no: refuted, denied, a test failed
  2  incomplete: nothing is wrong, but something could not be checked
  3  wrong use, a wrong configuration, or the work could not be done

Start here:
  countersign init                       write a configuration, keys and policies
  countersign serve                      answer hooks
  countersign connectors setup generic   what to do on the vendor's side
  countersign export -o log.ndjson && countersign verify log.ndjson --trust trust.json";

/// Decides what AI agents may do, before they do it, and proves it afterwards.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Globals {
    /// The configuration file. Paths in it are relative to its folder.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "countersign.toml",
        env = "COUNTERSIGN_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How log lines look.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "human",
        env = "COUNTERSIGN_LOG_FORMAT",
        hide_env_values = true
    )]
    pub(crate) log_format: LogFormatName,
    /// What is logged, for example `info` or `countersign_service=debug`. Default: `info` for serve, else `warn`.
    #[arg(
        long = "log",
        global = true,
        value_name = "FILTER",
        env = "COUNTERSIGN_LOG",
        hide_env_values = true
    )]
    pub(crate) log_filter: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormatName {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl From<LogFormatName> for LogFormat {
    fn from(name: LogFormatName) -> Self {
        match name {
            LogFormatName::Human => Self::Human,
            LogFormatName::Json => Self::Json,
        }
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer hooks, until told to stop.
    Serve(serve::Args),
    /// Write a configuration, keys and the base policies, and say what to do next.
    Init(init::Args),
    /// Check the configuration, or print its schema.
    Config(config::Args),
    /// What is known about each vendor's hook, how to set it up, and what a recorded request comes to.
    Connectors(connectors::Args),
    /// Where approvers are asked, and how to set it up.
    Channels(channels::Args),
    /// Decide one action offline and explain the decision.
    Decide(decide::Args),
    /// Check, test, compare, replay, explain, draft and reload policies.
    Policy(policy::Args),
    /// Read receipts.
    #[command(visible_alias = "receipt")]
    Receipts(receipts::Args),
    /// Answer what waits for a person.
    Approvals(approvals::Args),
    /// Answer questions with yes for a while, with receipts that say so
    BreakGlass(break_glass::Args),
    /// The kill switch: deny everything, one agent, one person or one connector, at once.
    Halt(halt::Args),
    /// On a device: answer a client that asks by running a command, and register that command.
    Hook(hook::Args),
    /// Write the log, or a part of it, to a file.
    Export(export::Args),
    /// Check an export offline, believing nothing but the trust file.
    Verify(verify::Args),
    /// Make signing keys and show their public halves.
    Keys(keys::Args),
    /// Write the JSON Schemas and the OpenAPI document.
    Schema(schema::Args),
    /// Show it all: recorded hooks of every vendor, signed, through real HTTP; then verify the log.
    Demo(demo::Args),
    /// Measure this machine: decisions, latency and overload beside named limits.
    Bench(bench::Args),
    /// Show, row by row and with receipts, that a server does what AARM requires.
    Conformance(conformance::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

/// A running server, and who asks it.
#[derive(Debug, clap::Args)]
pub(crate) struct Remote {
    /// The running server. Default: `http://` and `server.listen` of the configuration.
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_SERVER", hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// File with the API token. Default: the variable COUNTERSIGN_TOKEN, then `keys/operator.token` beside the
    /// configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Which receipts.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Only this action (`act_…`).
    #[arg(long, value_name = "ID")]
    action: Option<String>,
    /// Only this connector instance.
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// Only this kind, for example `decision`.
    #[arg(long)]
    kind: Option<String>,
    /// Only this session (`ses_…`).
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this decision, for example `DENY`.
    #[arg(long)]
    verdict: Option<String>,
}

impl Selection {
    /// As the service understands it.
    pub(crate) fn filter(self) -> Filter {
        let Self { action, connector, kind, session, since, until, verdict } = self;
        Filter { action, connector, kind, session, since, until, verdict, ..Filter::default() }
    }
}
