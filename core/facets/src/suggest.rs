//! A draft for the catalogue, from tools that were seen and that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_schemas::{Action, Effect};
use serde_json::Value;

use crate::Catalogue;

/// More unknown tools are counted and not listed.
const TOOLS_MAX: usize = 1_000;
/// More parameters of a tool are not listed.
const PARAMETERS_MAX: usize = 32;

/// What was seen of one tool.
#[derive(Default)]
struct Seen {
    count: usize,
    name: String,
    parameters: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Catalogue {
    /// A catalogue file with an entry for every tool that was observed and is unknown, the most used first. Effects
    /// are guessed from the words of the names, and roles from those of the parameters: a person has to read it.
    pub fn suggest<'a>(&self, observed: impl Iterator<Item = &'a Action>) -> String {
        let mut tools: BTreeMap<String, Seen> = BTreeMap::new();
        let mut left_out = 0_usize;
        for action in observed.filter(|action| self.lookup(&action.tool).is_none()) {
            let canonical = action.tool.canonical();
            if !is_name(&canonical) || (tools.len() >= TOOLS_MAX && !tools.contains_key(&canonical)) {
                left_out += 1;
                continue;
            }
            let seen = tools.entry(canonical).or_default();
            seen.count += 1;
            seen.name.clone_from(&action.tool.name);
            for (key, value) in &action.parameters {
                if seen.parameters.len() < PARAMETERS_MAX || seen.parameters.contains_key(key) {
                    seen.parameters.entry(key.clone()).or_default().insert(type_of(value));
                }
            }
        }
        let mut sorted: Vec<(String, Seen)> = tools.into_iter().collect();
        sorted.sort_by(|(one, first), (other, second)| {
            second.count.cmp(&first.count).then_with(|| one.cmp(other))
        });
        let mut draft =
            String::from("# A draft: effects and roles are guesses from names. Read every entry.\n");
        for (name, seen) in &sorted {
            entry(&mut draft, name, seen);
        }
        if left_out > 0 {
            let _written = write!(draft, "\n# {left_out} more calls of tools that are not listed.\n");
        }
        draft
    }
}

fn entry(draft: &mut String, name: &str, seen: &Seen) {
    let times = if seen.count == 1 { "once".to_owned() } else { format!("{} times", seen.count) };
    let key = quoted(name);
    // Writing to a String cannot fail.
    let _written =
        write!(draft, "\n# Seen {times}.\n[tools.{key}]\neffect = \"{}\"\n", effect_of(&seen.name).as_str());
    for (role, keys) in ROLES {
        let found: Vec<String> = seen
            .parameters
            .keys()
            .filter(|key| keys.contains(&key.to_lowercase().as_str()))
            .map(|key| quoted(key))
            .collect();
        if !found.is_empty() {
            let _written = writeln!(draft, "{role} = [{}]", found.join(", "));
        }
    }
    let types: Vec<String> = seen
        .parameters
        .iter()
        .filter_map(|(key, types)| {
            let [kind] = types.iter().copied().collect::<Vec<_>>()[..] else { return None };
            (kind != "null").then(|| format!("{} = \"{kind}\"", quoted(key)))
        })
        .collect();
    if !types.is_empty() {
        let _written = writeln!(draft, "parameters = {{ {} }}", types.join(", "));
    }
}

/// Parameter names that say what they hold.
const ROLES: [(&str, &[&str]); 9] = [
    ("command", &["command", "cmd", "commands", "script"]),
    ("environment", &["environment", "env", "stage"]),
    ("host", &["host", "hostname"]),
    ("path", &["path", "file_path", "file", "filename", "directory", "dir", "folder"]),
    ("query", &["query"]),
    ("recipients", &["to", "cc", "bcc", "recipient", "recipients", "email", "attendees"]),
    ("sql", &["sql", "statement"]),
    ("table", &["table", "table_name"]),
    ("url", &["url", "uri", "link"]),
];

/// The effect that a word of the name stands for; the strictest, when there are several.
fn effect_of(name: &str) -> Effect {
    let mut words = Vec::new();
    for part in name.split(|c: char| !c.is_alphanumeric()) {
        let mut word = String::new();
        for character in part.chars() {
            if character.is_uppercase() && word.ends_with(char::is_lowercase) {
                words.push(std::mem::take(&mut word));
            }
            word.extend(character.to_lowercase());
        }
        words.push(word);
    }
    let effects = words.iter().filter_map(|word| {
        Some(match word.as_str() {
            "get" | "read" | "fetch" | "view" | "show" | "describe" | "search" | "find" | "query"
            | "lookup" | "download" => Effect::Read,
            "list" | "ls" | "enumerate" | "count" => Effect::List,
            "create" | "add" | "new" | "insert" | "write" | "append" | "copy" | "clone" => Effect::Create,
            "update" | "edit" | "set" | "change" | "modify" | "rename" | "move" | "patch" | "put"
            | "merge" | "close" | "archive" => Effect::Update,
            "delete" | "remove" | "drop" | "purge" | "destroy" | "erase" | "clear" | "truncate"
            | "uninstall" => Effect::Delete,
            "send" | "post" | "publish" | "share" | "upload" | "reply" | "forward" | "notify" | "invite"
            | "export" | "tweet" => Effect::Send,
            "run" | "exec" | "execute" | "eval" | "shell" | "bash" | "command" | "script" => Effect::Execute,
            "deploy" | "release" | "rollback" | "promote" | "rollout" => Effect::Deploy,
            "pay" | "charge" | "refund" | "transfer" | "payout" | "withdraw" | "purchase" | "buy" => {
                Effect::Pay
            }
            "grant" | "revoke" | "permission" | "permissions" | "role" | "acl" => Effect::Grant,
            "login" | "signin" | "authenticate" | "token" | "assume" => Effect::Login,
            _ => return None,
        })
    });
    effects.reduce(crate::stricter).unwrap_or_default()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A TOML basic string. JSON's escapes are TOML's too, but for one character that JSON leaves as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// Whether a name can stand in a catalogue as it is: a `*` would make a pattern of it.
fn is_name(canonical: &str) -> bool {
    !canonical.contains('*') && canonical.splitn(3, '/').filter(|part| !part.is_empty()).count() == 3
}
