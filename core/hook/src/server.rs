//! Where the server is, and the token for it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use countersign_sdk::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::speak::Options;

/// The administrator's file. Where it is there, neither environment nor the user's file is looked at: the agent could
/// write those.
const SYSTEM_FILE: &str = "/etc/countersign/hook.toml";
/// A file of settings, a token, or the certificates of an organisation are smaller.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `hook.toml`: where the server is. `countersign hook install` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerFile {
    /// The server's root, for example `https://countersign.example.com`.
    pub url: String,
    /// The file with the bearer token. Relative paths are relative to this file's folder.
    pub token_file: PathBuf,
    /// The configured instance of the connector; by default it has the client's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// PEM file with the certificate authorities to believe instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The device's id; by default its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl ServerFile {
    /// Where the administrator's file is.
    #[must_use]
    pub fn of_system() -> PathBuf {
        PathBuf::from(SYSTEM_FILE)
    }

    /// Where the user's file is.
    #[must_use]
    pub fn of_user(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let set = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        folder.or_else(|| set("APPDATA")).map(|folder| folder.join("countersign").join("hook.toml"))
    }
}

/// It is not known where the server is, or what is known cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The certificates cannot be read.
    #[error("the file of certificate authorities holds no readable certificate")]
    Certificates,
    /// The file is no `hook.toml`.
    #[error("{0} is not a hook.toml that this version knows; run `countersign hook install` again")]
    File(String),
    /// Nothing names a server.
    #[error("no server is named; run `countersign hook install`, or give --url and --token-file")]
    Nowhere,
    /// A file cannot be read.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        problem: String,
    },
    /// The token file holds no token.
    #[error("{0} holds no token")]
    Token(String),
    /// The URL cannot be used.
    #[error("`{0}` is no URL of a server: it has to be https, or http on this machine")]
    Url(String),
}

/// A server, ready to be asked.
pub(crate) struct Server {
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) device: Option<String>,
    pub(crate) hook: String,
    pub(crate) host: String,
    pub(crate) is_plain: bool,
    pub(crate) token: Secret,
}

/// The first of these that names a server: the command line, the administrator's file, the environment, the user's file.
pub(crate) fn find(
    options: &Options,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Server, ServerError> {
    let mut file = named(options, lookup)?;
    file.instance = options.instance.clone().or(file.instance);
    file.ca_file = options.ca_file.clone().or(file.ca_file);
    let url = Url::parse(&file.url).map_err(|_| ServerError::Url(file.url.clone()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let loopback = matches!(host.as_str(), "127.0.0.1" | "localhost" | "[::1]");
    let is_plain = url.scheme() == "http";
    if host.is_empty() || !(url.scheme() == "https" || is_plain && loopback) {
        return Err(ServerError::Url(file.url));
    }
    let instance = file.instance.as_deref().unwrap_or(&options.name);
    let token = read(&file.token_file)?;
    let token = String::from_utf8(token).unwrap_or_default();
    // A token with a line break in it would be two headers.
    let token = token.trim();
    if token.is_empty() || token.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(ServerError::Token(file.token_file.display().to_string()));
    }
    Ok(Server {
        ca_pem: file.ca_file.as_deref().map(read).transpose()?,
        device: file.device,
        hook: format!("{}/hooks/{instance}", file.url.trim_end_matches('/')),
        host,
        is_plain,
        token: Secret::new(token),
    })
}

fn named(options: &Options, lookup: &dyn Fn(&str) -> Option<String>) -> Result<ServerFile, ServerError> {
    let given = |url: Option<String>, token_file: Option<PathBuf>| {
        Some(ServerFile { url: url?, token_file: token_file?, instance: None, ca_file: None, device: None })
    };
    if let Some(given) = given(options.url.clone(), options.token_file.clone()) {
        return Ok(given);
    }
    if let Some(path) = &options.config {
        return load(path);
    }
    let system = ServerFile::of_system();
    // A file that is there and cannot be read is an error: the next place is one that the agent may write to.
    if fs::symlink_metadata(&system).is_ok() {
        return load(&system);
    }
    let token_file = lookup("COUNTERSIGN_HOOK_TOKEN_FILE").map(PathBuf::from);
    if let Some(given) = given(lookup("COUNTERSIGN_HOOK_URL"), token_file) {
        return Ok(given);
    }
    let user = ServerFile::of_user(lookup).filter(|path| fs::symlink_metadata(path).is_ok());
    load(&user.ok_or(ServerError::Nowhere)?)
}

fn load(path: &Path) -> Result<ServerFile, ServerError> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    let mut file: ServerFile =
        toml::from_str(&text).map_err(|_| ServerError::File(path.display().to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    file.token_file = folder.join(&file.token_file);
    file.ca_file = file.ca_file.map(|ca_file| folder.join(ca_file));
    Ok(file)
}

fn read(path: &Path) -> Result<Vec<u8>, ServerError> {
    let problem = |problem: String| ServerError::Read { path: path.display().to_string(), problem };
    let file = fs::File::open(path).map_err(|error| problem(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| problem(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(problem(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
