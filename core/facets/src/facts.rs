//! From parameters to facets.

use countersign_schemas::{Action, Effect, Facets};
use serde_json::{Map, Value};

use crate::bounded::push;
use crate::catalogue::{Catalogue, Entry, Role};
use crate::shell::{self, Shell};
use crate::url::{Contact, Place, of_host, of_url};
use crate::{effect::stricter, signal, sql};

/// Deeper parameters are not read. serde_json reads no deeper either.
const DEPTH_MAX: usize = 128;
/// A longer parameter name in a signal is cut.
const NAME_BYTES_MAX: usize = 64;

/// Parameter names that say what they hold, whatever the tool; lower case.
const PATH_KEYS: [&str; 17] = [
    "file_path",
    "path",
    "paths",
    "notebook_path",
    "filename",
    "file",
    "files",
    "directory",
    "dir",
    "cwd",
    "folder",
    "filepath",
    "absolute_path",
    "target_file",
    "dir_path",
    "workdir",
    "working_directory",
];
const RECIPIENT_KEYS: [&str; 10] = [
    "to",
    "cc",
    "bcc",
    "recipient",
    "recipients",
    "email",
    "emails",
    "emailmessage/to",
    "attendees",
    "reply_to",
];
const COMMAND_KEYS: [&str; 4] = ["command", "cmd", "commands", "shell_command"];
const TABLE_KEYS: [&str; 3] = ["table", "table_name", "tables"];

/// Fills what can be told of `action` from its tool and parameters, and removes nothing that is there.
///
/// The catalogue's roles are read first, then every parameter at any depth by its name. The effect becomes the
/// catalogue's when the connector knew only `invoke`, else the [`stricter`] of both; SQL raises it further, a shell
/// command never raises `execute`. Signals are those of [`signal`]. Doing it twice changes nothing more.
pub fn enrich(catalogue: &Catalogue, action: &mut Action) {
    let entry = catalogue.lookup(&action.tool);
    let name = action.tool.name.to_ascii_lowercase();
    let windows = name.contains("powershell") || matches!(name.as_str(), "pwsh" | "cmd");
    let mut facts =
        Facts { facets: &mut action.facets, signals: &mut action.risk_signals, effect: None, windows };
    match entry {
        Some(entry) => facts.roles(entry, &action.parameters),
        None => facts.signal(signal::TOOL_UNKNOWN),
    }
    let claimed = |key: &str| {
        entry.is_some_and(|entry| {
            let texts = [Role::Command, Role::Patch, Role::Sql, Role::Query];
            entry
                .roles
                .iter()
                .any(|(role, names)| texts.contains(role) && names.iter().any(|name| name == key))
        })
    };
    for (key, value) in &action.parameters {
        facts.walk(key, value, claimed(key), 0);
    }
    facts.repository(&action.parameters, "owner", "repo");
    let read = facts.effect;
    action.effect = effect(action.effect, entry.and_then(|entry| entry.effect), read);
    finish(catalogue, entry, action);
}

/// What the connector knew, what the catalogue says and what SQL shows, as one effect.
fn effect(known: Effect, listed: Option<Effect>, read: Option<Effect>) -> Effect {
    let base = match listed {
        Some(listed) if known == Effect::Invoke => listed,
        Some(listed) => stricter(known, listed),
        None => known,
    };
    read.map_or(base, |read| stricter(base, read))
}

/// What follows from the effect and the facets together.
fn finish(catalogue: &Catalogue, entry: Option<&Entry>, action: &mut Action) {
    let looks = matches!(action.effect, Effect::Read | Effect::List);
    let mut signal = |name: &str| {
        let _room = push(&mut action.risk_signals, name.to_owned());
    };
    if let Some(entry) = entry {
        if let Some(label) = entry.sensitivity.as_ref().filter(|_| looks) {
            let _room = push(&mut action.facets.labels, label.clone());
        }
        if entry.untrusted {
            signal(signal::UNTRUSTED_OUTPUT);
        }
        if entry.reversible == Some(false) {
            signal(signal::IRREVERSIBLE);
        }
        for (name, kind) in &entry.parameters {
            if action.parameters.get(name).is_some_and(|value| !value.is_null() && !kind.admits(value)) {
                signal(&format!("{}{}", signal::PARAMETER_TYPE, crate::bounded::start(name, NAME_BYTES_MAX)));
            }
        }
    }
    if action.facets.external.is_none() {
        action.facets.external = entry
            .and_then(|entry| entry.external)
            .or_else(|| is_external(catalogue.inside(), &action.facets));
    }
}

