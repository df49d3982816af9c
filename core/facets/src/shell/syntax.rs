//! Reads a shell text (POSIX, with what bash, ksh and zsh add) into its simple commands.
//!
//! Control flow is not kept: every branch may run, so `if a; then b; fi` is the commands `a` and `b`. What cannot be
//! read is skipped and reported as incomplete; the reader then falls back to a scan of words. One pass, no going
//! back by more than [`ARITHMETIC_BYTES_MAX`], so the time is linear in the text.

use std::collections::HashMap;

use super::words::{Mode, is_blank};

/// Deeper nesting of `$(...)`, `${...}` and backquotes is not followed: each level takes stack.
pub(super) const DEPTH_MAX: usize = 24;
/// `((` opens arithmetic or two subshells, and only the end tells which. Longer arithmetic is read as subshells.
const ARITHMETIC_BYTES_MAX: usize = 256;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) script: Script,
    /// False when something could not be read.
    pub(super) complete: bool,
    /// How often each variable is assigned anywhere in the text.
    pub(super) assigned: HashMap<String, usize>,
}

/// Simple commands in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) commands: Vec<Command>,
}

/// One simple command. Without words it stands for assignments alone, or for the redirections of a group.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) assignments: Vec<Assignment>,
    pub(super) redirects: Vec<Redirect>,
    pub(super) stdin: Stdin,
    pub(super) words: Vec<Word>,
}

impl Command {
    fn is_empty(&self) -> bool {
        self.assignments.is_empty() && self.redirects.is_empty() && self.words.is_empty()
    }
}

/// Where a command reads from, before its own redirections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stdin {
    /// What the whole text reads from.
    #[default]
    Inherited,
    /// What the command at this place of the same script writes.
    Output(usize),
    /// A pipe from a group, or a pipe that several commands share.
    Unknown,
}

/// `name=value`, `name=(values)`, or `for name in values`. Without a name: words that are expanded and not used.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) values: Vec<Word>,
    /// The variable has one of the values at a time.
    pub(super) one_of: bool,
}

/// A redirection.
#[derive(Debug)]
pub(super) struct Redirect {
    pub(super) kind: RedirectKind,
    /// The file, or the text of a here-document.
    pub(super) target: Word,
}

/// What a redirection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedirectKind {
    Read,
    Write,
    Both,
    /// `<<` and `<<<`.
    Text,
}

/// A word before expansion.
pub(super) type Word = Vec<Piece>;

/// A part of a word.
#[derive(Debug)]
pub(super) enum Piece {
    Text {
        text: String,
        quoted: bool,
    },
    Variable {
        name: String,
        quoted: bool,
        /// Of `${name:-otherwise}` and its kin.
        otherwise: Option<Word>,
    },
    /// `$(...)` and backquotes.
    Output {
        script: Script,
        quoted: bool,
    },
    /// `<(...)` and `>(...)`.
    File(Script),
    /// A value that only a running shell knows; the words in it are expanded.
    Unknown(Word),
}

/// Reads `text`; never fails.
pub(super) fn parse(text: &str) -> Parsed {
    let mut parser = Parser::new(text, 0);
    let mut script = parser.script(None);
    // A stray `)` ends the first script: read on behind it.
    while parser.at < text.len() {
        parser.complete = false;
        parser.at += 1;
        let rest = parser.script(None);
        script.commands.extend(rest.commands.into_iter().map(|command| Command {
            stdin: if command.stdin == Stdin::Inherited { Stdin::Inherited } else { Stdin::Unknown },
            ..command
        }));
    }
    Parsed { script, complete: parser.complete, assigned: parser.assigned }
}

