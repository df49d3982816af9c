//! `countersign config`

use clap::Subcommand;
use countersign_receipt::{LogKey, ReceiptKey};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::{ConnectorSpec, SecretRef};
use countersign_service::config::{Config, Problem};
use countersign_service::{connect, notify, policies};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::args::Globals;
use crate::exit::Exit;
use crate::output;
use crate::site::{self, Wrong};

const EXAMPLES: &str = "\
Examples:
  countersign config check
  countersign config schema > countersign.schema.json

`check` does all that `serve` does before it listens, except opening the store, and says everything that is wrong
at once: the path of each key, what is wrong, and what would be right. Exit code 3 when anything is.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say everything that is wrong with the configuration.
    Check,
    /// Print the JSON Schema of the configuration, with each connector's settings.
    Schema,
}

/// Checks the configuration, or prints its schema.
///
/// # Errors
///
/// When the configuration cannot be read.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::Check => check(globals),
        What::Schema => {
            output::json(&schema())?;
            Ok(Exit::Done)
        }
    }
}

fn check(globals: &Globals) -> anyhow::Result<Exit> {
    let problems = match site::load(&globals.config) {
        Ok(config) => deep_problems(&config)?,
        Err(error) => error.downcast::<Wrong>()?.problems,
    };
    if globals.json {
        let list: Vec<_> = problems.iter().map(|p| json!({"at": p.at, "problem": p.problem})).collect();
        output::json(&json!({"ok": problems.is_empty(), "problems": list}))?;
    } else if problems.is_empty() {
        output::line(format_args!("{}: ok", globals.config.display()))?;
    } else {
        for problem in &problems {
            output::line(problem)?;
        }
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Misuse })
}

/// What is wrong with what the configuration refers to: connectors, keys, tokens and policies.
fn deep_problems(config: &Config) -> anyhow::Result<Vec<Problem>> {
    let egress = Egress::new(config.egress.allow_hosts.iter().cloned())?;
    let registry = site::registry();
    let routes = connect::connect(config, &registry, &egress, &KeySets::default(), &site::environment);
    let channels = notify::connect(config, &registry, &egress, &KeySets::default(), &site::environment);
    let mut problems = routes.err().unwrap_or_default();
    problems.extend(channels.err().unwrap_or_default());
    let read = |secret: &SecretRef| secret.read(&site::environment).map_err(|error| error.to_string());
    let receipt = read(&config.keys.receipt).and_then(|pem| {
        let key = ReceiptKey::from_pkcs8_pem(pem.expose(), config.keys.epoch);
        key.map(drop).map_err(|error| error.to_string())
    });
    let log = read(&config.keys.log).and_then(|pem| {
        let key = LogKey::from_pkcs8_pem(&config.keys.origin, pem.expose());
        key.map(drop).map_err(|error| error.to_string())
    });
    let policies = policies::load(&config.policies).map(drop).map_err(|error| error.to_string());
    let single = [
        ("keys.receipt".to_owned(), receipt),
        ("keys.log".to_owned(), log),
        ("policies".to_owned(), policies),
    ];
    let tokens = config.api.callers.iter();
    let tokens =
        tokens.map(|(name, caller)| (format!("api.callers.{name}.token"), read(&caller.token).map(drop)));
    for (at, result) in single.into_iter().chain(tokens) {
        problems.extend(result.err().map(|problem| Problem { at, problem }));
    }
    Ok(problems)
}

/// The schema of the whole file: the service's part, and each connector's settings where they belong.
pub(crate) fn schema() -> Value {
    let root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    let mut root = root.to_value();
    let (mut sections, mut by_name, mut by_type) = (Map::new(), Map::new(), Vec::new());
    for spec in countersign_connectors::registry().iter() {
        let reference = json!({"$ref": format!("#/$defs/{}", key(spec))});
        by_type.push(json!({"allOf": [reference, {"required": ["type"]}]}));
        by_name.insert(spec.name.to_owned(), reference);
        sections.insert(key(spec), section(spec));
    }
    // An instance is of the connector that its `type` names, and of the one that it is named after without a type.
    let named = |(name, reference): (String, Value)| {
        let own = json!({"anyOf": [reference, {"$ref": "#/$defs/connector"}]});
        (name, own)
    };
    let by_name: Map<String, Value> = by_name.into_iter().map(named).collect();
    sections.insert("connector".to_owned(), json!({"oneOf": by_type}));
    let connectors = json!({
        "description": "The vendors, by instance name. The name is the last part of the hook's URL.",
        "type": "object",
        "propertyNames": {"pattern": "^[a-z0-9-]+$"},
        "properties": by_name,
        "additionalProperties": {"$ref": "#/$defs/connector"},
    });
    root["properties"]["connectors"] = connectors;
    if let Some(Value::Object(defs)) = root.get_mut("$defs") {
        defs.extend(sections);
    }
    root
}

fn key(spec: &ConnectorSpec) -> String {
    format!("connector-{}", spec.name)
}

/// A connector's section: its settings, and the service's own key `type`.
fn section(spec: &ConnectorSpec) -> Value {
    let mut section = (spec.schema)().to_value();
    // With an id of its own, `#/$defs/…` inside it means its own definitions.
    section["$id"] = json!(format!("https://countersign.dev/schemas/{}.json", key(spec)));
    section["properties"]["type"] =
        json!({"const": spec.name, "description": "The connector, when the instance has another name"});
    section
}
