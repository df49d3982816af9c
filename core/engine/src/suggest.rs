//! A first draft of permits from what agents did: no wider than what was seen, and for people to read before it is
//! used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_schemas::{Assurance, Effect, Tool};

use crate::rule::slot;

/// More groups than anybody reads.
const GROUPS_MAX: usize = 5_000;
/// More tools of one server are the server.
const TOOLS_MAX: usize = 50;
/// Room for a number behind it.
const ID_BYTES_MAX: usize = 112;
const COMMENT_CHARS_MAX: usize = 100;

const HEAD: &str = "\
// A draft: one permit for every connector, kind of agent, effect and tool family that was seen at work. Seen does not
// mean right. Remove what should not be allowed, then `countersign policy check` and `countersign policy replay`.
";

/// An action that was allowed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The kind of agent; empty when the vendor does not say.
    pub agent_kind: &'a str,
    /// How far its identity could be believed.
    pub assurance: Assurance,
    /// The connector's instance.
    pub connector: &'a str,
    /// What it did.
    pub effect: Effect,
    /// With what.
    pub tool: &'a Tool,
}

/// What was seen so far, grouped. Bounded, whatever is seen.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    groups: BTreeMap<Key, Group>,
    /// Actions that found no room.
    dropped: u64,
}

/// Connector, kind of agent, effect, family.
type Key = (String, String, u8, Family);

/// Tools that one permit is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// The tools of an MCP server or tool set.
    Server(String),
    /// A tool that belongs to none, by its canonical name.
    Tool(String),
}

#[derive(Clone, Debug)]
struct Group {
    assurance: Assurance,
    count: u64,
    /// Names within the family, at most one more than are listed.
    tools: BTreeSet<String>,
}

impl Draft {
    /// Notes an action.
    pub fn note(&mut self, seen: &Seen<'_>) {
        let family = match &seen.tool.server {
            Some(server) => Family::Server(server.clone()),
            None => Family::Tool(seen.tool.canonical()),
        };
        let key = (seen.connector.to_owned(), seen.agent_kind.to_owned(), slot(seen.effect), family);
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.dropped += 1;
            return;
        }
        let blank = || Group { assurance: seen.assurance, count: 0, tools: BTreeSet::new() };
        let group = self.groups.entry(key).or_insert_with(blank);
        group.count += 1;
        group.assurance = group.assurance.min(seen.assurance);
        if group.tools.len() <= TOOLS_MAX {
            group.tools.insert(seen.tool.name.clone());
        }
    }

    /// How many permits it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many actions are not in it, because it was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The permits as Cedar text that [`crate::Policies::load`] accepts, ended by a newline.
    #[must_use]
    pub fn to_cedar(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut ids = BTreeSet::new();
        for (key, group) in &self.groups {
            let id = fresh(&id(key), &mut ids);
            text.push('\n');
            text.push_str(&permit(&id, key, group));
        }
        text
    }
}

fn permit(id: &str, (connector, kind, effect, family): &Key, group: &Group) -> String {
    let listed = matches!(family, Family::Server(_)) && group.tools.len() <= TOOLS_MAX;
    let mut conditions = vec![format!("context.agentKind == {}", quoted(kind))];
    // Level 0 is what everybody has.
    if group.assurance > Assurance::None {
        conditions.push(format!("context.assuranceLevel >= {}", group.assurance as i64));
    }
    if listed {
        let names: Vec<String> = group.tools.iter().map(|name| quoted(name)).collect();
        conditions.push(format!("[{}].contains(context.toolName)", names.join(", ")));
    }
    let (resource, name) = match family {
        Family::Server(server) => (format!("resource in Server::{}", quoted(server)), server),
        Family::Tool(tool) => (format!("resource == Tool::{}", quoted(tool)), tool),
    };
    let mut text = format!("// {}: seen {} times", comment(name), group.count);
    if matches!(family, Family::Server(_)) && !listed {
        let _written = write!(text, " with more than {TOOLS_MAX} tools, so the whole server is permitted");
    }
    let effect = Effect::ALL.get(usize::from(*effect)).copied().unwrap_or_default().as_str();
    let _written = write!(
        text,
        "\n@id(\"{id}\")\n@reason(\"seen {} times\")\n\
         permit (\n    principal in Connector::{},\n    action == Action::\"{effect}\",\n    {resource}\n)\n\
         when {{\n    {}\n}};\n",
        group.count,
        quoted(connector),
        conditions.join(" &&\n    "),
    );
    text
}

/// A string literal of Cedar.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// On one line, whatever it holds.
fn comment(text: &str) -> String {
    text.escape_debug().take(COMMENT_CHARS_MAX).collect()
}

fn id((connector, kind, effect, family): &Key) -> String {
    let effect = Effect::ALL.get(usize::from(*effect)).copied().unwrap_or_default().as_str();
    let (Family::Server(name) | Family::Tool(name)) = family;
    let parts = ["suggested", connector, kind, effect, name];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_./:".contains(c) { c } else { '-' };
    parts.join("/").chars().map(plain).take(ID_BYTES_MAX).collect()
}

/// The id, with a number behind it when it is taken.
fn fresh(id: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number: u64| format!("{id}-{number}"));
    let mut free = std::iter::once(id.to_owned()).chain(numbered).filter(|id| !taken.contains(id));
    let id = free.next().unwrap_or_default();
    taken.insert(id.clone());
    id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Code, Options, Policies, PolicySource, lint};

    fn tool() -> impl Strategy<Value = Tool> {
        (".*", prop::option::of(".*"), "[a-c]{1,2}").prop_map(|(namespace, server, name)| Tool {
            raw: name.clone(),
            name,
            namespace,
            server,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Names come from outside, and whatever they hold stays a name.
        #[test]
        fn a_draft_loads_and_has_no_finding(
            seen in prop::collection::vec((".*", ".*", 0..12_usize, tool(), any::<bool>()), 1..8)
        ) {
            let mut draft = Draft::default();
            for (connector, agent_kind, effect, tool, verified) in &seen {
                let assurance = if *verified { Assurance::OauthVerified } else { Assurance::None };
                draft.note(&Seen { agent_kind, assurance, connector, effect: Effect::ALL[*effect], tool });
            }
            let source = PolicySource { name: "draft.cedar".to_owned(), text: draft.to_cedar() };
            let policies = Policies::load(&[source], Options::default());
            let policies = policies.map_err(|errors| TestCaseError::fail(format!("{errors}\n{}", draft.to_cedar())))?;
            prop_assert_eq!(draft.len(), policies.len());
            let found = lint(&policies).unwrap();
            let odd = found.iter().filter(|problem| problem.code != Code::Suspicious);
            prop_assert_eq!(0, odd.count(), "{:?}", found);
        }
    }

    #[test]
    fn a_server_with_too_many_tools_is_permitted_whole() {
        let mut draft = Draft::default();
        for at in 0..200 {
            let server = Some("s".to_owned());
            let tool =
                Tool { name: format!("t{at}"), server, namespace: "mcp".to_owned(), raw: String::new() };
            let assurance = Assurance::None;
            draft.note(&Seen {
                agent_kind: "",
                assurance,
                connector: "c",
                effect: Effect::Read,
                tool: &tool,
            });
        }
        let text = draft.to_cedar();
        assert!(
            text.contains("seen 200 times with more than 50 tools") && !text.contains("toolName"),
            "{text}"
        );
    }
}