/// The text of a word that is one unquoted literal.
fn literal(word: &Word) -> Option<&str> {
    match word.as_slice() {
        [Piece::Text { text, quoted: false }] => Some(text),
        _ => None,
    }
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A here-document whose text comes behind the next newline.
struct Pending {
    command: usize,
    redirect: usize,
    delimiter: String,
    quoted: bool,
    strip_tabs: bool,
}

/// An open group, and what its commands read from.
struct Level {
    kind: Open,
    stdin: Stdin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Paren,
    Brace,
    Case,
    /// `if` and loops.
    Block,
}

/// A script that is being read.
#[derive(Default)]
struct Sequence {
    script: Script,
    command: Command,
    levels: Vec<Level>,
    pending: Vec<Pending>,
    /// The command that wrote last in this pipeline, when a single one did.
    previous: Option<usize>,
    stdin: Stdin,
}

impl Sequence {
    fn push(&mut self) {
        if !self.command.is_empty() {
            let command = std::mem::take(&mut self.command);
            self.previous = Some(self.script.commands.len());
            self.script.commands.push(Command { stdin: self.stdin, ..command });
        }
    }

    fn separate(&mut self) {
        self.push();
        self.previous = None;
        self.stdin = self.levels.last().map_or(Stdin::Inherited, |level| level.stdin);
    }

    fn pipe(&mut self) {
        self.push();
        self.stdin = self.previous.take().map_or(Stdin::Unknown, Stdin::Output);
    }

    fn open(&mut self, kind: Open) {
        // Several commands may share what is piped into a group.
        let stdin = if self.stdin == Stdin::Inherited { Stdin::Inherited } else { Stdin::Unknown };
        self.levels.push(Level { kind, stdin });
        self.stdin = stdin;
    }

    fn close(&mut self, kind: Open) -> bool {
        self.push();
        let Some(at) = self.levels.iter().rposition(|level| level.kind == kind) else { return false };
        let balanced = at + 1 == self.levels.len();
        self.levels.truncate(at);
        self.separate();
        balanced
    }

    fn word(&mut self, word: Word) {
        if self.command.words.is_empty()
            && let Some((name, length)) = assigned_name(&word)
        {
            let name = name.to_owned();
            self.command.assignments.push(Assignment {
                name,
                values: vec![without_start(word, length)],
                one_of: false,
            });
        } else {
            self.command.words.push(word);
        }
    }

    /// Words that are expanded and not used.
    fn expand(&mut self, values: Vec<Word>) {
        self.command.assignments.push(Assignment { name: String::new(), values, one_of: false });
        self.push();
    }
}

/// The name of `name=...`, `name+=...` and `name[...]=...`, and the length of all that with the `=`.
pub(super) fn assigned_name(word: &[Piece]) -> Option<(&str, usize)> {
    let Some(Piece::Text { text, quoted: false }) = word.first() else { return None };
    let (left, _) = text.split_once('=')?;
    let name = left.strip_suffix('+').unwrap_or(left);
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    let valid = name.bytes().all(is_name_byte) && name.starts_with(|first: char| !first.is_ascii_digit());
    (valid && !name.is_empty()).then_some((name, left.len() + 1))
}

/// The word without its first `length` bytes, which are in its first piece.
pub(super) fn without_start(mut word: Word, length: usize) -> Word {
    if let Some(Piece::Text { text, .. }) = word.first_mut() {
        text.drain(..length);
    }
    word
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) complete: bool,
    assigned: HashMap<String, usize>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, depth: usize) -> Self {
        Self { text, at: 0, depth, complete: true, assigned: HashMap::new() }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let eaten = self.rest().starts_with(token);
        self.at += if eaten { token.len() } else { 0 };
        eaten
    }

    /// Steps over blanks and continued lines.
    fn blanks(&mut self) {
        while self.peek().is_some_and(is_blank) || self.rest().starts_with("\\\n") {
            self.at += if self.peek() == Some(b'\\') { 2 } else { 1 };
        }
    }

    /// Steps over blanks, newlines and comments.
    fn lines(&mut self) {
        loop {
            self.blanks();
            match self.peek() {
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.comment(),
                _ => return,
            }
        }
    }

    fn comment(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Commands up to the end, or up to `close` where no group of their own is open.
    pub(super) fn script(&mut self, close: Option<u8>) -> Script {
        let mut sequence = Sequence::default();
        loop {
            self.blanks();
            let Some(byte) = self.peek() else {
                self.complete &= close.is_none() && sequence.levels.is_empty() && sequence.pending.is_empty();
                break;
            };
            match byte {
                b'\n' => self.newline(&mut sequence),
                b'#' => self.comment(),
                b';' => self.semicolon(&mut sequence),
                b'&' => self.ampersand(&mut sequence),
                b'|' if self.eat("||") => sequence.separate(),
                b'|' => {
                    self.at += if self.peek_at(1) == Some(b'&') { 2 } else { 1 };
                    sequence.pipe();
                }
                b'(' => self.parenthesis(&mut sequence),
                b')' if sequence.levels.iter().any(|level| level.kind == Open::Paren) => {
                    self.at += 1;
                    self.complete &= sequence.close(Open::Paren);
                }
                b')' => {
                    // Without `close` the caller reads on.
                    self.at += usize::from(close == Some(b')'));
                    self.complete &= close == Some(b')');
                    break;
                }
                b'<' | b'>' if self.peek_at(1) != Some(b'(') => self.redirect(&mut sequence),
                _ => {
                    if self.word(&mut sequence, close) {
                        break;
                    }
                }
            }
        }
        sequence.push();
        sequence.script
    }

    fn newline(&mut self, sequence: &mut Sequence) {
        self.at += 1;
        // `a |` goes on in the next line.
        if !sequence.command.is_empty() {
            sequence.separate();
        }
        for pending in std::mem::take(&mut sequence.pending) {
            let body = self.document(&pending);
            let target = if pending.quoted {
                vec![Piece::Text { text: body, quoted: true }]
            } else {
                self.nested(&body, |parser| parser.pieces(Mode::Document))
            };
            if let Some(redirect) = sequence
                .script
                .commands
                .get_mut(pending.command)
                .and_then(|command| command.redirects.get_mut(pending.redirect))
            {
                redirect.target = target;
            }
        }
    }

    /// The lines up to the delimiter.
    fn document(&mut self, pending: &Pending) -> String {
        let mut body = String::new();
        while !self.rest().is_empty() {
            let line = self.rest().split_inclusive('\n').next().unwrap_or_default();
            self.at += line.len();
            let text = if pending.strip_tabs { line.trim_start_matches('\t') } else { line };
            if text.trim_end_matches(['\n', '\r']) == pending.delimiter {
                return body;
            }
            body.push_str(text);
        }
        self.complete = false;
        body
    }

    fn semicolon(&mut self, sequence: &mut Sequence) {
        let ends_case = self.eat(";;&") || self.eat(";;") || self.eat(";&");
        self.at += usize::from(!ends_case);
        sequence.separate();
        if ends_case && sequence.levels.last().is_some_and(|level| level.kind == Open::Case) {
            self.patterns(sequence);
        }
    }

    fn ampersand(&mut self, sequence: &mut Sequence) {
        if self.eat("&>>") || self.eat("&>") {
            self.file(sequence, RedirectKind::Write);
        } else {
            self.at += if self.peek_at(1) == Some(b'&') { 2 } else { 1 };
            sequence.separate();
        }
    }

    /// A subshell, arithmetic, or the `()` of a function.
    fn parenthesis(&mut self, sequence: &mut Sequence) {
        let behind = self.rest().get(1..).unwrap_or_default().trim_start_matches([' ', '\t']);
        if sequence.command.words.len() == 1 && behind.starts_with(')') {
            sequence.command.words.clear();
            self.at = self.text.len() - behind.len() + 1;
        } else if self.peek_at(1) == Some(b'(')
            && let Some(end) = self.arithmetic_end(self.at + 2, false)
        {
            let word = self.arithmetic(self.at + 2, end);
            sequence.expand(vec![word]);
        } else {
            self.complete &= sequence.command.is_empty();
            sequence.push();
            self.at += 1;
            sequence.open(Open::Paren);
        }
    }

    /// Where the `))` ends that belongs to the `((` before `from`, if what is between reads as
    /// arithmetic, or is `certain` to be.
    pub(super) fn arithmetic_end(&self, from: usize, certain: bool) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut open = 0_usize;
        for at in from..bytes.len().min(from + ARITHMETIC_BYTES_MAX) {
            match bytes[at] {
                b'(' => open += 1,
                b')' if open > 0 => open -= 1,
                b')' => {
                    let arithmetic = certain || !reads_as_commands(&bytes[from..at]);
                    let closed = arithmetic && bytes.get(at + 1) == Some(&b')');
                    return closed.then_some(at + 2);
                }
                _ => {}
            }
        }
        None
    }

    pub(super) fn arithmetic(&mut self, from: usize, end: usize) -> Word {
        let inner = self.text.get(from..end - 2).unwrap_or_default();
        self.at = end;
        self.nested(inner, |parser| vec![Piece::Unknown(parser.pieces(Mode::Document))])
    }

    /// Reads another text one level deeper.
    pub(super) fn nested(&mut self, text: &str, read: impl FnOnce(&mut Parser<'_>) -> Word) -> Word {
        if self.depth >= DEPTH_MAX {
            self.complete = false;
            return vec![Piece::Unknown(Word::new())];
        }
        let mut parser = Parser::new(text, self.depth + 1);
        let word = read(&mut parser);
        self.complete &= parser.complete;
        for (name, count) in parser.assigned {
            *self.assigned.entry(name).or_default() += count;
        }
        word
    }

    fn redirect(&mut self, sequence: &mut Sequence) {
        if self.eat("<<<") {
            self.file(sequence, RedirectKind::Text);
        } else if self.eat("<<-") {
            self.here(sequence, true);
        } else if self.eat("<<") {
            self.here(sequence, false);
        } else if self.eat("<>") {
            self.file(sequence, RedirectKind::Both);
        } else if self.eat("<&") || self.eat("<") {
            self.file(sequence, RedirectKind::Read);
        } else {
            let _operator = self.eat(">>") || self.eat(">|") || self.eat(">&") || self.eat(">");
            self.file(sequence, RedirectKind::Write);
        }
    }

    fn file(&mut self, sequence: &mut Sequence, kind: RedirectKind) {
        self.blanks();
        let target = self.pieces(Mode::Bare);
        self.complete &= !target.is_empty();
        sequence.command.redirects.push(Redirect { kind, target });
    }

    fn here(&mut self, sequence: &mut Sequence, strip_tabs: bool) {
        self.blanks();
        let word = self.pieces(Mode::Bare);
        let quoted = !word.iter().all(|piece| matches!(piece, Piece::Text { quoted: false, .. }));
        let delimiter = word
            .iter()
            .map(|piece| if let Piece::Text { text, .. } = piece { text.as_str() } else { "" })
            .collect();
        sequence.pending.push(Pending {
            command: sequence.script.commands.len(),
            redirect: sequence.command.redirects.len(),
            delimiter,
            quoted,
            strip_tabs,
        });
        sequence.command.redirects.push(Redirect { kind: RedirectKind::Text, target: Word::new() });
    }

    /// A word of a command, or what a keyword begins. True when it closes the script.
    fn word(&mut self, sequence: &mut Sequence, close: Option<u8>) -> bool {
        let starts = sequence.command.words.is_empty() && sequence.command.assignments.is_empty();
        let from = self.at;
        // `!(...)` in the place of a command is a negated subshell in every shell that does not extend its patterns.
        let word = if starts && self.rest().starts_with("!(") {
            self.at += 1;
            return false;
        } else {
            self.pieces(Mode::Bare)
        };
        if self.at == from {
            self.complete = false;
            self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            return false;
        }
        if matches!(self.peek(), Some(b'<' | b'>')) && literal(&word).is_some_and(is_descriptor) {
            return false;
        }
        if let Some(values) = self.array(&word) {
            let name = assigned_name(&word).map(|(name, _)| name.to_owned()).unwrap_or_default();
            self.count(&name);
            sequence.command.assignments.push(Assignment { name, values, one_of: false });
            return false;
        }
        if let Some((name, _)) = assigned_name(&word) {
            self.count(name);
        }
        match literal(&word) {
            Some(keyword) if starts => {
                let keyword = keyword.to_owned();
                self.keyword(&keyword, word, sequence, close)
            }
            _ => {
                sequence.word(word);
                false
            }
        }
    }

    pub(super) fn count(&mut self, name: &str) {
        *self.assigned.entry(name.to_owned()).or_default() += 1;
    }

    /// The values of `name=(...)`, behind the `=`.
    fn array(&mut self, word: &Word) -> Option<Vec<Word>> {
        let (_, length) = assigned_name(word)?;
        if self.peek() != Some(b'(') || literal(word).map(str::len) != Some(length) {
            return None;
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.lines();
            match self.peek() {
                Some(b')') => {
                    self.at += 1;
                    return Some(values);
                }
                None => {
                    self.complete = false;
                    return Some(values);
                }
                Some(_) => {
                    let from = self.at;
                    values.push(self.pieces(Mode::Bare));
                    self.at += usize::from(self.at == from);
                }
            }
        }
    }

    fn keyword(&mut self, keyword: &str, word: Word, sequence: &mut Sequence, close: Option<u8>) -> bool {
        match keyword {
            "!" | "then" | "else" | "elif" | "do" => {}
            "if" | "while" | "until" => sequence.open(Open::Block),
            "{" => sequence.open(Open::Brace),
            "fi" | "done" => self.complete &= sequence.close(Open::Block),
            "esac" => self.complete &= sequence.close(Open::Case),
            "}" if sequence.levels.iter().any(|level| level.kind == Open::Brace) => {
                self.complete &= sequence.close(Open::Brace);
            }
            "}" => {
                self.complete &= close == Some(b'}');
                return close == Some(b'}');
            }
            "for" | "select" => self.loop_over(sequence),
            "case" => self.case(sequence),
            "[[" => self.condition(sequence),
            "function" => {
                self.blanks();
                let _name = self.pieces(Mode::Bare);
                self.blanks();
                if self.eat("(") {
                    self.blanks();
                    self.complete &= self.eat(")");
                }
            }
            "coproc" => self.coprocess(),
            "time" if self.times() => {}
            _ => sequence.word(word),
        }
        false
    }

    /// Whether a group or a keyword comes next, which no program can run.
    fn opens_group(&self) -> bool {
        let rest = self.rest().trim_start_matches([' ', '\t']);
        let word = rest.split([' ', '\t', '\n', ';']).next().unwrap_or_default();
        rest.starts_with('(') || matches!(word, "{" | "!" | "if" | "for" | "while" | "until" | "case" | "[[")
    }

    /// Steps over the option of bash's own `time`. False when the program of that name is meant.
    fn times(&mut self) -> bool {
        self.blanks();
        let from = self.at;
        if self.eat("-p") && self.peek().is_some_and(is_blank) {
            return true;
        }
        self.at = from;
        self.peek() != Some(b'-')
    }

    fn coprocess(&mut self) {
        self.blanks();
        let from = self.at;
        let _name = self.pieces(Mode::Bare);
        if !self.opens_group() {
            self.at = from;
        }
    }

    fn loop_over(&mut self, sequence: &mut Sequence) {
        sequence.open(Open::Block);
        self.blanks();
        if self.rest().starts_with("((")
            && let Some(end) = self.arithmetic_end(self.at + 2, true)
        {
            let word = self.arithmetic(self.at + 2, end);
            sequence.expand(vec![word]);
            return;
        }
        let name = self.pieces(Mode::Bare);
        self.lines();
        let from = self.at;
        if literal(&self.pieces(Mode::Bare)) != Some("in") {
            self.at = from;
            return;
        }
        let mut values = Vec::new();
        loop {
            self.blanks();
            let from = self.at;
            match self.peek() {
                None | Some(b'\n' | b';' | b'&' | b'|' | b')') => break,
                Some(_) => values.push(self.pieces(Mode::Bare)),
            }
            self.at += usize::from(self.at == from);
        }
        let name = literal(&name).unwrap_or_default().to_owned();
        self.count(&name);
        sequence.command.assignments.push(Assignment { name, values, one_of: true });
        sequence.push();
    }

    fn case(&mut self, sequence: &mut Sequence) {
        self.blanks();
        let subject = self.pieces(Mode::Bare);
        sequence.expand(vec![subject]);
        self.lines();
        self.complete &= literal(&self.pieces(Mode::Bare)) == Some("in");
        sequence.open(Open::Case);
        self.patterns(sequence);
    }

    /// The patterns before a branch of `case`, or its `esac`.
    fn patterns(&mut self, sequence: &mut Sequence) {
        let mut patterns = Vec::new();
        loop {
            self.lines();
            let from = self.at;
            match self.peek() {
                None => {
                    self.complete = false;
                    break;
                }
                Some(b')') => {
                    self.at += 1;
                    break;
                }
                Some(_) => patterns.push(self.pieces(Mode::Bare)),
            }
            if patterns.len() == 1 && patterns.first().and_then(literal) == Some("esac") {
                self.complete &= sequence.close(Open::Case);
                return;
            }
            self.at += usize::from(self.at == from);
        }
        sequence.expand(patterns);
    }

    /// `[[ ... ]]`.
    fn condition(&mut self, sequence: &mut Sequence) {
        let mut words = Vec::new();
        loop {
            self.lines();
            let from = self.at;
            if self.peek().is_none() {
                self.complete = false;
                break;
            }
            let word = self.pieces(Mode::Bare);
            if literal(&word) == Some("]]") {
                break;
            }
            words.push(word);
            self.at += usize::from(self.at == from);
        }
        sequence.expand(words);
    }
}

/// The `2` of `2>file`, or the `{name}` of `{name}>file`.
fn is_descriptor(word: &str) -> bool {
    let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
    inner.map_or_else(
        || word.bytes().all(|byte| byte.is_ascii_digit()),
        |name| name.bytes().all(is_name_byte) && !name.is_empty(),
    )
}

/// Whether two words stand side by side with nothing but blanks between, which no arithmetic has.
fn reads_as_commands(inner: &[u8]) -> bool {
    let mut before_blank = None;
    inner.windows(2).any(|pair| {
        let (byte, next) = (pair[0], pair[1]);
        if !byte.is_ascii_whitespace() {
            before_blank = Some(byte);
        }
        let word_before =
            before_blank.is_some_and(|byte| is_name_byte(byte) || matches!(byte, b'"' | b'\'' | b'/'));
        let word_starts =
            next.is_ascii_alphabetic() || matches!(next, b'_' | b'/' | b'.' | b'~' | b'\'' | b'"');
        byte == b';' || (byte.is_ascii_whitespace() && word_before && word_starts)
    })
}
