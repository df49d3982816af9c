//! `countersign export`

mod project;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::Context as _;
use clap::ValueEnum;
use countersign_service::export::{Filter, stream};
use futures::StreamExt as _;

use project::{Projected, Projector};

use crate::args::{Globals, Remote, Selection};
use crate::client::Client;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign export -o log.ndjson                        the whole log, for `countersign verify`
  countersign export --verdict DENY --since 2026-11-01T00:00:00Z -o denied.ndjson
  countersign export --disclose -o with-personal-parts.ndjson
  countersign export --offline -o log.ndjson              read the store itself, while no server runs

A whole export is complete. A selection carries an inclusion proof on each line: it shows that each receipt is in the
log, not that no other is.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The form of the export. Only `ndjson` can be verified.
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: Format,
    #[command(flatten)]
    selection: Selection,
    /// Add the personal parts that are kept beside the log: parameters, requests, names, addresses.
    #[arg(long)]
    disclose: bool,
    /// The file to write. It is there only once it is whole. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read the configured store itself. No server may be running.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    remote: Remote,
}

/// The form of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One signed receipt a line, as `countersign verify` takes it.
    Ndjson,
    /// Open Cybersecurity Schema Framework, one event a line, for security platforms.
    Ocsf,
    /// RFC 4180, one receipt a line, for a spreadsheet.
    Csv,
}

/// Writes an export.
///
/// # Errors
///
/// When neither the server nor the store can be read, or the file cannot be written.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let filter = Filter { disclose: args.disclose, ..args.selection.filter() };
    let source = match args.offline {
        true => Source::Store(&globals.config),
        false => Source::Server(Box::new(Client::new(&args.remote, globals)?)),
    };
    match &args.output {
        None => write(&source, filter, args.format, BufWriter::new(io::stdout())).await?.flush()?,
        Some(path) => {
            let part = part_of(path);
            let named = || format!("cannot write `{}`", part.display());
            let file = BufWriter::new(File::create(&part).with_context(named)?);
            write(&source, filter, args.format, file).await?.into_inner()?.sync_all()?;
            fs::rename(&part, path).with_context(|| format!("cannot write `{}`", path.display()))?;
            output::complain(&format!("wrote {}", path.display()));
        }
    }
    Ok(Exit::Done)
}

async fn write<W: Write>(
    source: &Source<'_>,
    filter: Filter,
    format: Format,
    mut out: W,
) -> anyhow::Result<W> {
    let projected = match format {
        Format::Ndjson => {
            source.write(filter, &mut out).await?;
            return Ok(out);
        }
        Format::Ocsf => Projected::Ocsf,
        Format::Csv => Projected::Csv,
    };
    let mut projector = Projector::new(projected, out);
    source.write(filter, &mut projector).await?;
    projector.finish()
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Where receipts are read.
enum Source<'a> {
    Server(Box<Client>),
    /// The store of this configuration.
    Store(&'a Path),
}

impl Source<'_> {
    async fn write(&self, filter: Filter, out: &mut impl Write) -> anyhow::Result<()> {
        match self {
            Self::Server(client) => client.download(&["v1", "export"], &filter, out).await?,
            Self::Store(config) => {
                let store = site::open_store(config)?;
                let lines = stream(store.clone(), filter).await.map_err(anyhow::Error::msg)?;
                let mut lines = pin!(lines);
                while let Some(piece) = lines.next().await {
                    out.write_all(&piece?)?;
                }
                store.close().await?;
            }
        }
        Ok(())
    }
}