/// Whether data goes outside, told from our own domains: by the recipients, else by the hosts. Not told when there are
/// no such domains, or when a recipient is a mere name.
fn is_external(inside: &[String], facets: &Facets) -> Option<bool> {
    if inside.is_empty() || (facets.recipients.is_empty() && facets.hosts.is_empty()) {
        return None;
    }
    let ours = |domain: &str| {
        inside.iter().any(|ours| {
            domain
                .strip_suffix(ours.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.'))
        })
    };
    if facets.recipients.is_empty() {
        // An address of a private network is inside, whatever its name.
        let private = |host: &str| of_host(host).is_some_and(|contact| contact.place != Place::Public);
        return Some(!facets.hosts.iter().all(|host| ours(host) || private(host)));
    }
    let domains: Vec<Option<&str>> =
        facets.recipients.iter().map(|address| Some(address.rsplit_once('@')?.1)).collect();
    if domains.iter().flatten().any(|domain| !ours(domain)) {
        return Some(true);
    }
    domains.iter().all(Option::is_some).then_some(false)
}

/// What was found so far.
struct Facts<'a> {
    facets: &'a mut Facets,
    signals: &'a mut Vec<String>,
    /// What SQL does.
    effect: Option<Effect>,
    /// Commands are of PowerShell or cmd.
    windows: bool,
}

