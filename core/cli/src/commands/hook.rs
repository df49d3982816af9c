//! `countersign hook`: what runs on the device, for clients that ask by running a command.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use countersign_hook::{
    Change, Ground, Installation, ServerFile, Spoken, Standing, SwitchedOff, apply, removal, standing,
};
use countersign_sdk::Dialect;
use countersign_sdk::dialect::{Place, Scope};
use serde_json::json;

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
A client runs `countersign hook NAME [EVENT]` for every event. It reads the event from standard input, asks the server,
and prints the answer in the client's words. Whatever goes wrong, it refuses in the way that the client honours: exit
code 2 and a reason on standard error, or for cline a cancellation on standard output. Options after NAME:

  --url URL --token-file FILE   the server's root, and the file with the bearer token
  --config FILE                 a hook.toml instead
  --instance NAME               the connector's instance, if it is not called NAME
  --ca-file FILE                certificate authorities (PEM) instead of the system's
  --timeout SECONDS             how long to wait, 1 to 600; default 30

Without them the first of these is used: /etc/countersign/hook.toml; the variables COUNTERSIGN_HOOK_URL and
COUNTERSIGN_HOOK_TOKEN_FILE; countersign/hook.toml in the user's configuration folder.

Examples:
  countersign hook install codex --url https://countersign.example.com --token-file token --dry-run
  sudo countersign hook install gemini --scope system --url https://countersign.example.com --token-file /etc/countersign/token
  countersign hook status
  countersign hook uninstall codex";
/// How much longer the client waits than the command does.
const CLIENT_PATIENCE_S: u64 = 5;
const SUBCOMMANDS: [&str; 6] = ["install", "status", "uninstall", "help", "-h", "--help"];

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register the command with a client, and note where the server is.
    Install(InstallArgs),
    /// Say whether the hooks are in force, and what could switch them off.
    Status {
        /// The client. Default: all.
        name: Option<String>,
    },
    /// Take the command out of a client's configuration.
    Uninstall {
        /// The client.
        name: String,
        /// Whose configuration. Default: every one that has it.
        #[arg(long)]
        scope: Option<ScopeName>,
        /// Print what would be written.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct InstallArgs {
    /// The client.
    name: String,
    /// Whose configuration. Default: the user's, or the project's where a client has no other.
    #[arg(long)]
    scope: Option<ScopeName>,
    /// The server's root. Default: what hook.toml says already.
    #[arg(long, value_name = "URL", requires = "token_file")]
    url: Option<String>,
    /// The file with the bearer token.
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// The connector's instance, if it is not called like the client.
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Certificate authorities (PEM) instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The device's id. Default: its host name.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// How long the command waits for an answer, in seconds; the client waits five more.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=590))]
    timeout: u64,
    /// Print what would be written.
    #[arg(long)]
    dry_run: bool,
}

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScopeName {
    /// The administrator's.
    System,
    /// The user's.
    User,
    /// The project's.
    Project,
}

impl ScopeName {
    fn is(self, scope: Scope) -> bool {
        matches!(
            (self, scope),
            (Self::System, Scope::System) | (Self::User, Scope::User) | (Self::Project, Scope::Project)
        )
    }
}

/// Answers a client's event, if that is what the command line is about. It comes before everything else: a client
/// waits, and no way of ending this program other than a refusal is safe.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    if args.next()? != "hook" {
        return None;
    }
    let rest: Vec<OsString> = args.collect();
    if rest.first().is_none_or(|first| SUBCOMMANDS.iter().any(|name| first == name)) {
        return None;
    }
    let spoken = countersign_hook::run(rest.into_iter(), &dialect, &site::environment, io::stdin());
    Some(say(&spoken))
}

/// An answer that cannot be printed is a refusal.
fn say(spoken: &Spoken) -> ExitCode {
    let mut out = io::stdout();
    if let Err(error) = out.write_all(spoken.stdout.as_bytes()).and_then(|()| out.flush()) {
        output::complain(&format!("Countersign refuses, because its answer cannot be printed: {error}"));
        return ExitCode::from(2);
    }
    if !spoken.stderr.is_empty() {
        output::complain(&spoken.stderr);
    }
    ExitCode::from(spoken.code)
}

