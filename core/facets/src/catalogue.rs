//! The tool catalogue: what nobody can read off a call, because only people know what a tool is for.
//!
//! A catalogue file is TOML with one table for each tool. Its key is the canonical name, `namespace/server/name` with
//! `-` for no server; letter case does not matter, and `*` stands for any text within one of the three parts.
//!
//! ```toml
//! inside = ["example.com"]            # our own domains, for `external`
//!
//! [tools."mcp/crm/export_contacts"]
//! effect = "send"
//! recipients = "to"                   # which parameter holds what
//! sensitivity = "PII"
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use countersign_schemas::{Effect, Tool};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What comes with the program, in the order it is read.
const BUILTIN: [(&str, &str); 3] = [
    ("agents.toml", include_str!("../catalogue/agents.toml")),
    ("services.toml", include_str!("../catalogue/services.toml")),
    ("verbs.toml", include_str!("../catalogue/verbs.toml")),
];

/// More problems are not listed.
const PROBLEMS_MAX: usize = 100;
/// More entries are refused: every lookup that finds no exact name walks the patterns.
const ENTRIES_MAX: usize = 10_000;
/// A longer tool name is unknown.
const NAME_BYTES_MAX: usize = 512;

/// A catalogue file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueSource {
    /// Its name, for messages.
    pub name: String,
    /// Its TOML text.
    pub text: String,
}

/// What is wrong with catalogue files: everything, not just the first thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct CatalogueErrors(pub Vec<CatalogueError>);

/// One thing that is wrong with a catalogue file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct CatalogueError {
    /// The file's name.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// What a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A file or folder, or several.
    Path,
    /// A URL, or several.
    Url,
    /// The name or address of a host.
    Host,
    /// A shell command; an array is one command's words, under a name that ends in `s` several commands.
    Command,
    /// A patch, in the form of Codex or of `diff -u`.
    Patch,
    /// SQL.
    Sql,
    /// Free text that is SQL for some tools and a search for others: read as SQL when it is SQL.
    Query,
    /// Addresses or names of people who receive something.
    Recipients,
    /// A database table, or several.
    Table,
    /// `owner/name`; of two parameters, the first is the owner.
    Repository,
    /// Money in the minor unit of the currency, for example cents.
    AmountMinor,
    /// Money in the currency's own unit, for example `12.50`.
    Amount,
    /// ISO 4217.
    Currency,
    /// The environment that is deployed to.
    Environment,
}

impl Role {
    const ALL: [(&'static str, Self); 14] = [
        ("path", Self::Path),
        ("url", Self::Url),
        ("host", Self::Host),
        ("command", Self::Command),
        ("patch", Self::Patch),
        ("sql", Self::Sql),
        ("query", Self::Query),
        ("recipients", Self::Recipients),
        ("table", Self::Table),
        ("repository", Self::Repository),
        ("amount_minor", Self::AmountMinor),
        ("amount", Self::Amount),
        ("currency", Self::Currency),
        ("environment", Self::Environment),
    ];
}

/// The JSON type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// A text.
    String,
    /// A number without a fraction.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// A map.
    Object,
}

impl ParameterType {
    const ALL: [(&'static str, Self); 6] = [
        ("string", Self::String),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("array", Self::Array),
        ("object", Self::Object),
    ];

    /// Whether `value` has this type.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// What the catalogue knows of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What kind of thing the tool does.
    pub effect: Option<Effect>,
    /// Which parameters hold what; a dot in a name leads into an object.
    pub roles: Vec<(Role, Vec<String>)>,
    /// The label of what it reads.
    pub sensitivity: Option<String>,
    /// Whether what it does can be taken back.
    pub reversible: Option<bool>,
    /// Its output was written by anybody: web pages, mail, issues.
    pub untrusted: bool,
    /// Whether it takes data outside the organisation.
    pub external: Option<bool>,
    /// Types of parameters; other parameters may have any.
    pub parameters: BTreeMap<String, ParameterType>,
}

/// Tools by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    exact: HashMap<String, Entry>,
    groups: Vec<Group>,
    inside: Vec<String>,
}

impl Catalogue {
    /// The catalogue that comes with the program.
    #[must_use]
    pub fn builtin() -> Self {
        // A test reads these files, so they have no errors.
        Self::load(&[]).unwrap_or_default()
    }