impl Facts<'_> {
    fn signal(&mut self, name: &str) {
        let _room = push(self.signals, name.to_owned());
    }

    fn add(&mut self, list: fn(&mut Facets) -> &mut Vec<String>, entry: String) {
        if !entry.is_empty() && !push(list(self.facets), entry) {
            self.signal(signal::FACETS_CUT);
        }
    }

    fn roles(&mut self, entry: &Entry, parameters: &Map<String, Value>) {
        for (role, names) in &entry.roles {
            if let (Role::Repository, [owner, name]) = (role, names.as_slice()) {
                self.repository(parameters, owner, name);
                continue;
            }
            for name in names {
                if let Some(value) = at(parameters, name) {
                    self.role(*role, name, value);
                }
            }
        }
        self.money(entry, parameters);
    }

    fn role(&mut self, role: Role, name: &str, value: &Value) {
        match role {
            Role::Command => return self.command(name, value),
            Role::AmountMinor | Role::Amount => return,
            _ => {}
        }
        each_text(value, 0, &mut |text| match role {
            Role::Path => self.add(|facets| &mut facets.paths, text.to_owned()),
            Role::Url | Role::Host => {
                if let Some(contact) = of_url(text).or_else(|| of_host(text)) {
                    self.contact(&contact);
                }
            }
            Role::Patch => self.patch(text),
            Role::Sql => self.sql(text),
            Role::Query => {
                if sql::is_sql(text) {
                    self.sql(text);
                }
            }
            Role::Recipients => self.recipients(text, true),
            Role::Table => self.add(|facets| &mut facets.tables, text.to_lowercase()),
            Role::Repository => set(&mut self.facets.repository, text),
            Role::Currency => set(&mut self.facets.currency, &text.to_ascii_lowercase()),
            Role::Environment => set(&mut self.facets.environment, text),
            Role::Command | Role::AmountMinor | Role::Amount => {}
        });
    }

    /// Parameters by their names, at any depth.
    fn walk(&mut self, key: &str, value: &Value, claimed: bool, depth: usize) {
        match value {
            Value::String(text) => self.hosts_in(text),
            Value::Array(items) if depth < DEPTH_MAX => {
                for item in items {
                    match item {
                        Value::String(text) => self.hosts_in(text),
                        other => self.walk(key, other, true, depth + 1),
                    }
                }
            }
            Value::Object(map) if depth < DEPTH_MAX => {
                map.iter().for_each(|(key, value)| self.walk(key, value, false, depth + 1));
                self.repository(map, "owner", "repo");
            }
            _ => {}
        }
        if claimed || !(value.is_string() || value.is_array()) {
            return;
        }
        let lower;
        let key = if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = key.to_ascii_lowercase();
            &lower
        } else {
            key
        };
        if COMMAND_KEYS.contains(&key) {
            self.command(key, value);
        } else if PATH_KEYS.contains(&key) {
            each_text(value, depth, &mut |text| self.add(|facets| &mut facets.paths, text.to_owned()));
        } else if RECIPIENT_KEYS.contains(&key) {
            each_text(value, depth, &mut |text| self.recipients(text, false));
        } else if TABLE_KEYS.contains(&key) {
            each_text(value, depth, &mut |text| self.add(|facets| &mut facets.tables, text.to_lowercase()));
        } else {
            self.walk_text(key, value);
        }
    }

    /// Parameters that hold one text.
    fn walk_text(&mut self, key: &str, value: &Value) {
        let Value::String(text) = value else { return };
        match key {
            "sql" => self.sql(text),
            "query" | "statement" if sql::is_sql(text) => self.sql(text),
            "host" | "hostname" => {
                if let Some(contact) = of_host(text) {
                    self.contact(&contact);
                }
            }
            "repository" if text.split('/').filter(|part| !part.is_empty()).count() == 2 => {
                set(&mut self.facets.repository, text);
            }
            "environment" => set(&mut self.facets.environment, text),
            _ => {}
        }
    }

    fn command(&mut self, name: &str, value: &Value) {
        match value {
            Value::String(text) => {
                // Some clients send the list as JSON within a text.
                let listed =
                    text.starts_with('[').then(|| serde_json::from_str::<Vec<String>>(text).ok()).flatten();
                match listed {
                    Some(commands) => commands.iter().for_each(|command| self.shell(command)),
                    None => self.shell(text),
                }
            }
            Value::Array(items) => {
                let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                if name.ends_with('s') {
                    words.iter().for_each(|command| self.shell(command));
                } else if !words.is_empty() {
                    let quoted: Vec<String> =
                        words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
                    self.shell(&quoted.join(" "));
                }
            }
            _ => {}
        }
    }

    fn shell(&mut self, text: &str) {
        let Shell { programs, reads, writes, contacts, code, sql, dynamic, uploads, complete } =
            if self.windows { shell::scan(text) } else { shell::read(text) };
        for (raised, name) in [
            (dynamic, signal::SHELL_DYNAMIC),
            (!writes.is_empty(), signal::SHELL_WRITES),
            (!complete && !self.windows, signal::SHELL_UNPARSED),
            (!code.is_empty(), signal::SHELL_INLINE_CODE),
            (uploads, signal::UPLOAD),
        ] {
            if raised {
                self.signal(name);
            }
        }
        for program in programs {
            self.add(|facets| &mut facets.commands, program);
        }
        for path in reads.into_iter().chain(writes) {
            self.add(|facets| &mut facets.paths, path);
        }
        for contact in &contacts {
            self.contact(contact);
        }
        for statement in sql {
            // The effect stays `execute`.
            let _effect = self.tables(&statement);
        }
    }

    fn sql(&mut self, text: &str) {
        let effect = self.tables(text);
        self.effect = Some(self.effect.map_or(effect, |known| stricter(known, effect)));
    }

    fn tables(&mut self, text: &str) -> Effect {
        let read = sql::read(text);
        if read.unbounded {
            self.signal(signal::SQL_UNBOUNDED);
        }
        if !read.complete {
            self.signal(signal::SQL_UNPARSED);
        }
        for table in read.reads.into_iter().chain(read.writes) {
            self.add(|facets| &mut facets.tables, table);
        }
        read.effect
    }

    /// Files that a patch names.
    fn patch(&mut self, text: &str) {
        const HEADS: [&str; 6] =
            ["*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: ", "--- ", "+++ "];
        for line in text.lines() {
            if let Some(path) = HEADS.iter().find_map(|head| line.strip_prefix(head)) {
                let path = path.split('\t').next().unwrap_or(path).trim();
                let diff = line.starts_with(['-', '+']);
                let path = if diff {
                    path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path)
                } else {
                    path
                };
                if path != "/dev/null" {
                    self.add(|facets| &mut facets.paths, path.to_owned());
                }
            }
        }
    }

    /// Addresses in a text; where the text is `certain` to name people, names too.
    fn recipients(&mut self, text: &str, certain: bool) {
        for part in text.split([';', ',']).map(str::trim).filter(|part| certain || part.contains('@')) {
            // `Ann <ann@example.com>`.
            let address = part.rsplit_once('<').map_or(part, |(_, address)| address.trim_end_matches('>'));
            self.add(|facets| &mut facets.recipients, address.trim().to_lowercase());
        }
    }

    /// Hosts of the URLs in a text.
    fn hosts_in(&mut self, text: &str) {
        let ends = |c: char| c.is_whitespace() || "\"'<>(),;|`".contains(c);
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| rest.find("://")) {
            let at = from + found;
            // A scheme is short.
            let earliest = text.floor_char_boundary(at.saturating_sub(32).max(from));
            let start = text[earliest..at].rfind(ends).map_or(earliest, |before| {
                earliest + before + text[earliest + before..].chars().next().map_or(1, char::len_utf8)
            });
            // Up to the path is enough, and keeps many URLs in one word from being read many times.
            let after =
                text[at + 3..].find(|c| !matches!(c, '/' | '\\')).map_or(text.len(), |skip| at + 3 + skip);
            let end = text[after..]
                .find(|c| ends(c) || matches!(c, '/' | '\\' | '?' | '#'))
                .map_or(text.len(), |length| after + length);
            if let Some(contact) = of_url(&text[start..end]) {
                self.contact(&contact);
            }
            from = end;
        }
    }

    fn contact(&mut self, contact: &Contact) {
        let place = match contact.place {
            Place::Public => None,
            Place::Private => Some(signal::PRIVATE_HOST),
            Place::Loopback => Some(signal::LOOPBACK_HOST),
            Place::LinkLocal => Some(signal::LINK_LOCAL_HOST),
            Place::Metadata => Some(signal::METADATA_HOST),
        };
        let user = contact.has_userinfo.then_some(signal::URL_USERINFO);
        let international = contact.is_international.then_some(signal::INTERNATIONAL_HOST);
        for name in [place, user, international].into_iter().flatten() {
            self.signal(name);
        }
        self.add(|facets| &mut facets.hosts, contact.host.clone());
    }

    fn repository(&mut self, parameters: &Map<String, Value>, owner: &str, name: &str) {
        let text = |key| at(parameters, key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let (Some(owner), Some(name)) = (text(owner), text(name)) {
            set(&mut self.facets.repository, &format!("{owner}/{name}"));
        }
    }

    fn money(&mut self, entry: &Entry, parameters: &Map<String, Value>) {
        let values = |wanted: Role| {
            let names =
                entry.roles.iter().filter(move |(role, _)| *role == wanted).flat_map(|(_, names)| names);
            names.filter_map(|name| at(parameters, name))
        };
        if self.facets.amount_minor.is_some() {
            return;
        }
        let minor = values(Role::AmountMinor).find_map(|value| decimal(value, 0));
        let digits = self.facets.currency.as_deref().map_or(2, minor_digits);
        self.facets.amount_minor =
            minor.or_else(|| values(Role::Amount).find_map(|value| decimal(value, digits)));
    }
}

