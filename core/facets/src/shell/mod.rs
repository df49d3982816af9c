//! Shell commands: which programs they start, which paths they touch, which hosts they reach.
//!
//! A parser of our own, because the text is an attacker's: it never fails, takes linear time and bounded stack, and
//! keeps nothing. What is not known is over-approximated: every branch may run, a function's name counts as a program,
//! and what cannot be read is scanned for words. PowerShell and cmd are only ever scanned.

mod arguments;
mod expand;
mod files;
mod interpreters;
mod network;
mod output;
mod programs;
mod scan;
mod syntax;
mod tables;
mod words;

use std::collections::HashMap;

use crate::bounded::{push, start};
use crate::url::{Contact, of_url};
use expand::{Field, Value};
use syntax::{Command, Piece, Redirect, RedirectKind, Script, Stdin, Word};

/// Of a longer text only this much is parsed; all of it is scanned for words.
const BYTES_MAX: usize = 64 * 1024;
/// All text that is parsed or expanded for one command, so that code in code cannot multiply.
const WORK_BYTES_MAX: usize = 256 * 1024;
/// Commands in commands (`sudo env sh -c ...`); each level takes stack.
const DEPTH_MAX: usize = 40;

/// What a shell text would do, as far as the text tells. Lists have at most 256 entries; `dynamic` is set when one was
/// cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shell {
    /// Names of the programs that may be started, without their folders, in the order of the text.
    pub programs: Vec<String>,
    /// Paths that are read, or touched in a way that is not known.
    pub reads: Vec<String>,
    /// Paths that are written, made, changed or removed.
    pub writes: Vec<String>,
    /// Hosts that are contacted.
    pub contacts: Vec<Contact>,
    /// Code that an interpreter gets within the text.
    pub code: Vec<Code>,
    /// SQL that a database client gets within the text.
    pub sql: Vec<String>,
    /// What runs could not be told from the text: a variable as program, `eval` of one, unread code piped to a shell.
    pub dynamic: bool,
    /// Data is sent out: a body or file of curl, scp to a remote, a command's output within an address.
    pub uploads: bool,
    /// False when the text could not be read as a shell reads it, and its words were scanned too.
    pub complete: bool,
}

/// Code for an interpreter, for example of `python -c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The interpreter's name, without its folder.
    pub program: String,
    /// The code.
    pub text: String,
}

/// Reads a POSIX shell text, also of bash, ksh and zsh. Never fails.
#[must_use]
pub fn read(text: &str) -> Shell {
    let head = start(text, BYTES_MAX);
    let mut reader = Reader { work_left: WORK_BYTES_MAX, ..Reader::default() };
    reader.shell.complete = true;
    reader.code(head, &Input::Inherited);
    if head.len() < text.len() || !reader.shell.complete {
        reader.scan(text);
    }
    reader.shell
}

/// Scans the words of a text in any other shell, such as PowerShell and cmd, without reading its grammar: the first
/// word behind every operator counts as a program, and every known program's name wherever it stands.
#[must_use]
pub fn scan(text: &str) -> Shell {
    let mut reader = Reader::default();
    reader.scan(text);
    reader.shell
}

/// What a program reads from its standard input.
#[derive(Clone, Debug, Default)]
enum Input {
    /// What the shell itself reads.
    #[default]
    Inherited,
    /// A text, not `sure` when parts of it are not known.
    Text { text: String, sure: bool },
    /// A file.
    File,
    /// Another program's output.
    Unknown,
}

/// Walks scripts and gathers what they do.
#[derive(Default)]
struct Reader {
    shell: Shell,
    values: HashMap<String, Value>,
    assigned: HashMap<String, usize>,
    depth: usize,
    work_left: usize,
}

impl Reader {
    fn program(&mut self, name: &str) {
        if !name.is_empty() && !push(&mut self.shell.programs, start(name, 256).to_owned()) {
            self.shell.dynamic = true;
        }
    }

