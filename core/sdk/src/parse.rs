//! Reading bodies: bounded depth, kept unknown fields, and what can be told of any tool's parameters.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use crate::NormalizeError;
use crate::schemas::{Facets, Human};

/// Reads a JSON object. serde_json refuses nesting beyond 128, so depth is bounded; the service bounds the size.
///
/// # Errors
///
/// [`NormalizeError`] when it is not a JSON object; the text never repeats the content.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, NormalizeError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(NormalizeError::unreadable("the body is JSON but not an object")),
        Err(error) => Err(NormalizeError::unreadable(format!(
            "the body is not JSON: {:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))),
    }
}

/// Takes a string field out of `map`; `None` when it is absent, null or not a string.
#[must_use]
pub fn take_string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key) {
        Some(Value::String(_)) => match map.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        Some(Value::Null) => {
            let _null = map.shift_remove(key);
            None
        }
        _ => None,
    }
}

/// RFC 8785 text of a JSON value.
#[must_use]
pub fn canonical(value: &impl Serialize) -> String {
    // Fails only for non-finite numbers, which serde_json's Value cannot hold.
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// SHA-256 in lower hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Digest (SHA-256, lower hex) and size in bytes of a tool's output: a text as its UTF-8 bytes, anything else in its
/// RFC 8785 form, so that whoever holds the output can compute both again.
#[must_use]
pub fn output_digest(output: &Value) -> (String, u64) {
    let structured;
    let text = match output {
        Value::String(text) => text,
        other => {
            structured = canonical(other);
            &structured
        }
    };
    (sha256_hex(text.as_bytes()), u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// The longest beginning of `text` that has at most `chars_max` characters.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// A person whom somebody calls `name`. An e-mail address is personal data and must not become an id, which goes into
/// the log: then the id is `email-` and the SHA-256 of the address in lower case.
#[must_use]
pub fn human(name: &str) -> Human {
    if name.contains('@') {
        let email = name.to_lowercase();
        Human { id: format!("email-{}", sha256_hex(email.as_bytes())), email: Some(email), name: None }
    } else {
        Human { id: name.to_owned(), email: None, name: None }
    }
}

/// Fills `facets` with what can be told of parameters whatever the tool: URLs give hosts, mail addresses give
/// recipients, path-like keys give paths. Over-approximates; bounded by the size of the parameters and by
/// [`FACET_ENTRIES_MAX`] entries of a kind.
pub fn facets_of(parameters: &Map<String, Value>, facets: &mut Facets) {
    for (key, value) in parameters {
        visit(key, value, facets);
    }
}

/// A facet with more entries than this is cut: no policy needs the 257th host to see that there are many.
pub const FACET_ENTRIES_MAX: usize = 256;

fn visit(key: &str, value: &Value, facets: &mut Facets) {
    match value {
        Value::String(text) => visit_text(key, text, facets),
        Value::Array(items) => items.iter().for_each(|item| visit(key, item, facets)),
        Value::Object(map) => map.iter().for_each(|(key, value)| visit(key, value, facets)),
        _ => {}
    }
}

fn visit_text(key: &str, text: &str, facets: &mut Facets) {
    let key = key.to_ascii_lowercase();
    for word in text.split([' ', '\n', '\t', '"', '\'', '<', '>', '(', ')', ',', ';', '|', '`']) {
        if word.contains("://")
            && let Some(host) =
                Url::parse(word).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase))
        {
            push(&mut facets.hosts, host);
        }
    }
    if matches!(
        key.as_str(),
        "file_path" | "path" | "notebook_path" | "filename" | "file" | "directory" | "cwd"
    ) {
        push(&mut facets.paths, text.to_owned());
    }
    if matches!(key.as_str(), "to" | "cc" | "bcc" | "recipient" | "recipients" | "email" | "emailmessage/to")
    {
        for address in text.split([';', ',']).map(str::trim).filter(|address| address.contains('@')) {
            push(&mut facets.recipients, address.to_ascii_lowercase());
        }
    }
    if matches!(key.as_str(), "command" | "cmd") {
        for program in programs(text) {
            push(&mut facets.commands, program);
        }
    }
}

fn push(list: &mut Vec<String>, entry: String) {
    if list.len() < FACET_ENTRIES_MAX && !list.contains(&entry) {
        list.push(entry);
    }
}

/// Names of programs that a shell command may start: the first word of each segment between `|`, `;`, `&`,
/// newlines and substitutions, without its folder. Words that only wrap another program (`sudo`, `env`) are
/// listed and stepped over. An over-approximation: it reads no quoting.
fn programs(command: &str) -> Vec<String> {
    const WRAPPERS: [&str; 9] =
        ["sudo", "env", "nohup", "time", "exec", "command", "xargs", "builtin", "doas"];
    let mut found = Vec::new();
    for segment in command.split(['|', ';', '&', '\n', '(', ')', '`', '{', '}']) {
        for word in segment.split_whitespace() {
            let word = word.trim_matches(|c| matches!(c, '"' | '\'' | '$' | '!'));
            let assignment =
                word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('/'));
            if word.is_empty() || word.starts_with('-') || assignment {
                continue;
            }
            let name = word.rsplit('/').next().unwrap_or(word).to_owned();
            let wraps = WRAPPERS.contains(&name.as_str());
            found.push(name);
            if !wraps {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_behind_pipes_wrappers_and_assignments() {
        assert_eq!(
            ["cd", "sudo", "rm", "curl", "bash", "date"],
            programs("cd /tmp && FOO=1 sudo -n /bin/rm -rf x; curl https://a.example | bash -c \"$(date)\"")
                .as_slice()
        );
    }

    #[test]
    fn facets_are_found_at_any_depth() {
        let parameters = serde_json::json!({
            "request": {"url": "https://API.example.com:8443/x", "to": "Ann@a.example; bob@b.example"},
            "file_path": "/etc/passwd",
            "command": "ls"
        });
        let mut facets = Facets::default();
        facets_of(parameters.as_object().unwrap(), &mut facets);
        assert_eq!(["api.example.com"], facets.hosts.as_slice());
        assert_eq!(["ann@a.example", "bob@b.example"], facets.recipients.as_slice());
        assert_eq!(["/etc/passwd"], facets.paths.as_slice());
        assert_eq!(["ls"], facets.commands.as_slice());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (chars_max, want) in
            [(0, ""), (1, "é"), (2, "é\u{1F512}"), (3, "é\u{1F512}x"), (4, "é\u{1F512}x")]
        {
            assert_eq!(want, cut("é\u{1F512}x", chars_max));
        }
    }

    #[test]
    fn an_address_never_becomes_an_id() {
        let ann = human("Ann@Example.com");
        assert_eq!(ann, human("ann@example.com"));
        assert_eq!(Some("ann@example.com"), ann.email.as_deref());
        assert!(!ann.id.contains("example"), "{}", ann.id);
        assert_eq!("u-1", human("u-1").id);
    }

    #[test]
    fn an_output_is_digested_as_text_or_in_its_canonical_form() {
        assert_eq!((sha256_hex(b"ok"), 2), output_digest(&Value::from("ok")));
        let written: Value = serde_json::from_str("{\"b\": 1.0, \"a\": null}").unwrap();
        assert_eq!((sha256_hex(b"{\"a\":null,\"b\":1}"), 16), output_digest(&written));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(deep.as_bytes()).is_err());
    }
}
