//! `countersign verify`

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::thread;

use anyhow::Context as _;
use countersign_receipt::{Outcome, Progress, Report, Trust, VerifyOptions, verify};

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign verify log.ndjson --trust trust.json
  countersign verify log.ndjson --trust trust.json --checkpoint kept-in-march.txt
  countersign export | countersign verify - --trust trust.json

The trust file comes from the operator by another way than the export: a key that comes with an export proves nothing.
A checkpoint that you kept from earlier is what shows a log that was cut or replaced by its own operator.

Exit codes: 0 verified, 1 refuted, 2 incomplete, 3 the check could not be made.";
/// A trust file is a few keys, a checkpoint a few lines.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;
const READ_BUFFER: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The export; `-` for standard input.
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
    /// Whose signatures are believed.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// A checkpoint (signed note) of the log that was kept from earlier. May be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// How many threads check receipts. Default: as many as there are processors.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Checks an export.
///
/// # Errors
///
/// When a file cannot be read or the trust file cannot be used. What is wrong with the export is no error but the
/// result.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let trust = String::from_utf8(site::read_file(&args.trust, SMALL_FILE_BYTES_MAX)?);
    let trust = trust.map_err(anyhow::Error::from).and_then(|text| Ok(Trust::from_json(&text)?));
    let trust = trust.with_context(|| format!("cannot use `{}`", args.trust.display()))?;
    let read = |path: &PathBuf| Ok(String::from_utf8(site::read_file(path, SMALL_FILE_BYTES_MAX)?)?);
    let kept: Vec<String> = args.checkpoint.iter().map(read).collect::<anyhow::Result<_>>()?;
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let bar = output::progress("receipts");
    let show = |progress: Progress| {
        bar.set_length(progress.expected);
        bar.set_position(progress.receipts);
    };
    let options = VerifyOptions {
        kept_checkpoints: &kept,
        progress: &show,
        threads: args.threads.unwrap_or_else(processors),
    };
    let report = verify(open(args)?, &trust, &options);
    bar.finish_and_clear();
    if globals.json {
        output::json(&report)?;
    } else {
        output::text(&describe(&report))?;
    }
    Ok(match report.verdict {
        Outcome::Verified => Exit::Done,
        Outcome::Refuted => Exit::No,
        Outcome::Incomplete => Exit::Incomplete,
    })
}

fn open(args: &Args) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if args.export.as_os_str() == "-" {
        return Ok(Box::new(BufReader::with_capacity(READ_BUFFER, io::stdin())));
    }
    let name = args.export.display();
    if fs::metadata(&args.export).with_context(|| format!("cannot read `{name}`"))?.is_dir() {
        anyhow::bail!("`{name}` is a folder");
    }
    let file = File::open(&args.export).with_context(|| format!("cannot read `{name}`"))?;
    Ok(Box::new(BufReader::with_capacity(READ_BUFFER, file)))
}

/// The report for people, ended by a line feed.
fn describe(report: &Report) -> String {
    let mut lines = vec![
        match report.verdict {
            Outcome::Verified => "VERIFIED: everything that can be checked was checked and holds".to_owned(),
            Outcome::Refuted => format!("REFUTED: {} findings", report.findings_total),
            Outcome::Incomplete => {
                "INCOMPLETE: nothing was refuted, but not everything could be checked".to_owned()
            }
        },
        String::new(),
    ];
    if let (Some(origin), Some(size), Some(root)) = (&report.origin, report.size, &report.root) {
        let part = if report.complete == Some(true) { "complete" } else { "a selection" };
        lines.push(format!("log         {origin}, {size} leaves, root {root}"));
        let (from, to) = (report.from.unwrap_or(0), report.to.unwrap_or(0));
        lines.push(format!("export      {part}, leaves {from} to {to}"));
    }
    let counts = &report.counts;
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    lines.push(format!(
        "receipts    {} in {} sessions: {}",
        counts.receipts,
        counts.sessions,
        list(&counts.kinds)
    ));
    lines.push(format!("decisions   {}", list(&counts.verdicts)));
    lines.push(format!("disclosed   {} personal parts, all bound to their receipts", counts.disclosures));
    lines.push(format!("checkpoints {} kept ones compared", counts.kept_checkpoints));
    for finding in &report.findings {
        let index = finding.index.map(|index| format!("leaf {index}: "));
        let line = finding.line.map(|line| format!("line {line}: "));
        let place = [line, index].into_iter().flatten().collect::<String>();
        let code = serde_json::to_value(finding.code).unwrap_or_default();
        let code = code.as_str().unwrap_or_default();
        lines.push(format!("finding     {place}{code}: {}", finding.message));
    }
    more(&mut lines, report.findings.len(), report.findings_total, "findings");
    for open in &report.still_open {
        lines.push(format!("still open  {} (leaf {}, {})", open.approval_id, open.index, open.receipt_id));
    }
    more(&mut lines, report.still_open.len(), report.still_open_total, "open tickets");
    lines.extend(report.not_checked.iter().map(|what| format!("not checked {what}")));
    lines.push(String::new());
    lines.join("\n")
}

fn more(lines: &mut Vec<String>, listed: usize, total: u64, what: &str) {
    let rest = total.saturating_sub(listed as u64);
    if rest > 0 {
        lines.push(format!("            and {rest} more {what}"));
    }
}
