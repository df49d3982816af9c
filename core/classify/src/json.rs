//! Writes JSON as lines of `name: value`, so that a value is read with its name before it.

use serde_json::Value;

use crate::scan::{SCAN_BYTES_MAX, head_and_tail};

/// How much of one string is read, in bytes: many fields shall have room.
const STRING_BYTES_MAX: usize = 64 << 10;
/// How many values are read.
const VALUES_MAX: usize = 20_000;
/// Longest name that is written as its words, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Stands before and behind a value, where quotes could also be part of it.
pub(crate) const VALUE_MARK: char = '\u{1}';

/// The names, strings and numbers of a value at any depth, in order; and whether something was left out.
pub(crate) fn flatten(value: &Value) -> (String, bool) {
    let mut text = String::new();
    let mut is_cut = false;
    let mut values = 0;
    let mut stack = vec![("", value)];
    while let Some((name, value)) = stack.pop() {
        values += 1;
        if values > VALUES_MAX || text.len() > SCAN_BYTES_MAX - STRING_BYTES_MAX {
            return (text, true);
        }
        match value {
            Value::Object(map) => stack.extend(map.iter().rev().map(|(name, value)| (name.as_str(), value))),
            Value::Array(list) => stack.extend(list.iter().rev().map(|value| (name, value))),
            Value::String(value) => is_cut |= write(&mut text, name, value),
            Value::Number(number) => is_cut |= write(&mut text, name, &number.to_string()),
            Value::Null | Value::Bool(_) => is_cut |= write(&mut text, name, ""),
        }
    }
    (text, is_cut)
}

fn write(text: &mut String, name: &str, value: &str) -> bool {
    // An empty line between, so that no name is above another's value.
    text.push_str("\n\n");
    let (name, _, is_name_cut) = head_and_tail(name, STRING_BYTES_MAX / 2);
    push_words(text, name);
    let (head, tail, is_cut) = head_and_tail(value, STRING_BYTES_MAX);
    text.push_str(": ");
    text.push(VALUE_MARK);
    text.push_str(head);
    if is_cut {
        text.push_str("\n\n");
        text.push_str(tail);
    }
    text.push(VALUE_MARK);
    is_cut || is_name_cut
}

/// A name as its words: `dateOfBirth` and `date-of-birth` are `date of birth`. What is no name stays as it is.
fn push_words(text: &mut String, name: &str) {
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if !is_name {
        text.push_str(name);
        return;
    }
    let mut last = ' ';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && last.is_ascii_lowercase() {
            text.push(' ');
        }
        text.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
        last = letter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_become_words_before_their_values() {
        let (text, is_cut) =
            flatten(&json!({"dateOfBirth": ["1970", 7], "a": {"API_KEY": null}, "bob@acme.io": true}));
        let lines: Vec<_> = text.split("\n\n").skip(1).collect();
        assert_eq!(
            [
                "date of birth: \u{1}1970\u{1}",
                "date of birth: \u{1}7\u{1}",
                "api key: \u{1}\u{1}",
                "bob@acme.io: \u{1}\u{1}"
            ],
            *lines
        );
        assert!(!is_cut);
    }

    #[test]
    fn what_is_left_out_of_large_json_is_said() {
        let long = "x".repeat(STRING_BYTES_MAX + 1);
        for value in [
            json!([long]),
            json!({long: 1}),
            json!(vec!["y".repeat(STRING_BYTES_MAX); 9]),
            json!(vec![1; VALUES_MAX]),
        ] {
            let (text, is_cut) = flatten(&value);
            assert!(is_cut && text.len() <= SCAN_BYTES_MAX + 2 * STRING_BYTES_MAX);
        }
    }
}