fn dialect(name: &str) -> Option<Dialect> {
    countersign_connectors::registry().get(name).and_then(|spec| (spec.dialect)())
}

fn dialects() -> Vec<(&'static str, Dialect)> {
    let registry = countersign_connectors::registry();
    registry.iter().filter_map(|spec| Some((spec.name, (spec.dialect)()?))).collect()
}

fn known(name: &str) -> anyhow::Result<Dialect> {
    let names = || dialects().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    dialect(name).with_context(|| format!("no client `{name}` runs commands; those that do are {}", names()))
}

/// Installs, takes out, or says how it stands.
///
/// # Errors
///
/// When a client is not known, or its files cannot be read or written.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::Install(args) => install(&args),
        What::Status { name } => status(name.as_deref(), globals),
        What::Uninstall { name, scope, dry_run } => uninstall(&name, scope, dry_run),
    }
}

fn install(args: &InstallArgs) -> anyhow::Result<Exit> {
    let dialect = known(&args.name)?;
    let place = place(&args.name, &dialect, args.scope)?;
    let program = env::current_exe().context("cannot tell where this program is")?;
    let mut command = format!("{} hook {}", quoted(&program), args.name);
    if args.timeout != 30 {
        command.push_str(&format!(" --timeout {}", args.timeout));
    }
    let installation = Installation {
        dialect: &dialect,
        name: &args.name,
        command: &command,
        timeout_s: args.timeout + CLIENT_PATIENCE_S,
    };
    let mut changes = installation.changes(place, &ground()?)?;
    changes.extend(server_file(args, place.scope)?);
    carry_out(&changes, args.dry_run)
}

/// The file that says where the server is; nothing when it is there already and nothing else is asked for.
fn server_file(args: &InstallArgs, scope: Scope) -> anyhow::Result<Option<Change>> {
    let path = match scope {
        Scope::System => Some(ServerFile::of_system()),
        Scope::User | Scope::Project => ServerFile::of_user(&site::environment),
    };
    let path = path.context("cannot tell where the user's configuration folder is: HOME is not set")?;
    let (Some(url), Some(token_file)) = (&args.url, &args.token_file) else {
        if !path.exists() && !ServerFile::of_system().exists() {
            bail!("{} is not there yet: give --url and --token-file", path.display());
        }
        return Ok(None);
    };
    let absolute = |file: &PathBuf| std::path::absolute(file);
    let file = ServerFile {
        url: url.trim_end_matches('/').to_owned(),
        token_file: absolute(token_file)?,
        instance: args.instance.clone(),
        ca_file: args.ca_file.as_ref().map(absolute).transpose()?,
        device: args.device.clone(),
    };
    Ok(Some(Change { path, content: Some(toml::to_string_pretty(&file)?), is_program: false }))
}

fn place<'a>(name: &str, dialect: &'a Dialect, scope: Option<ScopeName>) -> anyhow::Result<&'a Place> {
    let places = dialect.install.places;
    let found = match scope {
        Some(scope) => places.iter().find(|place| scope.is(place.scope)),
        None => places.iter().find(|place| place.scope != Scope::System),
    };
    found.with_context(|| {
        format!("{name} has no such place for hooks; `countersign hook status {name}` shows which")
    })
}

fn quoted(program: &Path) -> String {
    let text = program.display().to_string();
    if text.contains(char::is_whitespace) { format!("'{text}'") } else { text }
}

fn ground() -> anyhow::Result<Ground> {
    let home = site::environment("HOME").or_else(|| site::environment("USERPROFILE"));
    Ok(Ground {
        home: home.context("HOME is not set")?.into(),
        project: env::current_dir()?,
        root: PathBuf::from("/"),
    })
}

