//! `countersign completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output;

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
/// When standard output is gone.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut script);
    output::text(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}
