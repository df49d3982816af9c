//! What an action does, finer than its effect where the tool's name, the command or the facets say more.

use countersign_schemas::{Action, Effect};
use serde_json::Value;

use crate::lexicon::Lexicon;
use crate::words::each_word;

/// How much of a shell command is read.
const COMMAND_BYTES_MAX: usize = 2_000;

/// Programs and options that run what follows them.
const WRAPPERS: &[&str] = &[
    "sudo", "doas", "env", "xargs", "nohup", "time", "timeout", "nice", "exec", "eval", "sh", "bash", "zsh",
    "-exec",
];

/// Redirections that write nothing.
const SILENCERS: &[&str] = &["2>&1", "2>/dev/null", "2> /dev/null", ">/dev/null", "> /dev/null"];

/// Words of a tool, path or table that hold credentials.
const CREDENTIALS: &[&str] = &[
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "shadow",
    "credential",
    "credentials",
    "token",
    "tokens",
    "ssh",
    "gnupg",
    "netrc",
    "pgpass",
    "htpasswd",
    "keystore",
    "kubeconfig",
    "npmrc",
];

/// An effect, or the revealing of what was not to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Read,
    List,
    Create,
    Update,
    Delete,
    Send,
    Execute,
    Deploy,
    Pay,
    Grant,
    Login,
    Invoke,
    Reveal,
}

impl Deed {
    const ALL: [(Self, &'static str); 13] = [
        (Self::Read, "read"),
        (Self::List, "list"),
        (Self::Create, "create"),
        (Self::Update, "update"),
        (Self::Delete, "delete"),
        (Self::Send, "send"),
        (Self::Execute, "execute"),
        (Self::Deploy, "deploy"),
        (Self::Pay, "pay"),
        (Self::Grant, "grant"),
        (Self::Login, "login"),
        (Self::Invoke, "invoke"),
        (Self::Reveal, "reveal"),
    ];

    /// By the effect's wire name, or `reveal`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(deed, _)| *deed)
    }

    /// 0 looks, 1 changes or sends something, 2 cannot be taken back by whoever asked.
    pub(crate) fn level(self) -> u8 {
        match self {
            Self::Read | Self::List => 0,
            Self::Create | Self::Update | Self::Send | Self::Execute | Self::Login | Self::Invoke => 1,
            Self::Delete | Self::Deploy | Self::Pay | Self::Grant | Self::Reveal => 2,
        }
    }

    /// What the action does.
    ///
    /// The effect comes from the connector. It is raised, never lowered, by the first verb of the tool's name
    /// (`remove_attendee` is an update that deletes), by credentials in what is read, and replaced by what the
    /// programs of a shell command do.
    pub(crate) fn of(action: &Action) -> Self {
        let effect = Self::from(action.effect);
        match action.effect {
            Effect::Execute => command(action).map_or(effect, Self::of_command),
            Effect::Read | Effect::List if holds_credentials(action) => Self::Reveal,
            Effect::Create | Effect::Update | Effect::Invoke => verb(&action.tool.name)
                .filter(|deed| deed.level() > effect.level() || effect == Self::Invoke)
                .unwrap_or(effect),
            _ => effect,
        }
    }

    /// The gravest deed of the command's programs. What no list names executes.
    fn of_command(command: &str) -> Self {
        let command =
            SILENCERS.iter().fold(command.to_owned(), |command, silencer| command.replace(silencer, " "));
        let parts =
            command.split(['|', ';', '&', '\n', '`', '(', ')']).filter(|part| !part.trim().is_empty());
        let gravest = gravest(parts.map(Self::of_part));
        // A redirection writes, whatever the program only prints.
        if gravest.level() == 0 && command.contains('>') { Self::Execute } else { gravest }
    }

    /// What one program with its arguments does. Behind a wrapper every word may be a program.
    fn of_part(part: &str) -> Self {
        let words = part.split_whitespace().map(|word| word.trim_matches(['"', '\'', '{', '}', '$']));
        let words: Vec<_> = words.filter(|word| !word.contains('=')).collect();
        let first = Self::of_program(&words);
        let wrapper = words.iter().position(|word| WRAPPERS.contains(&base(word)));
        let wrapped =
            wrapper.into_iter().flat_map(|at| at + 1..words.len()).map(|at| Self::of_program(&words[at..]));
        let deletes = words.contains(&"-delete").then_some(Self::Delete);
        gravest(wrapped.chain(deletes).chain([first]))
    }

    /// The first word is the program, the next one that is no option its subcommand.
    fn of_program(words: &[&str]) -> Self {
        let programs = &Lexicon::get().programs;
        let Some((program, rest)) = words.split_first() else { return Self::Execute };
        let program = base(program);
        let subcommand = rest.iter().find(|word| !word.starts_with('-'));
        let both = subcommand.and_then(|second| programs.get(format!("{program}_{second}").as_str()));
        both.or_else(|| programs.get(program)).copied().unwrap_or(Self::Execute)
    }
}

/// Of two deeds of one level the one that is known better than to execute.
fn gravest(deeds: impl Iterator<Item = Deed>) -> Deed {
    deeds.max_by_key(|deed| (deed.level(), *deed != Deed::Execute)).unwrap_or(Deed::Execute)
}

/// The name of a program without its folder.
fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

impl From<Effect> for Deed {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => Self::Read,
            Effect::List => Self::List,
            Effect::Create => Self::Create,
            Effect::Update => Self::Update,
            Effect::Delete => Self::Delete,
            Effect::Send => Self::Send,
            Effect::Execute => Self::Execute,
            Effect::Deploy => Self::Deploy,
            Effect::Pay => Self::Pay,
            Effect::Grant => Self::Grant,
            Effect::Login => Self::Login,
            Effect::Invoke => Self::Invoke,
        }
    }
}