    /// The built-in catalogue with `sources` over it, in their order: an entry takes the place of an earlier one of the
    /// same name.
    ///
    /// # Errors
    ///
    /// [`CatalogueErrors`] with everything that is wrong in any of the files: syntax, unknown keys, wrong types, unknown
    /// effects, names that are not three parts, too many entries.
    pub fn load(sources: &[CatalogueSource]) -> Result<Self, CatalogueErrors> {
        let mut errors = Vec::new();
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut inside = Vec::new();
        let builtin = BUILTIN.iter().map(|(name, text)| (*name, *text));
        for (name, text) in
            builtin.chain(sources.iter().map(|source| (source.name.as_str(), source.text.as_str())))
        {
            let mut file = File { name, text, errors: Vec::new() };
            file.read(&mut entries, &mut inside);
            // Tables are walked in the order of their keys.
            file.errors.sort_by_key(|error| error.line);
            errors.append(&mut file.errors);
        }
        if entries.len() > ENTRIES_MAX {
            let problem = format!("{} entries together, at most {ENTRIES_MAX}", entries.len());
            let file = sources.last().map(|source| source.name.clone()).unwrap_or_default();
            errors.push(CatalogueError { file, line: 1, problem });
        }
        if !errors.is_empty() {
            errors.truncate(PROBLEMS_MAX);
            return Err(CatalogueErrors(errors));
        }
        let mut catalogue = Self { inside, ..Self::default() };
        let mut patterns = Vec::new();
        for (name, entry) in entries {
            if name.contains('*') {
                patterns.push((name, entry));
            } else {
                catalogue.exact.insert(name, entry);
            }
        }
        // More letters first; then by name, so that the order does not depend on the files'.
        let letters = |name: &str| name.bytes().filter(|byte| *byte != b'*').count();
        patterns
            .sort_by(|(one, _), (other, _)| letters(other).cmp(&letters(one)).then_with(|| one.cmp(other)));
        for (rank, (name, entry)) in patterns.into_iter().enumerate() {
            catalogue.add_pattern(rank, &name, entry);
        }
        Ok(catalogue)
    }

    /// What is known of a tool: by its exact name, else by the pattern with the most letters.
    #[must_use]
    pub fn lookup(&self, tool: &Tool) -> Option<&Entry> {
        let server = tool.server.as_deref().unwrap_or("-");
        if tool.namespace.len() + server.len() + tool.name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut name = String::with_capacity(tool.namespace.len() + server.len() + tool.name.len() + 2);
        for part in [&tool.namespace, "/", server, "/", &tool.name] {
            name.push_str(part);
        }
        name.make_ascii_lowercase();
        self.exact.get(&name).or_else(|| {
            let (namespace, rest) = name.split_at(tool.namespace.len());
            let (server, rest) = rest.get(1..)?.split_at(server.len());
            self.most_specific([namespace, server, rest.get(1..)?])
        })
    }

    fn most_specific(&self, [namespace, server, name]: [&str; 3]) -> Option<&Entry> {
        let mut best: Option<&Ranked> = None;
        // Most groups are ruled out by one letter that the server's name does not have.
        let letters = server.bytes().fold([false; 256], |mut letters, byte| {
            letters[usize::from(byte)] = true;
            letters
        });
        for group in &self.groups {
            if group.letter.is_some_and(|letter| !letters[usize::from(letter)]) {
                continue;
            }
            if !matches_part(&group.namespace, namespace) || !matches_part(&group.server, server) {
                continue;
            }
            for start in [name.bytes().next(), None] {
                let entries = group.entries.get(&start).map(Vec::as_slice).unwrap_or_default();
                let better =
                    entries.iter().take_while(|entry| best.is_none_or(|best| entry.rank < best.rank));
                best = better.into_iter().find(|entry| matches_part(&entry.name, name)).or(best);
            }
        }
        best.map(|best| &best.entry)
    }

    /// Patterns come in the order of their ranks.
    fn add_pattern(&mut self, rank: usize, name: &str, entry: Entry) {
        let mut parts = name.splitn(3, '/').map(pieces);
        let mut part = || parts.next().unwrap_or_default();
        let (namespace, server) = (part(), part());
        let ranked = Ranked { rank, name: part(), entry };
        let same = |group: &Group| group.namespace == namespace && group.server == server;
        let place = self.groups.iter().position(same).unwrap_or_else(|| {
            let letter = server.iter().find_map(|piece| piece.bytes().next());
            self.groups.push(Group { namespace, server, letter, entries: HashMap::new() });
            self.groups.len() - 1
        });
        let start = ranked.name.first().and_then(|piece| piece.bytes().next());
        self.groups[place].entries.entry(start).or_default().push(ranked);
    }

    /// Our own domains, lower case.
    #[must_use]
    pub fn inside(&self) -> &[String] {
        &self.inside
    }
}

/// Patterns that have their first two parts in common, so that these are compared once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    namespace: Vec<String>,
    server: Vec<String>,
    /// One that every server's name of this group has.
    letter: Option<u8>,
    /// By the first byte of the name, `None` for names that begin with `*`; the most specific first.
    entries: HashMap<Option<u8>, Vec<Ranked>>,
}

/// An entry for a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranked {
    /// The most specific pattern of all has 0.
    rank: usize,
    name: Vec<String>,
    entry: Entry,
}

/// What stands between the `*` of a part.
fn pieces(part: &str) -> Vec<String> {
    part.split('*').map(str::to_owned).collect()
}

