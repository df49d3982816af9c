//! Clients that ask by running a command: how `countersign hook` speaks to each, as data.

use serde_json::{Map, Value};

/// How a client that runs a command for every event is spoken to, and where it is told to run it.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Fields of an event that may name it, in the order in which they are tried.
    pub event_fields: &'static [&'static str],
    /// Events that only report: what comes of them must not stop the work. Any other, also one that nobody knows, asks.
    pub reports: &'static [&'static str],
    /// The fields that the client knows at the top of an answer. Some clients run the tool on any other.
    pub answer_fields: &'static [&'static str],
    /// How an event that asks is refused when the server cannot be asked.
    pub refusal: Refusal,
    /// How the client is told to run the command.
    pub install: Install,
}

/// How an event that asks is refused by the command itself.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// Exit code 2, the reason on standard error, nothing on standard output.
    ExitTwo,
    /// Exit code 0 and this on standard output, for clients that look at nothing else.
    Body(fn(reason: &str) -> Value),
}

/// How the client is told to run the command.
#[derive(Clone, Copy, Debug)]
pub struct Install {
    /// The events to register, as the client names them.
    pub events: &'static [&'static str],
    /// Whether the event's name follows the command, because the payload does not always say it.
    pub names_event: bool,
    /// Files that the client reads, best protected first.
    pub places: &'static [Place],
    /// Files that can switch the hooks off.
    pub switches: &'static [Switch],
}

/// A place where hooks are registered.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Who is in charge of it.
    pub scope: Scope,
    /// Its path: absolute, below `~/` or below the project with `./`.
    pub path: &'static str,
    /// What it looks like.
    pub form: Form,
}

/// Who is in charge of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The administrator: the person at the client cannot change it.
    System,
    /// The person at the client.
    User,
    /// Whoever can write to the project.
    Project,
}

/// What a place looks like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A JSON or TOML file, by its extension, whose `hooks` has a list for each event.
    Lists {
        /// The list's entry that runs the command.
        entry: fn(&Entry<'_>) -> Value,
        /// What else the file needs, for example a version.
        frame: fn(&mut Map<String, Value>),
    },
    /// A folder with an executable named after each event.
    Scripts,
}

/// One registered command.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The command line.
    pub command: &'a str,
    /// The event.
    pub event: &'a str,
    /// How long the client should wait, in seconds.
    pub timeout_s: u64,
}

/// A file that can switch the hooks off.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// Its path, as in [`Place::path`].
    pub path: &'static str,
    /// The JSON Pointer of the setting.
    pub pointer: &'static str,
    /// The truth value there that switches them off.
    pub off: bool,
    /// Whether hooks of [`Scope::System`] stay on even so.
    pub spares_system: bool,
}

impl Switch {
    /// Switches all hooks off.
    #[must_use]
    pub const fn new(path: &'static str, pointer: &'static str, off: bool) -> Self {
        Self { path, pointer, off, spares_system: false }
    }

    /// Switches all hooks off but the administrator's.
    #[must_use]
    pub const fn spared(path: &'static str, pointer: &'static str, off: bool) -> Self {
        Self { path, pointer, off, spares_system: true }
    }
}

/// Sets `key` in a table of the file, and makes the table if there is none.
pub fn set_in(file: &mut Map<String, Value>, table: &str, key: &str, value: Value) {
    let table = file.entry(table).or_insert_with(|| Value::Object(Map::new()));
    if let Some(table) = table.as_object_mut() {
        table.insert(key.to_owned(), value);
    }
}

/// Needs nothing else in the file.
pub fn plain(_file: &mut Map<String, Value>) {}