/// A set of deeds, and which of them a verb means first of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    set: u16,
    first: Option<Deed>,
}

impl Deeds {
    /// From names with commas between them; unknown ones are left out.
    pub(crate) fn parse(names: &str) -> Self {
        names
            .split(',')
            .filter_map(Deed::named)
            .fold(Self::default(), |deeds, deed| deeds.and(Self { set: 1 << deed as u16, first: Some(deed) }))
    }

    /// Both together; the first one stays first.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { set: self.set | other.set, first: self.first.or(other.first) }
    }

    /// Only what the verb means first of all: forbidding to translate does not forbid to read.
    pub(crate) fn only_first(self) -> Self {
        self.first.map_or(self, |deed| Self { set: 1 << deed as u16, first: Some(deed) })
    }

    /// The gravest.
    pub(crate) fn level(self) -> u8 {
        Deed::ALL.iter().filter(|(deed, _)| self.has(*deed)).map(|(deed, _)| deed.level()).max().unwrap_or(0)
    }

    /// Whether it is among them.
    pub(crate) fn has(self, deed: Deed) -> bool {
        self.set & (1 << deed as u16) != 0
    }

    fn first(self) -> Option<Deed> {
        self.first
    }
}

/// The text of the shell command, if there is one.
pub(crate) fn command(action: &Action) -> Option<&str> {
    let text = ["command", "cmd", "script"]
        .iter()
        .find_map(|key| action.parameters.get(*key).and_then(Value::as_str))?;
    Some(&text[..text.floor_char_boundary(COMMAND_BYTES_MAX)])
}

fn verb(tool: &str) -> Option<Deed> {
    let verbs = &Lexicon::get().verbs;
    let mut found = None;
    // Nobody asks to `get` alone, but tools are called so: `get_order` orders nothing.
    let deed = |word: &str| {
        if word == "get" { Some(Deed::Read) } else { verbs.english(word).and_then(Deeds::first) }
    };
    each_word(tool, |word| found = found.or_else(|| deed(word)));
    found
}

fn holds_credentials(action: &Action) -> bool {
    let mut found = false;
    let mut look = |text: &str| each_word(text, |word| found |= CREDENTIALS.contains(&word));
    look(&action.tool.name);
    action.facets.paths.iter().chain(&action.facets.tables).for_each(|text| look(text));
    found || action.facets.paths.iter().any(|path| is_private(path))
}

/// Files whose names give them away, though their words do not: `.env`, but not `.env.example`; private keys.
fn is_private(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_sample = [".example", ".sample", ".template", ".pub"].iter().any(|end| name.ends_with(end));
    !is_sample
        && (name.starts_with(".env")
            || name.starts_with("id_")
            || name.ends_with(".pem")
            || name.ends_with("admin.conf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Sketch;
    use serde_json::json;

    #[track_caller]
    fn check(want: Deed, effect: &str, tool: &str, facets: Value, parameters: Value) {
        let tool = json!({"name": tool, "namespace": "test"});
        let sketch = json!({"effect": effect, "facets": facets, "parameters": parameters, "tool": tool});
        let action = serde_json::from_value::<Sketch>(sketch).unwrap().action();
        assert_eq!(want, Deed::of(&action), "{action:?}");
    }

    #[test]
    fn a_command_is_the_gravest_thing_that_its_programs_do() {
        for (command, want) in [
            ("ls -la | grep x", Deed::Read),
            ("cargo test", Deed::Execute),
            ("cd /srv && /bin/rm -rf data", Deed::Delete),
            ("git log", Deed::Read),
            ("git add . && git push origin main", Deed::Send),
            ("terraform plan -out x", Deed::Read),
            ("terraform apply", Deed::Deploy),
            ("cat x; frobnicate", Deed::Execute),
            ("HOME=/tmp env", Deed::Reveal),
            ("cd app && ls 2>/dev/null", Deed::Read),
            ("echo x > /etc/motd", Deed::Execute),
            ("echo $(rm -r x)", Deed::Delete),
            ("find . -name '*.log' -delete", Deed::Delete),
            ("find . -exec /bin/rm {} +", Deed::Delete),
            ("timeout 5 bash -c 'git push'", Deed::Send),
            ("grep -rn rm src", Deed::Read),
            ("", Deed::Execute),
        ] {
            check(want, "execute", "Bash", json!({}), json!({"command": command}));
        }
    }

    #[test]
    fn to_read_credentials_is_to_reveal_them() {
        for (path, want) in [
            ("/home/ann/.ssh/config", Deed::Reveal),
            ("app/.env", Deed::Reveal),
            ("app/.env.example", Deed::Read),
            ("keys/id_ed25519", Deed::Reveal),
            ("keys/id_ed25519.pub", Deed::Read),
            ("src/main.rs", Deed::Read),
        ] {
            check(want, "read", "Read", json!({"paths": [path]}), json!({}));
        }
        check(Deed::Reveal, "read", "get_secret_value", json!({}), json!({}));
    }

    #[test]
    fn the_name_of_a_tool_raises_its_effect_and_never_lowers_it() {
        check(Deed::Delete, "update", "remove_attendee", json!({}), json!({}));
        check(Deed::Send, "invoke", "SendEmail-SendEmail", json!({}), json!({}));
        check(Deed::Pay, "pay", "list_payments", json!({}), json!({}));
        check(Deed::Update, "update", "update_ticket", json!({}), json!({}));
        check(Deed::Read, "invoke", "get_order", json!({}), json!({}));
        check(Deed::Invoke, "invoke", "frobnicate", json!({}), json!({}));
    }
}
