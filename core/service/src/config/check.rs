//! Reads a configuration and says all that is wrong with it at once.

use std::collections::BTreeMap;
use std::fmt;

use countersign_sdk::Registry;
use countersign_sdk::parse::cut;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Config;
use super::shape::{Problems, compare, join, suggestion};

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

/// The keys of a connector's or channel's section that are the service's, not its own.
const CONNECTOR_TYPE: &str = "type";
const CHANNEL_ROOMS: &str = "rooms";
/// How much of a connector's name is repeated when there is none of that name.
const KIND_CHARS_MAX: usize = 64;

/// Reads `text` (TOML) and checks it against the schema, and each connector's section against its connector's.
///
/// # Errors
///
/// Every [`Problem`] that the two show, each in one line, about a hundred at most. Whether what the configuration refers
/// to is there, such as secrets and policies, is not looked at.
pub fn check(text: &str, registry: &Registry) -> Result<Config, Vec<Problem>> {
    let table: toml::Table = text.parse().map_err(|error| vec![syntax(text, &error)])?;
    let value = serde_json::to_value(table)
        .map_err(|error| vec![Problem { at: "file".into(), problem: error.to_string() }])?;
    let mut problems = Problems::default();
    for (name, section) in value.get("connectors").and_then(Value::as_object).into_iter().flatten() {
        check_section(("connectors", "connector"), name, section, &connectors(registry), &mut problems);
    }
    for (name, section) in value.get("channels").and_then(Value::as_object).into_iter().flatten() {
        check_section(("channels", "channel"), name, section, &channels(registry), &mut problems);
        check_rooms(name, section, &mut problems);
    }
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    compare("", &value, schema.as_value(), &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_list());
    }
    // What the schema does not know and serde does is rare enough to be told one at a time.
    serde_path_to_error::deserialize(value)
        .map_err(|error| vec![Problem { at: error.path().to_string(), problem: error.inner().to_string() }])
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Problem { at: format!("line {line} column {column}"), problem: error.message().to_owned() }
}

