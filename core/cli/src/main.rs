//! The program `countersign`: the only place that knows both the service and the vendors.

mod args;
mod base;
mod client;
mod commands;
mod exit;
mod output;
mod recorded;
mod site;
mod stage;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use countersign_service::telemetry;

use args::{Cli, Command};
use exit::Exit;

/// A decision makes many small, short-lived allocations on many threads, which is what this allocator is for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = commands::hook::dispatch() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return shown(&error).into(),
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        // Whoever reads our output has seen enough of it.
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            Exit::Misuse.into()
        }
    }
}

/// Prints what clap has to say; only help and version are not misuse.
fn shown(error: &clap::Error) -> Exit {
    // If this cannot be printed, the exit code still says it.
    let _printed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Misuse,
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("the TLS provider is installed twice");
    }
    let default = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = cli.globals.log_filter.as_deref().unwrap_or(default);
    telemetry::start(cli.globals.log_format.into(), filter).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(commands::run(cli.command, &cli.globals))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
