//! An action as a short sentence. Raw JSON compares badly with what people write, and holds what nobody should see.

use countersign_schemas::{Action, Effect};
use serde_json::Value;

use crate::lexicon::Lexicon;
use crate::words::{each_word, stem};

/// How many words the sentence may have. What stands first says most.
const WORDS_MAX: usize = 48;
/// How many words one parameter adds: enough for a title, too few for a document to drown the rest.
const VALUE_WORDS_MAX: usize = 10;
/// How much of one parameter is looked at.
const VALUE_BYTES_MAX: usize = 200;
/// How deep parameters may nest, and how many are looked at.
const DEPTH_MAX: usize = 3;
const VALUES_MAX: usize = 256;
/// Longer words are hashes, keys and encodings.
const WORD_BYTES_MAX: usize = 24;
/// A parameter with such a word in its name is left out, name and value.
const SECRET_KEYS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "tokens",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "otp",
    "pin",
    "cvc",
];
/// Names that people would not say.
const SILENT_KEYS: &[&str] = &[
    "file",
    "path",
    "old",
    "new",
    "string",
    "id",
    "args",
    "arguments",
    "input",
    "content",
    "text",
    "name",
    "type",
    "value",
];

/// Says the action in words: its effect, its tool, what it touches, what its parameters are about. In lower case
/// without accents; at most 48 words. Parameters that are secrets by name or by look are left out, but what people
/// write may hold anything: treat the sentence like the parameters themselves.
///
/// ```text
/// update edit: shop src api list rs page size
/// ```
#[must_use]
pub fn verbalize(action: &Action) -> String {
    let mut sentence = Sentence {
        text: String::with_capacity(256),
        words: Vec::with_capacity(WORDS_MAX),
        values_left: VALUES_MAX,
    };
    sentence.add(verb(action.effect), VALUE_WORDS_MAX);
    sentence.add(action.tool.server.as_deref().unwrap_or_default(), VALUE_WORDS_MAX);
    sentence.add(&action.tool.name, VALUE_WORDS_MAX);
    sentence.text.push(':');
    let facets = &action.facets;
    facets.environment.iter().chain(&facets.repository).for_each(|text| sentence.add(text, VALUE_WORDS_MAX));
    let many = facets
        .tables
        .iter()
        .chain(&facets.paths)
        .chain(&facets.recipients)
        .chain(&facets.hosts)
        .chain(&facets.commands);
    many.take(VALUES_MAX).for_each(|text| sentence.add(text, VALUE_WORDS_MAX));
    for (key, value) in &action.parameters {
        sentence.parameter(key, value, 0);
    }
    sentence.text
}

/// The effect as a person would ask for it.
fn verb(effect: Effect) -> &'static str {
    match effect {
        Effect::Execute => "run",
        Effect::Invoke => "use",
        other => other.as_str(),
    }
}

struct Sentence {
    text: String,
    /// Where each word begins and ends in the text.
    words: Vec<(usize, usize)>,
    values_left: usize,
}

impl Sentence {
    fn add(&mut self, text: &str, words_max: usize) {
        let text = &text[..text.floor_char_boundary(VALUE_BYTES_MAX)];
        let mut left = words_max;
        each_word(text, |word| {
            if left > 0 && self.words.len() < WORDS_MAX && !is_opaque(word) && self.say(word) {
                left -= 1;
            }
        });
    }

    /// Appends the word unless it was said; says whether.
    fn say(&mut self, word: &str) -> bool {
        let was_said = |(from, to): &(usize, usize)| &self.text[*from..*to] == word;
        if Lexicon::get().is_stopword(word) || self.words.iter().any(was_said) {
            return false;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let from = self.text.len();
        self.text.push_str(word);
        self.words.push((from, self.text.len()));
        true
    }

    fn parameter(&mut self, key: &str, value: &Value, depth: usize) {
        if depth > DEPTH_MAX || self.values_left == 0 || self.words.len() == WORDS_MAX || is_secret_key(key) {
            return;
        }
        self.values_left -= 1;
        match value {
            Value::String(text) => {
                self.key(key);
                if !is_secret_value(&text[..text.floor_char_boundary(VALUE_BYTES_MAX)]) {
                    self.add(text, VALUE_WORDS_MAX);
                }
            }
            Value::Number(number) => {
                self.key(key);
                self.add(&number.to_string(), 1);
            }
            Value::Array(items) => {
                for item in items {
                    self.parameter(key, item, depth + 1);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.parameter(key, value, depth + 1);
                }
            }
            Value::Bool(true) => self.key(key),
            Value::Bool(false) | Value::Null => {}
        }
    }

    fn key(&mut self, key: &str) {
        let mut is_silent = false;
        each_word(key, |word| is_silent |= SILENT_KEYS.contains(&word));
        if !is_silent {
            self.add(key, 3);
        }
    }
}

fn is_secret_key(key: &str) -> bool {
    let mut found = false;
    each_word(key, |word| found |= SECRET_KEYS.iter().any(|secret| stem(word) == stem(secret)));
    let lower = key.to_ascii_lowercase();
    found
        || (lower.contains("key")
            && ["api", "private", "access", "auth"].iter().any(|kind| lower.contains(kind)))
}

/// One long run without blanks, of letters and digits: a key, a token, an encoding. Addresses of pages and files
/// are long too, but their parts are short, and [`is_opaque`] looks at those.
fn is_secret_value(text: &str) -> bool {
    ["-----BEGIN", "Bearer ", "Basic "].iter().any(|start| text.starts_with(start))
        || (!text.contains(char::is_whitespace)
            && text.split(['/', '.', ':', '@', '?', '&', '=']).any(|part| {
                part.len() >= 20
                    && part.contains(|c: char| c.is_ascii_digit())
                    && part.contains(|c: char| c.is_ascii_alphabetic())
            }))
}

fn is_opaque(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    word.len() > WORD_BYTES_MAX || (word.len() >= 12 && digits > 2)
}
