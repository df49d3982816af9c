//! `countersign init`

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_receipt::generate_key_pem;
use countersign_sdk::SecretRef;
use reqwest::Url;
use serde_json::json;

use super::keys::trust;
use crate::args::Globals;
use crate::base::BASE;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  countersign init
  countersign init /etc/countersign --public-url https://countersign.example.com

Writes countersign.toml, keys/ (readable by their owner only), policies/ and trust.json. Overwrites nothing: when one
of the files is there already, nothing is written at all.";
const TEMPLATE: &str = include_str!("../../templates/countersign.toml");
const EPOCH: u32 = 1;
const SECRET_BYTES: usize = 32;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder to write to.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How vendors will reach the server. The log is named after its host.
    #[arg(long, value_name = "URL", default_value = "https://countersign.example.com")]
    public_url: String,
}

/// Writes everything that a first start needs.
///
/// # Errors
///
/// When a file is there already or cannot be written.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let public_url = args.public_url.trim_end_matches('/');
    let url = Url::parse(public_url).with_context(|| format!("`{public_url}` is not a URL"))?;
    let host = url.host_str().with_context(|| format!("`{public_url}` names no host"))?;
    let origin = format!("{host}/log");
    let config = TEMPLATE
        .replace("{public_url}", public_url)
        .replace("{origin}", &origin)
        .replace("{groups}", &groups());
    let secrets = [
        ("keys/receipt.pem", generate_key_pem()?),
        ("keys/log.pem", generate_key_pem()?),
        ("keys/operator.token", format!("{}\n", URL_SAFE_NO_PAD.encode(random()?))),
        ("keys/generic.secret", format!("whsec_{}\n", STANDARD.encode(random()?))),
    ];
    let policies = BASE.iter().map(|(path, text)| (format!("policies/{path}"), *text));
    let schema = ("policies/schema.cedarschema".to_owned(), countersign_engine::SCHEMA);
    let config = [("countersign.toml".to_owned(), config.as_str())];
    let texts: Vec<_> = config.into_iter().chain(policies).chain([schema]).collect();

    let names = texts.iter().map(|(name, _)| name.as_str()).chain(secrets.iter().map(|(name, _)| *name));
    let names: Vec<&str> = names.chain(["trust.json"]).collect();
    let taken: Vec<_> = names.iter().copied().filter(|name| args.dir.join(name).exists()).collect();
    if !taken.is_empty() {
        bail!("nothing was written, because there is already {} in {}", taken.join(", "), args.dir.display());
    }
    for (name, secret) in &secrets {
        write_secret(&args.dir.join(name), secret)?;
    }
    for (name, text) in &texts {
        write_new(&args.dir.join(name), text, OpenOptions::new())?;
    }
    let key = |name: &str| SecretRef::File(args.dir.join(name));
    let trust = trust(&key("keys/receipt.pem"), &key("keys/log.pem"), &origin, EPOCH)?;
    let trust = format!("{}\n", serde_json::to_string_pretty(&trust)?);
    write_new(&args.dir.join("trust.json"), &trust, OpenOptions::new())?;
    if globals.json {
        output::json(&json!({"dir": args.dir, "files": names, "origin": origin}))?;
    } else {
        output::text(&next_steps(args, public_url))?;
    }
    Ok(Exit::Done)
}

/// Every group that a base policy names as approver, as TOML: the first operator is in all of them.
fn groups() -> String {
    let named = BASE.iter().flat_map(|(_, text)| text.split("\"group:").skip(1));
    let names: BTreeSet<_> = named.filter_map(|rest| rest.split('"').next()).collect();
    format!("{names:?}").replace('{', "[").replace('}', "]")
}

fn random() -> anyhow::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, where none is yet.
///
/// # Errors
///
/// When the file is there already or cannot be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_new(path, text, options)
}

fn write_new(path: &Path, text: &str, mut options: OpenOptions) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    let mut file: File = options.write(true).create_new(true).open(path).with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
}

fn next_steps(args: &Args, public_url: &str) -> String {
    let dir = args.dir.display();
    let here = args.dir == Path::new(".");
    let program =
        if here { "countersign".to_owned() } else { format!("countersign --config {dir}/countersign.toml") };
    let mut text = format!(
        "Wrote a configuration, keys and {} policy files in `{dir}`.\n\n\
         Next:\n\
         1. {program} config check\n\
         2. {program} policy test\n\
         3. {program} serve\n\
         4. Put a proxy with TLS in front, so that {public_url} reaches the server.\n\
         5. Give trust.json to your auditors, by another way than the exports. Keep keys/ and data.checkpoint apart\n   \
            from data/ and from each other's backups.\n\n\
         For each vendor, switch its section on in countersign.toml and follow its steps:\n",
        BASE.len()
    );
    for spec in countersign_connectors::registry().iter() {
        let vendor = (spec.manifest)().vendor;
        text.push_str(&format!("   {program} connectors setup {:<15} {vendor}\n", spec.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use countersign_service::config::check;

    use super::*;

    #[test]
    fn the_template_is_right_also_with_every_connector_switched_on() {
        let filled = TEMPLATE.replace("{groups}", &groups());
        let off = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        let on: Vec<&str> = filled.lines().map(|line| if off(line) { &line[1..] } else { line }).collect();
        let registry = crate::site::registry();
        for (text, connectors) in [(filled.clone(), 1), (on.join("\n"), registry.iter().count())] {
            let config = check(&text, &registry).unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(connectors, config.connectors.len());
        }
    }
}