fn uninstall(name: &str, scope: Option<ScopeName>, dry_run: bool) -> anyhow::Result<Exit> {
    let (dialect, ground) = (known(name)?, ground()?);
    let mut changes = Vec::new();
    for place in dialect.install.places {
        if scope.is_none_or(|scope| scope.is(place.scope)) {
            changes.extend(removal(name, &dialect, place, &ground)?);
        }
    }
    if changes.is_empty() {
        output::line(format_args!("{name} runs no command of ours"))?;
    }
    carry_out(&changes, dry_run)
}

fn carry_out(changes: &[Change], dry_run: bool) -> anyhow::Result<Exit> {
    if !dry_run {
        apply(changes)?;
    }
    for Change { path, content, .. } in changes {
        match content {
            Some(content) if dry_run => output::text(&format!("{}:\n{content}\n", path.display()))?,
            Some(_) => output::line(format_args!("wrote {}", path.display()))?,
            None if dry_run => output::line(format_args!("{} would be removed", path.display()))?,
            None => output::line(format_args!("removed {}", path.display()))?,
        }
    }
    Ok(Exit::Done)
}

/// `Done` when every client that is asked about has its hooks in force.
fn status(name: Option<&str>, globals: &Globals) -> anyhow::Result<Exit> {
    let asked = match name {
        Some(name) => vec![(name.to_owned(), known(name)?)],
        None => dialects().into_iter().map(|(name, dialect)| (name.to_owned(), dialect)).collect(),
    };
    let ground = ground()?;
    let (mut all, mut report) = (true, Vec::new());
    for (name, dialect) in asked {
        let (places, switches) = standing(&name, &dialect, &ground);
        let in_force = places.iter().any(|place| holds(place, &switches));
        all &= in_force;
        if globals.json {
            report.push(described(&name, in_force, &places, &switches));
        } else {
            describe(&name, in_force, &places, &switches)?;
        }
    }
    if globals.json {
        output::json(&report)?;
    }
    Ok(Exit::when(all))
}

fn holds(place: &Standing, switches: &[SwitchedOff]) -> bool {
    let spared = place.scope == Scope::System;
    place.is_complete() && !switches.iter().any(|switch| switch.now && !(switch.spares_system && spared))
}

fn state(place: &Standing, events: usize) -> String {
    match place {
        Standing { unreadable: Some(why), .. } => why.clone(),
        Standing { lost: Some(program), .. } => format!("registered, but {} is not there", program.display()),
        Standing { missing, .. } if missing.is_empty() => "registered".to_owned(),
        Standing { missing, .. } if missing.len() == events => "not registered".to_owned(),
        Standing { missing, .. } => format!("registered without {}", missing.join(", ")),
    }
}

fn describe(name: &str, in_force: bool, places: &[Standing], switches: &[SwitchedOff]) -> anyhow::Result<()> {
    let events = dialect(name).map_or(0, |dialect| dialect.install.events.len());
    output::line(format_args!("{name}: {}", if in_force { "in force" } else { "NOT in force" }))?;
    for place in places {
        output::line(format_args!("  {}: {}", place.path.display(), state(place, events)))?;
    }
    for SwitchedOff { path, pointer, off, now, spares_system } in switches {
        let key = pointer.trim_start_matches('/').replace('/', ".");
        let which = if *spares_system { "hooks other than the administrator's" } else { "the hooks" };
        let does = if *now { "SWITCHES" } else { "could switch" };
        output::line(format_args!("  {} {does} {which} off by {key} = {off}", path.display()))?;
    }
    Ok(())
}

fn described(name: &str, in_force: bool, places: &[Standing], switches: &[SwitchedOff]) -> serde_json::Value {
    let events = dialect(name).map_or(0, |dialect| dialect.install.events.len());
    let places = places.iter().map(
        |place| json!({"path": place.path, "state": state(place, events), "complete": place.is_complete()}),
    );
    let switches = switches.iter().map(|switch| {
        json!({
            "path": switch.path, "setting": switch.pointer, "off": switch.off, "now": switch.now,
            "sparesSystem": switch.spares_system,
        })
    });
    json!({
        "client": name, "inForce": in_force, "places": places.collect::<Vec<_>>(),
        "switches": switches.collect::<Vec<_>>(),
    })
}
