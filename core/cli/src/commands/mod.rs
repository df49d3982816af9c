//! One file per command.

pub(crate) mod approvals;
pub(crate) mod bench;
pub(crate) mod break_glass;
pub(crate) mod channels;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod connectors;
pub(crate) mod decide;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod halt;
pub(crate) mod hook;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod receipts;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod verify;

use crate::args::{Command, Globals};
use crate::exit::Exit;

/// Runs a command.
///
/// # Errors
///
/// Why it could not do its work.
pub(crate) async fn run(command: Command, globals: &Globals) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(args) => serve::run(args, globals).await,
        Command::Init(args) => init::run(&args, globals),
        Command::Config(args) => config::run(&args, globals),
        Command::Connectors(args) => connectors::run(args, globals).await,
        Command::Channels(args) => channels::run(args, globals),
        Command::Decide(args) => decide::run(&args, globals),
        Command::Policy(args) => policy::run(args, globals).await,
        Command::Receipts(args) => receipts::run(args, globals).await,
        Command::Approvals(args) => approvals::run(args, globals).await,
        Command::BreakGlass(args) => break_glass::run(args, globals).await,
        Command::Halt(args) => halt::run(args, globals).await,
        Command::Hook(args) => hook::run(args, globals),
        Command::Export(args) => export::run(args, globals).await,
        Command::Verify(args) => verify::run(&args, globals),
        Command::Keys(args) => keys::run(&args, globals),
        Command::Schema(args) => schema::run(&args, globals),
        Command::Demo(args) => demo::run(args, globals).await,
        Command::Bench(args) => bench::run(&args, globals).await,
        Command::Conformance(args) => conformance::run(&args, globals).await,
        Command::Completions(args) => completions::run(&args),
    }
}