/// Whether `text` is the pieces in their order with anything between them.
fn matches_part(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return pieces.first().is_some_and(|only| only == text) };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for piece in middle {
        let Some(at) = find(rest, piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last.as_str())
}

/// As `str::find`, whose preparations cost more than these short texts.
fn find(text: &str, piece: &str) -> Option<usize> {
    let Some((first, others)) = piece.as_bytes().split_first() else { return Some(0) };
    let text = text.as_bytes();
    (0..(text.len() + 1).saturating_sub(piece.len()))
        .find(|at| text[*at] == *first && text[at + 1..].starts_with(others))
}

/// A file while it is read.
struct File<'f> {
    name: &'f str,
    text: &'f str,
    errors: Vec<CatalogueError>,
}

impl File<'_> {
    fn error(&mut self, span: Range<usize>, problem: impl fmt::Display) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.errors.push(CatalogueError { file: self.name.to_owned(), line, problem: problem.to_string() });
    }

    fn read(&mut self, entries: &mut BTreeMap<String, Entry>, inside: &mut Vec<String>) {
        let text = self.text;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            self.error(error.span().unwrap_or_default(), error.message());
        }
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("tools", DeValue::Table(tools)) => {
                    for (name, value) in tools {
                        self.tool(name, value, entries);
                    }
                }
                ("inside", _) => {
                    let domains = self.texts("inside", value);
                    inside.extend(domains.iter().map(|domain| domain.trim_start_matches('.').to_lowercase()));
                }
                ("tools", other) => {
                    self.error(value.span(), format!("`tools` must be a table, not {}", other.type_str()))
                }
                (other, _) => {
                    self.error(key.span(), format!("unknown key `{other}`; known are `inside` and `tools`"))
                }
            }
        }
    }

    fn tool(
        &mut self,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
        entries: &mut BTreeMap<String, Entry>,
    ) {
        let canonical = name.get_ref().as_ref().to_ascii_lowercase();
        let parts: Vec<&str> = canonical.splitn(3, '/').collect();
        if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
            self.error(
                name.span(),
                format!(
                    "`{}` is not `namespace/server/name`; `-` stands for no server",
                    name.get_ref().as_ref()
                ),
            );
        }
        let DeValue::Table(table) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            self.error(value.span(), format!("`{}` must be a table, not {kind}", name.get_ref().as_ref()));
            return;
        };
        let mut entry = Entry::default();
        for (key, value) in table {
            self.field(key, value, &mut entry);
        }
        entries.insert(canonical, entry);
    }

    fn field(&mut self, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>, entry: &mut Entry) {
        let name = key.get_ref().as_ref();
        match name {
            "effect" => {
                let known = Effect::ALL.map(|effect| (effect.as_str(), effect));
                entry.effect = self.one_of("effect", value, &known);
            }
            "sensitivity" => entry.sensitivity = self.text("sensitivity", value),
            "reversible" => entry.reversible = self.boolean("reversible", value),
            "untrusted" => entry.untrusted = self.boolean("untrusted", value).unwrap_or_default(),
            "external" => entry.external = self.boolean("external", value),
            "parameters" => match value.get_ref() {
                DeValue::Table(types) => {
                    for (parameter, value) in types {
                        if let Some(kind) = self.one_of(parameter.get_ref(), value, &ParameterType::ALL) {
                            entry.parameters.insert(parameter.get_ref().to_string(), kind);
                        }
                    }
                }
                other => self
                    .error(value.span(), format!("`parameters` must be a table, not {}", other.type_str())),
            },
            _ => match Role::ALL.iter().find(|(role, _)| *role == name) {
                Some((_, role)) => {
                    let parameters = self.texts(name, value);
                    entry.roles.push((*role, parameters));
                }
                None => {
                    let known: Vec<&str> = Role::ALL.iter().map(|(role, _)| *role).collect();
                    self.error(
                        key.span(),
                        format!(
                            "unknown key `{name}`; known are `effect`, `external`, `parameters`, `reversible`, `sensitivity`, \
                             `untrusted`, and the roles `{}`",
                            known.join("`, `")
                        ),
                    );
                }
            },
        }
    }

    fn one_of<T: Copy>(&mut self, key: &str, value: &Spanned<DeValue<'_>>, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key, value)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, known)| *known);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.error(value.span(), format!("`{key}` is `{text}`; it can be `{}`", names.join("`, `")));
        }
        found
    }

    fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            DeValue::String(_) => {
                self.error(value.span(), format!("`{key}` is empty"));
                None
            }
            other => {
                self.error(value.span(), format!("`{key}` must be a text, not {}", other.type_str()));
                None
            }
        }
    }

    fn boolean(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.error(
                value.span(),
                format!("`{key}` must be true or false, not {}", value.get_ref().type_str()),
            );
        }
        found
    }

    fn texts(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.text(key, item)).collect(),
            _ => self.text(key, value).into_iter().collect(),
        }
    }
}
