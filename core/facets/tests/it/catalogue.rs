//! Catalogue files: what is refused, what comes first, and the draft for tools that are unknown.

use countersign_facets::{Catalogue, CatalogueSource, enrich};
use countersign_schemas::{Effect, Tool};
use serde_json::json;

use crate::corpus::action;

fn load(text: &str) -> Result<Catalogue, String> {
    let source = CatalogueSource { name: "own.toml".to_owned(), text: text.to_owned() };
    Catalogue::load(&[source]).map_err(|errors| errors.to_string())
}

fn tool(namespace: &str, server: &str, name: &str) -> Tool {
    let server = (server != "-").then(|| server.to_owned());
    Tool { name: name.to_owned(), namespace: namespace.to_owned(), raw: name.to_owned(), server }
}

#[test]
fn the_built_in_files_have_no_errors() {
    let catalogue = Catalogue::load(&[]).unwrap();
    assert_eq!(catalogue, Catalogue::builtin());
    assert!(catalogue.lookup(&tool("claude-code", "-", "Bash")).is_some());
    assert!(catalogue.lookup(&tool("mcp", "x", "get_report")).is_none());
}

#[test]
fn every_problem_is_told_with_its_line() {
    let text = r#"
extra = 1
[tools."mcp/a"]
effect = "erase"
[tools."mcp/a/b"]
reversable = true
path = 3
external = "yes"
parameters = { limit = "int" }
[tools]
"mcp/c/d" = 1
"#;
    let want = "own.toml:2: unknown key `extra`; known are `inside` and `tools`
own.toml:3: `mcp/a` is not `namespace/server/name`; `-` stands for no server
own.toml:4: `effect` is `erase`; it can be `read`, `list`, `create`, `update`, `delete`, `send`, `execute`, `deploy`, `pay`, \
`grant`, `login`, `invoke`
own.toml:6: unknown key `reversable`; known are `effect`, `external`, `parameters`, `reversible`, `sensitivity`, `untrusted`, \
and the roles `path`, `url`, `host`, `command`, `patch`, `sql`, `query`, `recipients`, `table`, `repository`, `amount_minor`, \
`amount`, `currency`, `environment`
own.toml:7: `path` must be a text, not integer
own.toml:8: `external` must be true or false, not string
own.toml:9: `limit` is `int`; it can be `string`, `integer`, `number`, `boolean`, `array`, `object`
own.toml:11: `mcp/c/d` must be a table, not integer";
    assert_eq!(want, load(text).unwrap_err());
    assert!(load("a = [").unwrap_err().starts_with("own.toml:1: "));
}

#[test]
fn an_entry_of_the_operator_replaces_the_built_in_one_whole() {
    let catalogue = load("[tools.\"claude-code/-/webfetch\"]\neffect = \"send\"\n").unwrap();
    let entry = catalogue.lookup(&tool("claude-code", "-", "WebFetch")).unwrap();
    assert_eq!((Some(Effect::Send), None, false), (entry.effect, entry.external, entry.untrusted));
}

#[test]
fn the_exact_name_comes_first_then_the_pattern_with_the_most_letters() {
    let catalogue = load(
        r#"
        [tools]
        "mcp/*/*" = { effect = "list" }
        "mcp/shop/*" = { effect = "read" }
        "mcp/*/buy_*_now" = { effect = "create" }
        "mcp/shop/buy_*" = { effect = "update" }
        "mcp/shop/buy_all_now" = { effect = "deploy" }
        "#,
    )
    .unwrap();
    for (server, name, want) in [
        ("other", "look", Effect::List),
        ("shop", "look", Effect::Read),
        ("other", "buy_it_now", Effect::Create),
        ("other", "buy_now", Effect::List),
        ("shop", "buy_it", Effect::Update),
        ("SHOP", "Buy_All_Now", Effect::Deploy),
    ] {
        assert_eq!(
            Some(want),
            catalogue.lookup(&tool("mcp", server, name)).unwrap().effect,
            "{server}/{name}"
        );
    }
}

#[test]
fn our_own_domains_tell_whether_data_leaves() {
    let catalogue = load("inside = [\"example.com\"]\n").unwrap();
    for (to, want) in [
        ("ann@example.com", Some(false)),
        ("ann@mail.example.com, bob@example.com", Some(false)),
        ("ann@example.com; eve@notexample.com", Some(true)),
        ("ann@example.com.evil.example", Some(true)),
        ("ann@localhost", Some(true)),
        ("the-team", None),
        ("the-team, eve@evil.example", Some(true)),
        ("", None),
    ] {
        let mut call =
            action("mcp/mail/send_mail", Effect::Invoke, json!({"to": to}).as_object().unwrap().clone());
        enrich(&catalogue, &mut call);
        assert_eq!(want, call.facets.external, "{to}");
    }
}

#[test]
fn a_draft_names_unknown_tools_once_and_can_be_loaded() {
    let seen = [
        ("mcp/shop/cancelAndRefund", json!({"order": 7, "to": "a@b.example", "note": null})),
        ("mcp/shop/cancelAndRefund", json!({"order": "x"})),
        ("mcp/we\"ird/get_list", json!({})),
        ("mcp/odd/a\u{7f}\n]b", json!({"x\"y\n": 1.5})),
        ("claude-code/-/Bash", json!({"command": "ls"})),
        ("mcp/greedy/*", json!({})),
    ];
    let actions: Vec<_> = seen
        .iter()
        .map(|(tool, parameters)| action(tool, Effect::Invoke, parameters.as_object().unwrap().clone()))
        .collect();
    let draft = Catalogue::builtin().suggest(actions.iter());
    let head =
        "# Seen 2 times.\n[tools.\"mcp/shop/cancelAndRefund\"]\neffect = \"pay\"\nrecipients = [\"to\"]\n";
    assert!(draft.contains(head), "{draft}");
    assert!(!draft.contains("Bash"), "{draft}");
    let catalogue = load(&draft).unwrap();
    let unknown: Vec<&str> = actions
        .iter()
        .filter(|action| catalogue.lookup(&action.tool).is_none())
        .map(|action| action.tool.name.as_str())
        .collect();
    assert_eq!(["*"], unknown.as_slice(), "{draft}");
    assert!(draft.ends_with("# 1 more calls of tools that are not listed.\n"), "{draft}");
}
