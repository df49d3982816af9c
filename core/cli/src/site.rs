//! The configuration of this installation, as the commands need it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use countersign_sdk::{Registry, SecretRef};
use countersign_service::StartError;
use countersign_service::config::{Config, Problem, StoreKind, check};
use countersign_store::{OpenError, Store};
use serde_json::Value;

/// The configuration could be read but is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{path} is wrong\n{}", list(.problems))]
pub(crate) struct Wrong {
    pub(crate) path: String,
    pub(crate) problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

/// Reads an environment variable: secrets may be given that way.
#[expect(clippy::disallowed_methods, reason = "this is the lookup that everybody else is given")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads and checks the configuration. Relative paths in it are taken from its folder, so that it means the same
/// wherever the program is started.
///
/// # Errors
///
/// When it cannot be read, or is [`Wrong`].
pub(crate) fn load(path: &Path) -> anyhow::Result<Config> {
    let text = fs::read_to_string(path).with_context(|| {
        format!("cannot read the configuration `{}`; `countersign init` writes one", path.display())
    })?;
    let checked = check(&text, &registry());
    let mut config = checked.map_err(|problems| Wrong { path: path.display().to_string(), problems })?;
    anchor(&mut config, folder(path));
    Ok(config)
}

/// Every connector and every kind of channel.
pub(crate) fn registry() -> Registry {
    countersign_connectors::registry().with_channels(countersign_channels::all())
}

/// Like [`load`], but no configuration is no error.
///
/// # Errors
///
/// When there is one and it is [`Wrong`].
pub(crate) fn load_if_there(path: &Path) -> anyhow::Result<Option<Config>> {
    if path.exists() { load(path).map(Some) } else { Ok(None) }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn anchor(config: &mut Config, base: &Path) {
    let join = |path: &mut PathBuf| *path = base.join(&*path);
    join(&mut config.policies.dir);
    config.context.catalogue.iter_mut().for_each(join);
    join(&mut config.store.dir);
    config.store.checkpoint_file.as_mut().map(join).unwrap_or_default();
    let secrets = config.api.callers.values_mut().map(|caller| &mut caller.token);
    for secret in secrets.chain([&mut config.keys.receipt, &mut config.keys.log]) {
        if let SecretRef::File(path) = secret {
            join(path);
        }
    }
    config.connectors.values_mut().for_each(|section| anchor_secrets(section, base));
}

/// Connector sections are still JSON here: a secret's reference is the object `{"file": "…"}`.
fn anchor_secrets(value: &mut Value, base: &Path) {
    match value {
        Value::Object(map) if map.len() == 1 && map.get("file").is_some_and(Value::is_string) => {
            if let Some(Value::String(path)) = map.get_mut("file") {
                *path = base.join(&*path).display().to_string();
            }
        }
        Value::Object(map) => map.values_mut().for_each(|value| anchor_secrets(value, base)),
        Value::Array(list) => list.iter_mut().for_each(|value| anchor_secrets(value, base)),
        _ => {}
    }
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
///
/// When it cannot be read or is longer.
pub(crate) fn read_file(path: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let length = fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?.len();
    if length > max {
        bail!("`{}` is longer than {max} bytes", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Reads a JSON file.
///
/// # Errors
///
/// When it cannot be read or is not of this shape.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    /// A file that a person made is shorter.
    const JSON_BYTES_MAX: u64 = 64 << 20;
    let bytes = read_file(path, JSON_BYTES_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is not what is expected", path.display()))
}

/// Opens the configured store, for reading without a server.
///
/// # Errors
///
/// When there is none, a server has it open, or it cannot be read.
pub(crate) fn open_store(path: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let config = load(path)?;
    if config.store.kind == StoreKind::Memory {
        bail!("the configured store is in memory: only the running server can read it, leave out --offline");
    }
    // Opening makes a store where there is none, and reading must not.
    if !config.store.dir.is_dir() {
        bail!("there is no store in `{}`", config.store.dir.display());
    }
    countersign_service::open_store(&config, &environment).map_err(|error| match error {
        StartError::Open(OpenError::Locked(_)) => {
            anyhow::anyhow!("a running server has the store open: ask the server, leave out --offline")
        }
        error => error.into(),
    })
}
