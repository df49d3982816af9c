//! Telling a client to run the command, and to stop it.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_sdk::Dialect;
use countersign_sdk::dialect::{Entry, Form, Place};
use serde_json::{Map, Value, json};

use crate::place::{Ground, command_in, is_command, read};

/// What the file was before we first wrote to it, beside it.
const BACKUP: &str = ".before-countersign";

/// It cannot be installed or taken out.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}: {problem}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        problem: std::io::Error,
    },
    /// Somebody else's script is there.
    #[error("{} is somebody else's script; take it away, or call it from a script of your own", .0.display())]
    Taken(PathBuf),
    /// A file is neither JSON nor TOML as we read it.
    #[error("{} cannot be read as JSON or TOML (comments in JSON are not read); add the hooks by hand", .0.display())]
    Unreadable(PathBuf),
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Installation<'a> {
    /// The client.
    pub dialect: &'a Dialect,
    /// Its name.
    pub name: &'a str,
    /// The command line before the event's name, for example `/usr/bin/countersign hook codex`.
    pub command: &'a str,
    /// How long the client should wait, in seconds.
    pub timeout_s: u64,
}

/// One file that is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path.
    pub path: PathBuf,
    /// What is to stand in it; `None` takes it away.
    pub content: Option<String>,
    /// Whether it is a program.
    pub is_program: bool,
}

impl Installation<'_> {
    /// What has to change at `place` for the client to run the command. Others' hooks stay.
    ///
    /// # Errors
    ///
    /// [`InstallError`] when a file there cannot be read, or a script is somebody else's.
    pub fn changes(&self, place: &Place, ground: &Ground) -> Result<Vec<Change>, InstallError> {
        let path = ground.path(place.path);
        let Form::Lists { entry, frame } = place.form else { return self.scripts(&path) };
        let mut file = read(&path)?.unwrap_or_default();
        take_out(&mut file, self.name);
        frame(&mut file);
        let hooks = file.entry("hooks").or_insert_with(|| json!({}));
        for event in self.dialect.install.events {
            let command = self.command_for(event);
            let entry = entry(&Entry { command: &command, event, timeout_s: self.timeout_s });
            let list = hooks.as_object_mut().map(|hooks| hooks.entry(*event).or_insert_with(|| json!([])));
            let list = list.and_then(Value::as_array_mut);
            list.ok_or_else(|| InstallError::Unreadable(path.clone()))?.push(entry);
        }
        Ok(vec![Change { content: Some(text(&path, file)?), path, is_program: false }])
    }

    fn scripts(&self, folder: &Path) -> Result<Vec<Change>, InstallError> {
        let script = |event: &&str| {
            let path = folder.join(event);
            if is_foreign(&path, self.name) {
                return Err(InstallError::Taken(path));
            }
            let content = format!("#!/bin/sh\nexec {}\n", self.command_for(event));
            Ok(Change { path, content: Some(content), is_program: true })
        };
        self.dialect.install.events.iter().map(script).collect()
    }

    fn command_for(&self, event: &str) -> String {
        if self.dialect.install.names_event {
            format!("{} {event}", self.command)
        } else {
            self.command.to_owned()
        }
    }
}

/// What has to change at `place` for the client to stop running the command.
///
/// # Errors
///
/// [`InstallError`] when a file there cannot be read.
pub fn removal(
    name: &str,
    dialect: &Dialect,
    place: &Place,
    ground: &Ground,
) -> Result<Vec<Change>, InstallError> {
    let path = ground.path(place.path);
    if matches!(place.form, Form::Scripts) {
        let ours = |event: &&str| {
            let path = path.join(event);
            let is_ours = path.exists() && !is_foreign(&path, name);
            is_ours.then_some(Change { path, content: None, is_program: true })
        };
        return Ok(dialect.install.events.iter().filter_map(ours).collect());
    }
    let Some(mut file) = read(&path)? else { return Ok(Vec::new()) };
    let before = file.clone();
    take_out(&mut file, name);
    if file == before {
        return Ok(Vec::new());
    }
    let is_empty = file.keys().all(|key| key == "version");
    let content = if is_empty { None } else { Some(text(&path, file)?) };
    Ok(vec![Change { path, content, is_program: false }])
}

/// Takes our entries out, and lists that they leave empty.
fn take_out(file: &mut Map<String, Value>, name: &str) {
    let Some(hooks) = file.get_mut("hooks").and_then(Value::as_object_mut) else { return };
    for list in hooks.values_mut().filter_map(Value::as_array_mut) {
        list.retain(|entry| command_in(entry, name).is_none());
    }
    hooks.retain(|_, list| list.as_array().is_none_or(|list| !list.is_empty()));
    if hooks.is_empty() {
        file.shift_remove("hooks");
    }
}

fn is_foreign(script: &Path, name: &str) -> bool {
    match fs::read_to_string(script) {
        Ok(text) => !text.lines().any(|line| line.starts_with("exec ") && is_command(line, name)),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn text(path: &Path, file: Map<String, Value>) -> Result<String, InstallError> {
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let unreadable = || InstallError::Unreadable(path.to_owned());
    if is_toml {
        return toml::to_string_pretty(&file).map_err(|_| unreadable());
    }
    Ok(format!("{:#}\n", Value::Object(file)))
}

/// Where a file is kept as it was before we first wrote to it.
#[must_use]
pub fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(BACKUP);
    PathBuf::from(name)
}

/// Makes the changes, each whole or not at all. A file that was there is kept as it was, beside the new one.
///
/// # Errors
///
/// [`InstallError::File`] naming the first file that cannot be written.
pub fn apply(changes: &[Change]) -> Result<(), InstallError> {
    for change in changes {
        write(change).map_err(|problem| InstallError::File { path: change.path.clone(), problem })?;
    }
    Ok(())
}

fn write(change: &Change) -> std::io::Result<()> {
    let Some(content) = &change.content else { return fs::remove_file(&change.path) };
    if let Some(folder) = change.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let backup = backup_of(&change.path);
    if change.path.exists() && !backup.exists() {
        fs::copy(&change.path, backup)?;
    }
    let mut new = change.path.as_os_str().to_owned();
    new.push(".countersign-new");
    fs::write(&new, content)?;
    permit(Path::new(&new), change.is_program)?;
    fs::rename(&new, &change.path)
}

#[cfg(unix)]
fn permit(path: &Path, is_program: bool) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))
}

#[cfg(not(unix))]
fn permit(_path: &Path, _is_program: bool) -> std::io::Result<()> {
    Ok(())
}