    fn path(&mut self, path: &str, writes: bool) {
        const STREAMS: [&str; 6] = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "-"];
        if path.is_empty() || STREAMS.contains(&path) || path.starts_with("/dev/fd/") {
            return;
        }
        if let Some(contact) = socket(path) {
            self.contact(contact);
            return;
        }
        let list = if writes { &mut self.shell.writes } else { &mut self.shell.reads };
        if !push(list, start(path, 4096).to_owned()) {
            self.shell.dynamic = true;
        }
    }

    fn contact(&mut self, contact: Contact) {
        if !push(&mut self.shell.contacts, contact) {
            self.shell.dynamic = true;
        }
    }

    /// Takes from what may be parsed and expanded. False when it is used up.
    fn spend(&mut self, bytes: usize) -> bool {
        let enough = self.work_left >= bytes;
        self.work_left = self.work_left.saturating_sub(bytes);
        if !enough {
            self.shell.complete = false;
            self.shell.dynamic = true;
        }
        enough
    }

    /// Runs `read` one level deeper, or not at all.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= DEPTH_MAX {
            self.shell.complete = false;
            self.shell.dynamic = true;
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        Some(result)
    }

    /// Shell code, within which nothing is read yet.
    fn code(&mut self, text: &str, stdin: &Input) {
        if !self.spend(text.len()) {
            self.scan(text);
            return;
        }
        let parsed = syntax::parse(text);
        if !parsed.complete {
            self.scan(text);
        }
        for (name, count) in parsed.assigned {
            *self.assigned.entry(name).or_default() += count;
        }
        if self.deeper(|reader| reader.script(&parsed.script, stdin)).is_none() {
            self.scan(text);
        }
    }

    fn script(&mut self, script: &Script, stdin: &Input) {
        let runs_shell = script.commands.iter().any(|command| !command.words.is_empty());
        let mut outputs: Vec<Option<String>> = Vec::with_capacity(script.commands.len());
        for command in &script.commands {
            let input = match command.stdin {
                Stdin::Inherited => stdin.clone(),
                Stdin::Unknown => Input::Unknown,
                // Taken: nobody else reads from that command.
                Stdin::Output(at) => outputs
                    .get_mut(at)
                    .and_then(Option::take)
                    .map_or(Input::Unknown, |text| Input::Text { text, sure: true }),
            };
            let output = self.command(command, input, runs_shell);
            outputs.push(output);
        }
    }

    /// One simple command; its standard output, when that can be told.
    fn command(&mut self, command: &Command, mut input: Input, runs_shell: bool) -> Option<String> {
        let redirected = command.redirects.iter().map(|redirect| &redirect.target);
        let assigned = command.assignments.iter().flat_map(|assignment| &assignment.values);
        for word in redirected.chain(assigned).chain(&command.words) {
            self.scripts_in(word);
        }
        for assignment in &command.assignments {
            self.assign(assignment);
        }
        let mut to_file = false;
        for redirect in &command.redirects {
            to_file |= redirect.kind == RedirectKind::Write;
            if let Some(redirected) = self.redirect(redirect) {
                input = redirected;
            }
        }
        let mut fields = Vec::new();
        for word in &command.words {
            fields.extend(self.expand(word));
        }
        if let (true, Input::Text { text, .. }) = (fields.is_empty() && runs_shell, &input) {
            // The text goes to a group, in which anything may read it.
            let text = text.clone();
            self.code(&text, &Input::Inherited);
        }
        let output = self.deeper(|reader| reader.run(&fields, &input)).unwrap_or_else(|| {
            self.names(&fields);
            None
        });
        output.filter(|_| !to_file)
    }

    /// Runs the scripts inside a word.
    fn scripts_in(&mut self, word: &Word) {
        for piece in word {
            match piece {
                Piece::Output { script, .. } | Piece::File(script) => {
                    let _ran = self.deeper(|reader| reader.script(script, &Input::Inherited));
                }
                Piece::Variable { otherwise: Some(inner), .. } | Piece::Unknown(inner) => {
                    self.scripts_in(inner)
                }
                Piece::Text { .. } | Piece::Variable { .. } => {}
            }
        }
    }

    /// What a redirection makes of the standard input.
    fn redirect(&mut self, redirect: &Redirect) -> Option<Input> {
        let field = self.expand_quoted(&redirect.target);
        if redirect.kind == RedirectKind::Text {
            return Some(Input::Text { text: field.text, sure: field.sure });
        }
        let copies = field.text == "-" || field.text.bytes().all(|byte| byte.is_ascii_digit());
        if copies && field.sure {
            return None;
        }
        let from_network = socket(&field.text).is_some();
        self.path(&field.text, redirect.kind != RedirectKind::Read);
        match redirect.kind {
            _ if from_network => Some(Input::Unknown),
            RedirectKind::Read | RedirectKind::Both if field.computed => Some(Input::Unknown),
            RedirectKind::Read | RedirectKind::Both => Some(Input::File),
            RedirectKind::Write | RedirectKind::Text => None,
        }
    }

    /// Hosts and paths within a word that may be anything: an argument, or a text in inline code.
    fn argument(&mut self, field: &Field) {
        let text = field.text.as_str();
        if let Some(contact) = of_url(text) {
            self.contact(contact);
        } else if looks_like_path(text) {
            self.path(text, false);
        }
        // `--file=/etc/passwd`, `data=@/etc/passwd`, `/:/host`.
        if let Some((_, value)) = text.split_once('=') {
            let value = value.trim_start_matches('@');
            if !text.contains("://") && looks_like_path(value) {
                self.path(value, false);
            } else if let Some(contact) = of_url(value) {
                self.contact(contact);
            }
        }
        if let Some(value) = text.strip_prefix('@').filter(|value| !value.contains('@')) {
            self.path(value, false);
        }
        if text.contains(":/") && !text.contains("://") {
            for part in text.split(':').filter(|part| looks_like_path(part)) {
                self.path(part, false);
            }
        }
    }
}

/// The host of bash's `/dev/tcp/host/port`.
fn socket(path: &str) -> Option<Contact> {
    let rest = path.strip_prefix("/dev/tcp/").or_else(|| path.strip_prefix("/dev/udp/"))?;
    crate::url::of_host(rest.split('/').next()?)
}

/// Whether a word looks like a path: a folder in it, a beginning that only paths have, or a file's ending.
fn looks_like_path(text: &str) -> bool {
    if text.is_empty()
        || text.len() > 4096
        || text.starts_with('-')
        || text.contains("://")
        || text.contains('\n')
    {
        return false;
    }
    if text.contains('/') || text.contains('\\') || text.starts_with('~') || text == "." || text == ".." {
        return true;
    }
    let hidden =
        text.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    let ending = text.rsplit_once('.').is_some_and(|(name, ending)| {
        !name.is_empty()
            && (1..=8).contains(&ending.len())
            && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && ending.bytes().any(|byte| byte.is_ascii_alphabetic())
    });
    let keys = ["id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", "authorized_keys", "known_hosts"];
    hidden || (ending && !text.contains(' ')) || keys.contains(&text)
}
