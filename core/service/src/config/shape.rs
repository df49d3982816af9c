//! Compares a value with the JSON Schema of what it should be, as far as schemas that are derived from our settings go,
//! and says every difference at once, where serde stops at the first. Never repeats a value: it may be a secret that
//! stands in the wrong place.

use countersign_sdk::parse::cut;
use serde_json::{Map, Value};

use super::Problem;

/// Who has more mistakes than this in a file has given the wrong file.
const PROBLEMS_MAX: usize = 100;
/// Longer keys are typed by nobody, so nothing is like them.
const KEY_CHARS_MAX: usize = 64;

/// What is wrong, in the order in which it was found; bounded.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one. The last one that is taken says that there are more.
    pub(super) fn add(&mut self, at: &str, problem: String) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem { at: at.to_owned(), problem });
        } else if self.0.len() == PROBLEMS_MAX {
            let problem = format!("more than {PROBLEMS_MAX} problems, the others are not listed");
            self.0.push(Problem { at: "file".to_owned(), problem });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0
    }
}

/// Adds every place below `at` where `value` is not what `schema` says.
pub(super) fn compare(at: &str, value: &Value, schema: &Value, problems: &mut Problems) {
    Comparison { root: schema, problems }.value(at, value, schema);
}

struct Comparison<'c> {
    /// Where `$ref` begins.
    root: &'c Value,
    problems: &'c mut Problems,
}

impl Comparison<'_> {
    fn value(&mut self, at: &str, value: &Value, schema: &Value) {
        let schema = resolve(schema, self.root);
        if !self.fits(value, schema) {
            self.problems.add(at, format!("must be {}", wanted(schema)));
            return;
        }
        match value {
            Value::Object(table) => self.table(at, table, schema),
            Value::Array(list) => {
                let Some(items) = schema.get("items") else { return };
                for (index, item) in list.iter().enumerate() {
                    self.value(&format!("{at}[{index}]"), item, items);
                }
            }
            _ => {}
        }
    }

    /// Every key that is missing, and every one that is not known, with the nearest one that is.
    fn table(&mut self, at: &str, table: &Map<String, Value>, schema: &Value) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        for key in required(schema).filter(|key| !table.contains_key(*key)) {
            self.problems.add(&join(at, key), "is missing".to_owned());
        }
        for (key, value) in table {
            let place = join(at, key);
            match (properties.and_then(|known| known.get(key)), others) {
                (Some(schema), _) => self.value(&place, value, schema),
                (None, Some(Value::Bool(false))) => {
                    let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                    self.problems.add(&place, format!("unknown key{}", suggestion(key, known)));
                }
                (None, Some(schema)) => self.value(&place, value, schema),
                (None, None) => {}
            }
        }
    }

    /// Whether the value is of the right kind; what is in a table or list is looked at one by one.
    fn fits(&self, value: &Value, schema: &Value) -> bool {
        match schema.get("oneOf").and_then(Value::as_array) {
            Some(branches) => branches.iter().any(|branch| {
                let mut problems = Problems::default();
                Comparison { root: self.root, problems: &mut problems }.value("", value, branch);
                problems.is_empty()
            }),
            None => is_of_type(value, schema) && is_in_range(value, schema) && is_a_choice(value, schema),
        }
    }
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let types = schema.get("type").into_iter();
    types
        .flat_map(|types| types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice))
        .filter_map(Value::as_str)
}

fn is_of_type(value: &Value, schema: &Value) -> bool {
    let is = |name: &str| match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        // TOML has no null; what comes as one is a float that JSON does not have.
        "null" => false,
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => true,
    };
    let mut types = types(schema).peekable();
    types.peek().is_none() || types.any(is)
}

fn is_in_range(value: &Value, schema: &Value) -> bool {
    let Some(number) = value.as_f64() else { return true };
    let (least, most) = range(schema);
    least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
}

/// TOML's whole numbers are `i64`, so wider types bound nothing above.
fn range(schema: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let widest =
        (schema.get("format").and_then(Value::as_str) == Some("uint32")).then_some(f64::from(u32::MAX));
    (bound("minimum"), bound("maximum").or(widest))
}

fn is_a_choice(value: &Value, schema: &Value) -> bool {
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|list| list.contains(value));
    listed && schema.get("const").is_none_or(|only| only == value)
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// What a value of this schema is, for people.
fn wanted(schema: &Value) -> String {
    let any = |list: &[Value], each: fn(&Value) -> String| either(&list.iter().map(each).collect::<Vec<_>>());
    let list = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(branches) = list("oneOf") {
        return any(branches, wanted);
    }
    if let Some(choices) = list("enum") {
        return any(choices, choice);
    }
    if let Some(only) = schema.get("const") {
        return choice(only);
    }
    match types(schema).next().unwrap_or_default() {
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => format!("a whole number{}", bounds(schema)),
        "number" => format!("a number{}", bounds(schema)),
        "string" => "a text".to_owned(),
        _ => {
            let keys: Vec<_> = required(schema).map(|key| format!("{key} = …")).collect();
            if keys.is_empty() { "a table".to_owned() } else { format!("`{{ {} }}`", keys.join(", ")) }
        }
    }
}

fn bounds(schema: &Value) -> String {
    match range(schema) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn either(choices: &[String]) -> String {
    match choices {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn choice(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("`{value}`"), |text| format!("`{text}`"))
}

/// Follows `$ref`, also in the one branch of an optional that has it.
pub(super) fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
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

/// The path of a key below `at`, as TOML writes it: a key is quoted unless it is a bare one.
pub(super) fn join(at: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// The known word that is most like this one, or else all of them.
pub(super) fn suggestion<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let word = cut(word, KEY_CHARS_MAX);
    let known: Vec<_> = known.collect();
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), k)).min();
    match near {
        Some((distance, best)) if distance <= 1 + word.len() / 4 => format!("; did you mean `{best}`?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}