fn set(facet: &mut Option<String>, text: &str) {
    if facet.is_none() && !text.is_empty() {
        *facet = Some(text.to_owned());
    }
}

/// The parameter of that name, or the one that its dots lead to.
fn at<'v>(parameters: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    parameters.get(name).or_else(|| {
        let mut parts = name.split('.');
        let first = parameters.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })
}

/// Every text in a value, of lists and of objects.
fn each_text(value: &Value, depth: usize, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(items) if depth < DEPTH_MAX => {
            items.iter().for_each(|item| each_text(item, depth + 1, found))
        }
        Value::Object(map) if depth < DEPTH_MAX => {
            map.values().for_each(|item| each_text(item, depth + 1, found))
        }
        _ => {}
    }
}

/// Digits behind the point of a currency's amounts.
///
/// Source: ISO 4217, list one, of 2024.
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "bif" | "clp" | "djf" | "gnf" | "isk" | "jpy" | "kmf" | "krw" | "pyg" | "rwf" | "ugx" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "iqd" | "jod" | "kwd" | "lyd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

/// A number or a text of one in units of its last `digits` decimals, rounded up: a limit must not be passed by a
/// fraction. `None` when it is no number or too large.
fn decimal(value: &Value, digits: u32) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().replace(['_', ' '], ""),
        _ => return None,
    };
    let (mantissa, exponent) =
        text.split_once(['e', 'E']).map_or((text.as_str(), 0), |(mantissa, exponent)| {
            (mantissa, exponent.parse::<i32>().unwrap_or(i32::MAX))
        });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = i32::try_from(digits)
        .ok()?
        .checked_add(exponent)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    let scaled = if shift >= 0 {
        all.checked_mul(factor)?
    } else {
        all.div_euclid(factor) + i128::from(all.rem_euclid(factor) != 0)
    };
    i64::try_from(scaled).ok()
}
