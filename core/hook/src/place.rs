//! Where hooks are registered on this device, whether they are, and what switches them off.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_sdk::Dialect;
use countersign_sdk::dialect::{Form, Place, Scope, Switch};
use serde_json::{Map, Value};

use crate::install::InstallError;

/// The folders that places are relative to.
#[derive(Clone, Debug)]
pub struct Ground {
    /// What `~/` stands for.
    pub home: PathBuf,
    /// What `./` stands for.
    pub project: PathBuf,
    /// What `/` stands for.
    pub root: PathBuf,
}

impl Ground {
    /// A place's path on this device.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), path.strip_prefix("./")) {
            (Some(rest), _) => self.home.join(rest),
            (_, Some(rest)) => self.project.join(rest),
            _ => self.root.join(path.trim_start_matches('/')),
        }
    }
}

/// How one place stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub path: PathBuf,
    /// Who is in charge of it.
    pub scope: Scope,
    /// Events that are not registered there. All of them: nothing is installed.
    pub missing: Vec<&'static str>,
    /// A program that a registered command names and that is not there. Most clients then run the tool.
    pub lost: Option<PathBuf>,
    /// Why the place cannot be read.
    pub unreadable: Option<String>,
}

impl Standing {
    /// Whether every event is registered here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.lost.is_none() && self.unreadable.is_none()
    }
}

/// A file that switches the hooks off, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedOff {
    /// Where it is.
    pub path: PathBuf,
    /// The setting in it.
    pub pointer: &'static str,
    /// The value that switches them off.
    pub off: bool,
    /// Whether it stands there now.
    pub now: bool,
    /// Whether the administrator's hooks stay on even so.
    pub spares_system: bool,
}

/// How a client's places stand, and what switches its hooks off.
#[must_use]
pub fn standing(name: &str, dialect: &Dialect, ground: &Ground) -> (Vec<Standing>, Vec<SwitchedOff>) {
    let places = dialect.install.places.iter().map(|place| place_of(name, dialect, place, ground));
    let switches = dialect.install.switches.iter().map(|switch| switch_of(switch, ground));
    (places.collect(), switches.collect())
}

fn place_of(name: &str, dialect: &Dialect, place: &Place, ground: &Ground) -> Standing {
    let path = ground.path(place.path);
    let found = match place.form {
        Form::Scripts => Ok(scripts(name, dialect, &path)),
        Form::Lists { .. } => read(&path).map(|file| commands(name, dialect, &file.unwrap_or_default())),
    };
    let (found, unreadable) = match found {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let events = dialect.install.events.iter().copied();
    Standing {
        missing: events.filter(|event| !found.iter().any(|(name, _)| name == event)).collect(),
        lost: found.iter().filter_map(|(_, command)| program(command)).find(|program| !program.exists()),
        path,
        scope: place.scope,
        unreadable,
    }
}

fn scripts(name: &str, dialect: &Dialect, folder: &Path) -> Vec<(&'static str, String)> {
    let of = |event: &&'static str| {
        let text = fs::read_to_string(folder.join(event)).ok()?;
        let command = text.lines().find_map(|line| line.strip_prefix("exec "))?;
        is_command(command, name).then(|| (*event, command.to_owned()))
    };
    dialect.install.events.iter().filter_map(of).collect()
}

fn commands(name: &str, dialect: &Dialect, file: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let hooks = file.get("hooks");
    let of = |event: &&'static str| {
        let list = hooks?.get(event)?.as_array()?;
        list.iter().find_map(|entry| command_in(entry, name)).map(|command| (*event, command.to_owned()))
    };
    dialect.install.events.iter().filter_map(of).collect()
}

/// The command of ours in an entry, wherever the client's form has it.
pub(crate) fn command_in<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    match entry {
        Value::String(text) => Some(text.as_str()).filter(|text| is_command(text, name)),
        Value::Array(list) => list.iter().find_map(|inner| command_in(inner, name)),
        Value::Object(map) => map.values().find_map(|inner| command_in(inner, name)),
        _ => None,
    }
}

/// Whether a command line is `…countersign… hook NAME …`.
pub(crate) fn is_command(line: &str, name: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    line.contains("countersign") && words.windows(2).any(|pair| pair == ["hook", name])
}

/// The program that a command line of ours starts.
fn program(command: &str) -> Option<PathBuf> {
    let path = match command.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next()?,
        None => command.split_whitespace().next()?,
    };
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

fn switch_of(switch: &Switch, ground: &Ground) -> SwitchedOff {
    let path = ground.path(switch.path);
    let file = read(&path).ok().flatten().map(Value::Object);
    let set = file.as_ref().and_then(|file| file.pointer(switch.pointer)).and_then(Value::as_bool);
    SwitchedOff {
        now: set == Some(switch.off),
        off: switch.off,
        path,
        pointer: switch.pointer,
        spares_system: switch.spares_system,
    }
}

/// A JSON or TOML file, by its extension; `None` when it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<Map<String, Value>>, InstallError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(InstallError::File { path: path.to_owned(), problem }),
    };
    let parsed = if path.extension().is_some_and(|extension| extension == "toml") {
        toml::from_str(&text).ok()
    } else if text.trim().is_empty() {
        Some(Map::new())
    } else {
        serde_json::from_str(&text).ok()
    };
    parsed.map(Some).ok_or_else(|| InstallError::Unreadable(path.to_owned()))
}
