//! `countersign completions`

use std::io;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;

/// Example: `countersign completions bash > /etc/bash_completion.d/countersign`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints a completion script.
///
/// # Errors
///
/// None that this function can tell.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut io::stdout());
    Ok(Exit::Done)
}
