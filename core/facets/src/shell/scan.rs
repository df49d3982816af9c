//! The fallback: words, without a grammar. It finds too much rather than too little.

use super::tables::{base_name, is_notable, is_wrapper};
use super::{Reader, looks_like_path};
use crate::bounded::start;
use crate::url::of_url;

/// Of a longer text only this much is scanned; that something was left out shows as `dynamic`.
const BYTES_MAX: usize = 256 * 1024;

impl Reader {
    /// Adds what the words of `text` may name.
    pub(super) fn scan(&mut self, text: &str) {
        self.shell.complete = false;
        self.shell.dynamic |= text.len() > BYTES_MAX;
        for segment in start(text, BYTES_MAX).split(['|', ';', '&', '\n', '(', ')', '`', '{', '}']) {
            let mut begins = true;
            for raw in segment.split_whitespace() {
                // Quotes, backslashes and carets are how words are disguised.
                let word: String =
                    raw.chars().filter(|c| !matches!(c, '"' | '\'' | '\\' | '^' | '$')).collect();
                let quoted = raw.trim_matches(|c| matches!(c, '"' | '\''));
                if let Some(contact) = of_url(quoted) {
                    self.contact(contact);
                } else if looks_like_path(quoted.trim_start_matches(['<', '>'])) {
                    let written = raw.contains('>');
                    self.path(quoted.trim_start_matches(['<', '>', '1', '2']), written);
                }
                // `/c` is an option on Windows, `/tmp/x` a program elsewhere.
                let option = word.starts_with('-') || (word.starts_with('/') && !word[1..].contains('/'));
                let skipped = word.is_empty()
                    || option
                    || word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
                // A backslash may be a disguise or a folder on Windows.
                for name in [base_name(&word), base_name(quoted)] {
                    let plausible = (begins && !skipped) || is_notable(&name.to_ascii_lowercase());
                    if plausible && name.chars().all(|c| c.is_alphanumeric() || "._-+:[".contains(c)) {
                        self.program(name);
                    }
                }
                begins &= skipped || is_wrapper(base_name(&word));
            }
        }
    }
}
