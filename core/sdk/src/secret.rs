//! Secrets: given by reference, held in a type that cannot be printed.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret value. `Debug` is blind and there is no `Serialize`; grep for [`Secret::expose`] to find every use.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret is to be found: `{ env = "NAME" }` or `{ file = "/run/secrets/name" }`. Never the text itself.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is ignored.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            env: Option<String>,
            file: Option<PathBuf>,
        }
        match Written::deserialize(deserializer) {
            Ok(Written { env: Some(name), file: None }) => Ok(Self::Env(name)),
            Ok(Written { env: None, file: Some(path) }) => Ok(Self::File(path)),
            // Serde's own message repeats what stands there, and that may be the secret.
            _ => Err(D::Error::custom(
                "a secret is given by reference, `{ env = \"NAME\" }` or `{ file = \"path\" }`, never as text",
            )),
        }
    }
}

/// A secret cannot be read. Never holds the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("environment variable `{0}` is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read `{path}`: {problem}")]
    File {
        /// The file.
        path: String,
        /// Why.
        problem: String,
    },
    /// There is nothing in it.
    #[error("`{0}` is empty")]
    Empty(String),
}

impl SecretRef {
    /// Reads the secret. `lookup` answers for environment variables, so that tests need no process state.
    ///
    /// # Errors
    ///
    /// [`SecretError`] when it is unset, unreadable or empty.
    pub fn read(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Secret, SecretError> {
        let (name, value) = match self {
            Self::Env(name) => (name.clone(), lookup(name).ok_or_else(|| SecretError::Unset(name.clone()))?),
            Self::File(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| SecretError::File { path: name.clone(), problem: error.to_string() })?;
                let text = text
                    .strip_suffix('\n')
                    .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
                (name, text.to_owned())
            }
        };
        if value.is_empty() { Err(SecretError::Empty(name)) } else { Ok(Secret::new(value)) }
    }
}
