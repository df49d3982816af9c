//! `countersign schema`

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use countersign_schemas::all;
use countersign_service::http::openapi;
use serde_json::{Value, json};

use super::config;
use crate::args::Globals;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Example:
  countersign schema schemas/json

Writes one JSON Schema (draft 2020-12) for each published type, for the generic hook's request and answer and for the
configuration, and the OpenAPI 3.1 document of the server.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder to write to.
    #[arg(value_name = "DIR", default_value = "schemas/json")]
    dir: PathBuf,
}

/// Writes the schemas.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make `{}`", args.dir.display()))?;
    let mut written = Vec::new();
    for (name, document) in documents() {
        let path = args.dir.join(name);
        let text = format!("{document:#}\n");
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        written.push(path);
    }
    if globals.json {
        output::json(&json!({"files": written}))?;
    } else {
        output::line(format_args!("wrote {} files to {}", written.len(), args.dir.display()))?;
    }
    Ok(Exit::Done)
}

/// Every document, by file name.
fn documents() -> Vec<(String, Value)> {
    let schemas = all().into_iter().chain(countersign_connectors::schemas());
    let named = schemas.map(|(stem, schema)| (format!("{stem}.schema.json"), schema.to_value()));
    let own = [("config.schema.json".to_owned(), config::schema()), ("openapi.json".to_owned(), openapi())];
    named.chain(own).collect()
}
