//! What a detector is: a pattern, what it needs around it, and a check of what the pattern found.

use crate::findings::Kind;

/// How far before a match words that explain it are looked for, in bytes. About one line of text.
const BEFORE_BYTES_MAX: usize = 64;
/// How far behind it.
const AFTER_BYTES_MAX: usize = 32;

/// One thing to look for. Order matters: what an earlier detector took, a later one does not count again.
pub(crate) struct Detector {
    /// Its name; several detectors may share one.
    pub(crate) kind: &'static str,
    /// Its label, one of [`crate::LABELS`].
    pub(crate) label: &'static str,
    /// A few literals without which `pattern` cannot match, as a pattern. Empty: the words of `needs`.
    pub(crate) gate: &'static str,
    /// ASCII only. The group `v`, if there is one, is the value; the rest only says where it stands.
    pub(crate) pattern: &'static str,
    /// Words of which one must be near by. Empty: none.
    pub(crate) needs: &'static [&'static str],
    /// Words of which none may stand before it.
    pub(crate) against: &'static [&'static str],
    /// How many bytes of the value are one, if any.
    pub(crate) accept: fn(&Found<'_>) -> Option<usize>,
}

impl Detector {
    /// A detector that needs no words around it.
    pub(crate) const fn of(
        kind: &'static str,
        label: &'static str,
        gate: &'static str,
        pattern: &'static str,
        accept: fn(&Found<'_>) -> Option<usize>,
    ) -> Self {
        Self { kind, label, gate, pattern, needs: &[], against: &[], accept }
    }

    /// One of these words must be near by. A space in a word also stands for `_`, `-` and nothing.
    pub(crate) const fn near(mut self, words: &'static [&'static str]) -> Self {
        self.needs = words;
        self
    }

    /// None of these words may stand before it.
    pub(crate) const fn unless(mut self, words: &'static [&'static str]) -> Self {
        self.against = words;
        self
    }

    pub(crate) fn name(&self) -> Kind {
        Kind(self.kind.into())
    }
}

/// What a pattern found, and where.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) text: &'a str,
    /// Where the whole match begins.
    pub(crate) start: usize,
    /// Where the value begins and ends.
    pub(crate) value: (usize, usize),
}

impl<'a> Found<'a> {
    pub(crate) fn value(&self) -> &'a str {
        self.text.get(self.value.0..self.value.1).unwrap_or_default()
    }

    /// What stands between the beginning of the match and its value.
    pub(crate) fn key(&self) -> &'a str {
        self.text.get(self.start..self.value.0).unwrap_or_default()
    }

    /// The line before the match, and the line above when this one holds no word: forms put labels above values.
    pub(crate) fn before(&self) -> &'a str {
        let from = self.text.floor_char_boundary(self.start.saturating_sub(BEFORE_BYTES_MAX));
        let near = self.text.get(from..self.start).unwrap_or_default();
        // A word that is cut in two is another word.
        let near = if from == 0 { near } else { near.trim_start_matches(char::is_alphanumeric) };
        let Some((above, line)) = near.rsplit_once('\n') else { return near };
        if line.chars().any(char::is_alphabetic) {
            return line;
        }
        let from = above.trim_end().rfind('\n').map_or(0, |end| end + 1);
        near.get(from..).unwrap_or_default()
    }

    /// The rest of the line behind the value.
    pub(crate) fn after(&self) -> &'a str {
        let rest = self.text.get(self.value.1..).unwrap_or_default();
        let near = rest.get(..rest.floor_char_boundary(AFTER_BYTES_MAX)).unwrap_or_default();
        let near = if near.len() == rest.len() { near } else { near.trim_end_matches(char::is_alphanumeric) };
        near.split('\n').next().unwrap_or_default()
    }

    /// Whether the value is no part of a longer number, name, path or version.
    pub(crate) fn is_alone(&self) -> bool {
        let mut before = self.text.get(..self.value.0).unwrap_or_default().chars().rev();
        let mut after = self.text.get(self.value.1..).unwrap_or_default().chars();
        let joins = |near: Option<char>, next: Option<char>| match near {
            Some('.' | '-' | ',' | ':' | '/') => next.is_some_and(char::is_alphanumeric),
            near => near.is_some_and(|near| near.is_alphanumeric() || near == '_'),
        };
        let led = match (before.next(), before.next()) {
            // A label may stand right before the number: `ssn:123-…`.
            (Some(':' | ','), Some(next)) => next.is_ascii_digit(),
            (Some('/'), _) => true,
            (near, next) => joins(near, next),
        };
        let trailed = match (after.next(), after.next()) {
            (Some(':' | ','), Some(next)) => next.is_ascii_digit(),
            (near, next) => joins(near, next),
        };
        !led && !trailed
    }

    /// The whole value, if it is one.
    pub(crate) fn if_so(&self, so: bool) -> Option<usize> {
        so.then_some(self.value.1 - self.value.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(text: &'a str, value: &str) -> Found<'a> {
        let start = text.find(value).unwrap();
        Found { text, start, value: (start, start + value.len()) }
    }

    #[test]
    fn a_label_above_a_value_is_near_it_but_another_line_of_text_is_not() {
        assert_eq!("Date of birth\n ", found("Name\nDate of birth\n 1970-01-01", "1970").before());
        assert_eq!("due ", found("Date of birth: unknown\ndue 1970-01-01", "1970").before());
        assert_eq!(" (born)", found("1970 (born)\nlater", "1970").after());
    }

    #[test]
    fn a_part_of_a_longer_number_or_name_is_not_alone() {
        for text in ["1.42", "42.1", "v42", "a-42", "42-a", "/42", "42_x", "é42", "1,42", "42:10"] {
            assert!(!found(text, "42").is_alone(), "{text}");
        }
        for text in ["42", "id:42.", "(42)", "=42", "42, x", "a: 42\n", "x - 42", "#42;"] {
            assert!(found(text, "42").is_alone(), "{text}");
        }
    }
}
