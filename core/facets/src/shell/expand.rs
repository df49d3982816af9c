//! Expansion of words: what they become as far as the text alone tells.

use super::output::output;
use super::programs::configures;
use super::syntax::{Assignment, Piece, Script, Word};
use super::{Input, Reader};

/// A word with braces becomes at most this many.
const BRACES_MAX: usize = 64;
/// A longer value is not remembered.
const VALUE_BYTES_MAX: usize = 4096;
/// More values of one variable are not told apart.
const VALUES_MAX: usize = 8;

/// A word after expansion.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) text: String,
    /// Nothing in it was left unknown.
    pub(super) sure: bool,
    /// A command's unknown output is part of it.
    pub(super) computed: bool,
    /// It is one of several that the word may become.
    pub(super) either: bool,
}

impl Field {
    pub(super) fn sure(text: impl Into<String>) -> Self {
        Self { text: text.into(), sure: true, ..Self::default() }
    }
}

/// What a variable may hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Value {
    /// Each a list of fields: an array has several, any other value one.
    values: Vec<Vec<String>>,
    /// There are no other values than these.
    sure: bool,
    computed: bool,
}

/// Fields while a word is expanded.
struct Expansion {
    fields: Vec<Field>,
    last: Field,
    started: bool,
    braces: bool,
}

impl Expansion {
    fn new() -> Self {
        Self { fields: Vec::new(), last: Field::sure(""), started: false, braces: false }
    }

    fn text(&mut self, text: &str) {
        self.last.text.push_str(text);
        self.started = true;
    }

    fn unsure(&mut self, computed: bool) {
        self.last.sure = false;
        self.last.computed |= computed;
        self.started = true;
    }

    fn end_field(&mut self) {
        if std::mem::take(&mut self.started) {
            self.fields.push(std::mem::replace(&mut self.last, Field::sure("")));
        }
    }

    /// A value that came out of an expansion: split at blanks unless it is quoted.
    fn value(&mut self, value: &str, quoted: bool) {
        if quoted {
            self.text(value);
            return;
        }
        for (at, part) in value.split([' ', '\t', '\n']).enumerate() {
            if at > 0 {
                self.end_field();
            }
            if !part.is_empty() {
                self.text(part);
            }
        }
    }

    fn finish(mut self) -> Vec<Field> {
        self.end_field();
        if !self.braces {
            return self.fields;
        }
        let expanded = self.fields.into_iter().flat_map(|field| {
            braces(&field.text)
                .into_iter()
                .map(move |text| Field { text, ..field.clone() })
                .collect::<Vec<_>>()
        });
        expanded.collect()
    }
}

impl Reader {
    /// The fields that a word becomes.
    pub(super) fn expand(&mut self, word: &Word) -> Vec<Field> {
        if let [Piece::Variable { name, otherwise: None, .. }] = word.as_slice()
            && let Some(value) = self.values.get(name).filter(|value| value.values.len() > 1)
        {
            let sure = value.sure && self.assigned.get(name).copied().unwrap_or_default() <= 1;
            let either = |fields: &Vec<String>| Field {
                text: fields.join(" "),
                sure,
                computed: value.computed,
                either: true,
            };
            return value.values.iter().map(either).collect();
        }
        let mut expansion = Expansion::new();
        self.expand_into(word, &mut expansion);
        expansion.finish()
    }

    /// The one field that a word becomes where the shell does not split it.
    pub(super) fn expand_quoted(&mut self, word: &Word) -> Field {
        let fields = self.expand(word);
        Field {
            sure: fields.iter().all(|field| field.sure),
            computed: fields.iter().any(|field| field.computed),
            either: false,
            text: fields.into_iter().map(|field| field.text).collect::<Vec<_>>().join(" "),
        }
    }

    fn expand_into(&mut self, word: &Word, expansion: &mut Expansion) {
        for piece in word {
            match piece {
                Piece::Text { text, quoted } => {
                    expansion.braces |= !quoted && text.contains('{');
                    expansion.text(text);
                }
                Piece::Variable { name, quoted, otherwise } => {
                    self.expand_variable(name, *quoted, otherwise.as_ref(), expansion);
                }
                Piece::Output { script, quoted } => match self.output_of(script) {
                    Some(text) if self.spend(text.len()) => {
                        expansion.value(text.trim_end_matches('\n'), *quoted)
                    }
                    _ => expansion.unsure(true),
                },
                Piece::File(_) => {
                    expansion.text("/dev/fd/63");
                    expansion.unsure(true);
                }
                Piece::Unknown(inner) => expansion.unsure(holds_script(inner)),
            }
        }
    }