/// What there is, and the schema of its settings.
type Kinds = Vec<(&'static str, fn() -> Schema)>;

fn connectors(registry: &Registry) -> Kinds {
    registry.iter().map(|spec| (spec.name, spec.schema)).collect()
}

fn channels(registry: &Registry) -> Kinds {
    registry.channels().map(|spec| (spec.name, spec.schema)).collect()
}

/// `what` is the table and what one entry of it is.
fn check_section(what: (&str, &str), name: &str, section: &Value, kinds: &Kinds, problems: &mut Problems) {
    let (table, noun) = what;
    let at = join(table, name);
    let Value::Object(section) = section else {
        problems.add(&at, "must be a table".to_owned());
        return;
    };
    let usable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || !name.bytes().all(usable) {
        problems.add(&at, "the name is part of a URL: only a-z, 0-9 and `-`".to_owned());
    }
    if section.get(CONNECTOR_TYPE).is_some_and(|kind| !kind.is_string()) {
        problems.add(&join(&at, CONNECTOR_TYPE), "must be a text".to_owned());
        return;
    }
    let kind = section.get(CONNECTOR_TYPE).and_then(Value::as_str).unwrap_or(name);
    let Some((_, schema)) = kinds.iter().find(|(known, _)| *known == kind) else {
        let known = suggestion(kind, kinds.iter().map(|(known, _)| *known));
        let kind = cut(kind, KIND_CHARS_MAX).escape_debug();
        problems.add(&at, format!("there is no {noun} `{kind}`{known}"));
        return;
    };
    let settings = if table == "channels" { channel_settings_of(section) } else { settings_of(section) };
    compare(&at, &Value::Object(settings), schema().as_value(), problems);
}

fn check_rooms(name: &str, section: &Value, problems: &mut Problems) {
    let texts = |rooms: &Value| rooms.as_object().is_some_and(|rooms| rooms.values().all(Value::is_string));
    if section.get(CHANNEL_ROOMS).is_some_and(|rooms| !texts(rooms)) {
        let at = join(&join("channels", name), CHANNEL_ROOMS);
        problems.add(&at, "must be a table of groups (or `*`) and the channel's ids of rooms".to_owned());
    }
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

/// A channel's section without the service's own keys.
pub(crate) fn channel_settings_of(section: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = settings_of(section);
    let _rooms = settings.shift_remove(CHANNEL_ROOMS);
    settings
}

/// A channel's rooms by group.
pub(crate) fn rooms_of(section: &Value) -> BTreeMap<String, String> {
    let rooms = section.get(CHANNEL_ROOMS).and_then(Value::as_object).into_iter().flatten();
    rooms.filter_map(|(group, room)| Some((group.clone(), room.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::shape::resolve;
    use super::*;

    fn schema() -> Value {
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>().to_value()
    }

    /// A value with every key that the schema has.
    fn whole(schema: &Value, root: &Value) -> Value {
        let schema = resolve(schema, root);
        if let Some(choices) = schema["enum"].as_array() {
            return choices[0].clone();
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            return whole(&branches[0], root);
        }
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
            Some("boolean") => json!(true),
            Some("integer") => json!(1),
            Some("number") => json!(0.5),
            Some("string") => json!("text"),
            Some("array") => json!([whole(&schema["items"], root), whole(&schema["items"], root)]),
            Some("object") => {
                let mut table = Map::new();
                for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                    table.insert(key.clone(), whole(schema, root));
                }
                if schema["additionalProperties"].is_object() {
                    table.insert("name".to_owned(), whole(&schema["additionalProperties"], root));
                }
                Value::Object(table)
            }
            other => panic!("no setting has the type {other:?} yet: {schema}"),
        }
    }

    fn problems(value: &Value) -> Vec<String> {
        let checked = check(&toml::to_string(value).unwrap(), &Registry::new(Vec::new()));
        checked.err().unwrap_or_default().into_iter().map(|problem| problem.at).collect()
    }

    /// JSON pointers and TOML paths of everything that has a type of its own; a secret's reference is one thing.
    fn places(pointer: &str, at: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(table) if !table.contains_key("env") && !table.contains_key("file") => {
                for (key, value) in table {
                    places(&format!("{pointer}/{key}"), &join(at, key), value, found);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    places(&format!("{pointer}/{index}"), &format!("{at}[{index}]"), value, found);
                }
            }
            _ => found.push((pointer.to_owned(), at.to_owned())),
        }
    }

    #[test]
    fn a_wrong_value_is_told_by_its_path_whatever_else_is_wrong() {
        let good = whole(&schema(), &schema());
        let mut all = Vec::new();
        places("", "", &good, &mut all);
        assert!(!all.is_empty() && problems(&good).is_empty());
        for (index, (first, first_at)) in all.iter().enumerate() {
            for (second, second_at) in &all[index..] {
                let mut broken = good.clone();
                for pointer in [first, second] {
                    let is_text = good.pointer(pointer).unwrap().is_string();
                    let wrong = if is_text { json!(-1) } else { json!("whatever") };
                    *broken.pointer_mut(pointer).unwrap() = wrong;
                }
                let mut told = problems(&broken);
                told.sort_unstable();
                let mut wrong = vec![first_at.clone(), second_at.clone()];
                wrong.sort_unstable();
                wrong.dedup();
                assert_eq!(wrong, told);
            }
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_told() {
        for (pointer, number) in
            [("/keys/epoch", 1_i64 << 32), ("/keys/epoch", -1), ("/limits/in_flight", -1)]
        {
            let mut broken = whole(&schema(), &schema());
            *broken.pointer_mut(pointer).unwrap() = json!(number);
            assert_eq!(vec![pointer[1..].replace('/', ".")], problems(&broken));
        }
    }

    #[test]
    fn a_file_of_nothing_but_mistakes_is_not_answered_without_end() {
        let text: String = (0..10_000).map(|at| format!("key_{at} = 1\n")).collect();
        let problems = check(&text, &Registry::new(Vec::new())).unwrap_err();
        assert_eq!(101, problems.len());
        assert!(problems[100].problem.contains("not listed"));
    }

    #[test]
    fn a_key_of_many_lines_is_told_in_one() {
        let text = r#"
            "a\nkeys: is missing" = 1
            [connectors."b\u001b[31m"]
            type = "c\nd"
        "#;
        for problem in check(text, &Registry::new(Vec::new())).unwrap_err() {
            assert!(!problem.to_string().chars().any(char::is_control), "{problem:?}");
        }
    }
}
