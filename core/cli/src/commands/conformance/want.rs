//! What a field of a receipt must be.

use std::collections::BTreeMap;
use std::fmt;

use countersign_sdk::parse::sha256_hex;
use serde::Deserialize;
use serde_json::Value;

/// What earlier steps of the row left, by the step's name.
pub(super) type Past = BTreeMap<String, Seen>;

/// What a request left.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What the client was told.
    pub(super) answer: Value,
    /// The hash of the receipt's leaf, lower hex.
    pub(super) leaf_hash: String,
    /// The receipt.
    pub(super) predicate: Value,
}

impl Seen {
    /// The receipt's name.
    pub(super) fn receipt_id(&self) -> Option<&str> {
        self.predicate.get("receiptId")?.as_str()
    }

    /// The policies that decided.
    pub(super) fn policies(&self) -> Vec<&str> {
        let matched = self.predicate.pointer("/policy/matched").and_then(Value::as_array);
        matched.into_iter().flatten().filter_map(|policy| policy.get("id")?.as_str()).collect()
    }

    /// A text of the receipt, "" when it is not there.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.predicate.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Written as a plain value, which the field must equal, or as a table with one key of [`Relation`].
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Want {
    Plain(Plain),
    Related(Relation),
}

/// A value that a field must equal.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Plain {
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

/// How a field must relate to something. A reference is `<step>:<pointer>`. Shares of one are compared as numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Relation {
    /// More than a field of an earlier step's receipt.
    Above(String),
    /// A number, at least.
    AtLeast(f64),
    /// A number, less than.
    Below(f64),
    /// A list with this entry.
    Contains(String),
    /// No list with this entry.
    Lacks(String),
    /// The hash of an earlier step's leaf.
    LeafOf(String),
    /// There, or not.
    Present(bool),
    /// Equal to a field of an earlier step's receipt.
    SameAs(String),
    /// The digest of a text.
    Sha256Of(String),
}

impl Want {
    /// Whether `seen` is what is wanted.
    pub(super) fn holds(&self, seen: Option<&Value>, past: &Past) -> bool {
        match self {
            Self::Plain(plain) => seen == Some(&plain.value()),
            Self::Related(relation) => relation.holds(seen, past),
        }
    }
}

impl Plain {
    fn value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::from(*value),
            Self::Number(value) => Value::from(*value),
            Self::Text(value) => Value::from(value.as_str()),
            Self::List(value) => Value::from(value.as_slice()),
        }
    }
}

impl Relation {
    fn holds(&self, seen: Option<&Value>, past: &Past) -> bool {
        let lists = |entry: &str| {
            seen.and_then(Value::as_array).is_some_and(|list| list.iter().any(|found| found == entry))
        };
        match self {
            Self::Above(reference) => match (number(seen), number(resolve(reference, past))) {
                (Some(seen), Some(earlier)) => seen > earlier,
                _ => false,
            },
            Self::AtLeast(least) => number(seen).is_some_and(|seen| seen >= *least),
            Self::Below(limit) => number(seen).is_some_and(|seen| seen < *limit),
            Self::Contains(entry) => lists(entry),
            Self::Lacks(entry) => !lists(entry),
            Self::LeafOf(step) => {
                past.get(step).is_some_and(|earlier| seen == Some(&earlier.leaf_hash.as_str().into()))
            }
            Self::Present(present) => seen.is_some() == *present,
            Self::SameAs(reference) => seen.is_some() && seen == resolve(reference, past),
            Self::Sha256Of(text) => seen == Some(&sha256_hex(text.as_bytes()).into()),
        }
    }
}

/// The field that a reference means.
fn resolve<'p>(reference: &str, past: &'p Past) -> Option<&'p Value> {
    let (step, pointer) = reference.split_once(':')?;
    past.get(step)?.predicate.pointer(pointer)
}

/// Signed payloads hold no fractions: a share of one is a text.
fn number(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(plain) => write!(f, "{}", plain.value()),
            Self::Related(Relation::Above(reference)) => write!(f, "above {reference}"),
            Self::Related(Relation::AtLeast(least)) => write!(f, "at least {least}"),
            Self::Related(Relation::Below(limit)) => write!(f, "below {limit}"),
            Self::Related(Relation::Contains(entry)) => write!(f, "contains {entry}"),
            Self::Related(Relation::Lacks(entry)) => write!(f, "lacks {entry}"),
            Self::Related(Relation::LeafOf(step)) => write!(f, "leaf hash of {step}"),
            Self::Related(Relation::Present(true)) => f.write_str("present"),
            Self::Related(Relation::Present(false)) => f.write_str("absent"),
            Self::Related(Relation::SameAs(reference)) => write!(f, "same as {reference}"),
            Self::Related(Relation::Sha256Of(text)) => write!(f, "SHA-256 of {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(want: &str, seen: Option<Value>, holds: bool) {
        #[derive(Deserialize)]
        struct Line {
            want: Want,
        }
        let earlier = Seen { leaf_hash: "ab".into(), predicate: json!({"n": "0.5000"}), ..Seen::default() };
        let past = Past::from([("earlier".to_owned(), earlier)]);
        let line: Line = toml::from_str(&format!("want = {want}")).unwrap();
        assert_eq!(holds, line.want.holds(seen.as_ref(), &past), "{want} of {seen:?}");
    }

    #[test]
    fn a_share_of_one_is_compared_as_a_number() {
        check("{ at_least = 0.25 }", Some(json!("0.2500")), true);
        check("{ at_least = 0.25 }", Some(json!("0.2499")), false);
        check("{ below = 0.25 }", Some(json!("1.0000")), false);
        check("{ above = \"earlier:/n\" }", Some(json!("0.5001")), true);
        check("{ above = \"earlier:/n\" }", Some(json!("0.5000")), false);
    }

    #[test]
    fn what_is_not_there_has_no_relation_but_that() {
        let all = [
            "0",
            "{ at_least = 0.0 }",
            "{ below = 1.0 }",
            "{ same_as = \"earlier:/x\" }",
            "{ contains = \"a\" }",
        ];
        for want in all {
            check(want, None, false);
        }
        check("{ present = false }", None, true);
        check("{ lacks = \"a\" }", None, true);
    }

    #[test]
    fn values_lists_leaves_and_digests_are_compared_exactly() {
        check("[\"a\"]", Some(json!(["a"])), true);
        check("[\"a\"]", Some(json!(["a", "b"])), false);
        check("{ contains = \"b\" }", Some(json!(["a", "b"])), true);
        check("{ leaf_of = \"earlier\" }", Some(json!("ab")), true);
        check("{ leaf_of = \"nobody\" }", Some(json!("ab")), false);
        check("{ same_as = \"earlier:/n\" }", Some(json!("0.5000")), true);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        check("{ sha256_of = \"\" }", Some(json!(empty)), true);
    }

    #[test]
    fn a_misspelt_relation_is_refused() {
        assert!(toml::from_str::<BTreeMap<String, Want>>("want = { contain = \"a\" }").is_err());
    }
}