    fn expand_variable(
        &mut self,
        name: &str,
        quoted: bool,
        otherwise: Option<&Word>,
        expansion: &mut Expansion,
    ) {
        if name == "IFS" && !self.values.contains_key(name) {
            expansion.value(" ", quoted);
            return;
        }
        let known = self.values.get(name).filter(|value| !value.values.is_empty()).cloned();
        let single = known.as_ref().is_some_and(|value| value.sure && value.values.len() == 1)
            && self.assigned.get(name).copied().unwrap_or_default() <= 1;
        match &known {
            Some(value) => {
                let fields = value.values.last().map(Vec::as_slice).unwrap_or_default();
                let bytes: usize = fields.iter().map(String::len).sum();
                if !self.spend(bytes) {
                    expansion.unsure(value.computed);
                    return;
                }
                for (at, field) in fields.iter().enumerate() {
                    if at > 0 {
                        expansion.end_field();
                    }
                    expansion.value(field, quoted);
                }
                if !single || otherwise.is_some() {
                    expansion.unsure(value.computed);
                }
            }
            None => {
                if let Some(inner) = otherwise {
                    self.expand_into(inner, expansion);
                }
                let computed = self.values.get(name).is_some_and(|value| value.computed);
                expansion.unsure(computed);
            }
        }
    }

    pub(super) fn assign(&mut self, assignment: &Assignment) {
        let mut fields = Vec::new();
        for word in &assignment.values {
            fields.extend(self.expand(word));
        }
        if assignment.name.is_empty() {
            return;
        }
        configures(self, &assignment.name, &fields);
        let either = assignment.one_of || fields.iter().any(|field| field.either);
        let value = self
            .values
            .entry(assignment.name.clone())
            .or_insert_with(|| Value { sure: true, ..Value::default() });
        value.computed |= fields.iter().any(|field| field.computed);
        let bytes: usize = fields.iter().map(|field| field.text.len()).sum();
        value.sure &= fields.iter().all(|field| field.sure) && bytes <= VALUE_BYTES_MAX;
        if bytes > VALUE_BYTES_MAX {
            return;
        }
        let texts = fields.into_iter().map(|field| field.text);
        let new: Vec<Vec<String>> = if either {
            texts.map(|text| vec![text]).collect()
        } else if assignment.values.len() > 1 {
            vec![texts.collect()]
        } else {
            vec![vec![texts.collect::<Vec<_>>().join(" ")]]
        };
        for fields in new {
            if value.values.len() < VALUES_MAX {
                value.values.push(fields);
            } else {
                value.sure = false;
            }
        }
    }

    /// `export name=value` and its kin: an assignment that is a word.
    pub(super) fn assign_text(&mut self, field: &Field) {
        if let Some((name, text)) = field.text.split_once('=') {
            let name = name.to_owned();
            let text = text.to_owned();
            let field = Field { text, ..field.clone() };
            configures(self, &name, std::slice::from_ref(&field));
            let value = self.values.entry(name).or_insert_with(|| Value { sure: true, ..Value::default() });
            value.sure &= field.sure;
            value.computed |= field.computed;
            if value.values.len() < VALUES_MAX && field.text.len() <= VALUE_BYTES_MAX {
                value.values.push(vec![field.text]);
            } else {
                value.sure = false;
            }
        }
    }

    /// `read name`: nobody knows what the variable holds from here on.
    pub(super) fn forget(&mut self, name: &str) {
        let value = self.values.entry(name.to_owned()).or_default();
        value.sure = false;
        value.computed = true;
    }

    /// What a substitution writes, when its only command is one whose output the text tells.
    fn output_of(&mut self, script: &Script) -> Option<String> {
        let [command] = script.commands.as_slice() else { return None };
        if !command.redirects.is_empty() || self.depth >= super::DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let mut fields = Vec::new();
        for word in &command.words {
            fields.extend(self.expand(word));
        }
        self.depth -= 1;
        output(&fields, &Input::Inherited)
    }
}

fn holds_script(word: &Word) -> bool {
    word.iter().any(|piece| match piece {
        Piece::Output { .. } | Piece::File(_) => true,
        Piece::Variable { otherwise: Some(inner), .. } | Piece::Unknown(inner) => holds_script(inner),
        Piece::Text { .. } | Piece::Variable { .. } => false,
    })
}

/// `{a,b}` alternatives, from the left; `{1..3}` and what has no comma stays.
fn braces(text: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut left = vec![text.to_owned()];
    while let Some(text) = left.pop() {
        match first_braces(&text) {
            Some((start, end, commas)) if done.len() + left.len() + commas.len() < BRACES_MAX => {
                let mut from = start + 1;
                let mut parts = Vec::with_capacity(commas.len() + 1);
                for at in commas.into_iter().chain([end]) {
                    parts.push(format!("{}{}{}", &text[..start], &text[from..at], &text[end + 1..]));
                    from = at + 1;
                }
                left.extend(parts.into_iter().rev());
            }
            _ => done.push(text),
        }
    }
    done
}

/// The first `{` that has a comma of its own and an end: both places, and the commas.
fn first_braces(text: &str) -> Option<(usize, usize, Vec<usize>)> {
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut found: Option<(usize, usize, Vec<usize>)> = None;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push((at, Vec::new())),
            b',' => {
                if let Some((_, commas)) = open.last_mut() {
                    commas.push(at);
                }
            }
            b'}' => {
                if let Some((start, commas)) = open.pop().filter(|(_, commas)| !commas.is_empty())
                    && found.as_ref().is_none_or(|(first, ..)| start < *first)
                {
                    found = Some((start, at, commas));
                }
            }
            _ => {}
        }
    }
    found
}
