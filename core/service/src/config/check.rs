//! Reads a configuration and says all that is wrong with it at once.

use std::fmt;

use countersign_sdk::Registry;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Config;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, or `line L column C` for a syntax error.
    pub at: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

/// The keys of a connector's section that are the service's, not the connector's.
const CONNECTOR_TYPE: &str = "type";

/// Reads `text` (TOML) and checks it against the schema, and each connector's section against its connector's.
///
/// # Errors
///
/// Every [`Problem`] that could be found.
pub fn check(text: &str, registry: &Registry) -> Result<Config, Vec<Problem>> {
    let table: toml::Table = text.parse().map_err(|error| vec![syntax(text, &error)])?;
    let mut value = serde_json::to_value(table)
        .map_err(|error| vec![Problem { at: "file".into(), problem: error.to_string() }])?;
    let mut problems = Vec::new();
    if let Some(Value::Object(connectors)) = value.get_mut("connectors") {
        for (name, section) in connectors {
            check_connector(name, section, registry, &mut problems);
        }
    }
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    check_keys("", &value, schema.as_value(), schema.as_value(), &mut problems);
    match read::<Config>(&value) {
        Ok(config) if problems.is_empty() => return Ok(config),
        Ok(_) => {}
        // The schema has told of these already, and of all of them.
        Err((_, problem)) if !problems.is_empty() && is_about_keys(&problem) => {}
        Err((at, problem)) => problems.push(Problem { at, problem }),
    }
    Err(problems)
}

fn is_about_keys(problem: &str) -> bool {
    problem.starts_with("unknown field") || problem.starts_with("missing field")
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Problem { at: format!("line {line} column {column}"), problem: error.message().to_owned() }
}

fn check_connector(name: &str, section: &Value, registry: &Registry, problems: &mut Vec<Problem>) {
    let at = format!("connectors.{name}");
    let Value::Object(section) = section else {
        problems.push(Problem { at, problem: "must be a table".into() });
        return;
    };
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        let problem = "the name is part of a URL: only a-z, 0-9 and `-`".into();
        problems.push(Problem { at: at.clone(), problem });
    }
    let kind = section.get(CONNECTOR_TYPE).and_then(Value::as_str).unwrap_or(name);
    let Some(spec) = registry.get(kind) else {
        let known = registry.iter().map(|spec| spec.name);
        let problem = format!("there is no connector `{kind}`{}", suggestion(kind, known));
        problems.push(Problem { at, problem });
        return;
    };
    let schema = (spec.schema)();
    let settings = Value::Object(settings_of(section));
    check_keys(&at, &settings, schema.as_value(), schema.as_value(), problems);
}

/// The connector that a section configures: its `type`, else its name.
#[must_use]
pub fn connector_kind<'s>(name: &'s str, section: &'s Value) -> &'s str {
    section.get(CONNECTOR_TYPE).and_then(Value::as_str).unwrap_or(name)
}

/// A connector's section without the service's own keys.
pub(crate) fn settings_of(section: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = section.clone();
    let _kind = settings.shift_remove(CONNECTOR_TYPE);
    settings
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// Every key that the schema does not know, with the nearest one that it does, and every one that it misses.
fn check_keys(at: &str, value: &Value, schema: &Value, root: &Value, problems: &mut Vec<Problem>) {
    let Value::Object(map) = value else { return };
    let schema = resolve(schema, root);
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            for (key, value) in map {
                check_keys(&join(at, key), value, inner, root, problems);
            }
        }
        return;
    };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for key in required.filter_map(Value::as_str).filter(|key| !map.contains_key(*key)) {
        problems.push(Problem { at: join(at, key), problem: "is missing".into() });
    }
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (key, value) in map {
        match properties.get(key) {
            Some(inner) => check_keys(&join(at, key), value, inner, root, problems),
            None if closed => problems.push(Problem {
                at: join(at, key),
                problem: format!("unknown key{}", suggestion(key, properties.keys().map(String::as_str))),
            }),
            None => {}
        }
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// Follows `$ref` and the one non-null branch of an optional.
fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        return root.pointer(target).map_or(schema, |target| resolve(target, root));
    }
    for branches in ["anyOf", "allOf"] {
        let mut options = schema.get(branches).and_then(Value::as_array).into_iter().flatten();
        if let Some(option) = options.find(|option| option.get("$ref").is_some()) {
            return resolve(option, root);
        }
    }
    schema
}

fn suggestion<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<_> = known.collect();
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), k)).min();
    match near {
        Some((distance, best)) if distance <= 1 + word.len() / 4 => format!("; did you mean `{best}`?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}
