//! Walks `fixtures/facets`: what must be found in a text, and what must not.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use countersign_facets::{Catalogue, enrich, shell, sql, url};
use countersign_schemas::{Action, Effect, Facets, Tool};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn cases<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/facets").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Gathers what differs, so that one run shows every case that fails.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn same<T: PartialEq + Debug>(&mut self, case: &str, what: &str, want: T, found: T) {
        if want != found {
            self.0.push(format!("{case}\n    {what}: want {want:?}, found {found:?}"));
        }
    }

    fn holds(&mut self, case: &str, what: &str, want: &[String], found: &[String]) {
        let missing: Vec<&String> = want.iter().filter(|entry| !found.contains(entry)).collect();
        if !missing.is_empty() {
            self.0.push(format!("{case}\n    {what}: missing {missing:?} in {found:?}"));
        }
    }

    fn lacks(&mut self, case: &str, what: &str, unwanted: &[String], found: &[String]) {
        let there: Vec<&String> = unwanted.iter().filter(|entry| found.contains(entry)).collect();
        if !there.is_empty() {
            self.0.push(format!("{case}\n    {what}: has {there:?} in {found:?}"));
        }
    }

    #[track_caller]
    fn assert_empty(self) {
        assert!(self.0.is_empty(), "{} cases:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn flags(raised: &[(bool, &str)]) -> BTreeSet<String> {
    raised.iter().filter(|(raised, _)| *raised).map(|(_, name)| (*name).to_owned()).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShellCase {
    text: String,
    #[serde(default, rename = "note")]
    _note: String,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    flags: BTreeSet<String>,
    #[serde(default)]
    without: Vec<String>,
}

#[test]
fn shell_commands_show_what_they_start_touch_and_reach() {
    let mut report = Report::default();
    for case in cases::<ShellCase>("shell.json") {
        let found = shell::read(&case.text);
        let hosts: Vec<String> = found.contacts.iter().map(|contact| contact.host.clone()).collect();
        report.holds(&case.text, "programs", &case.programs, &found.programs);
        report.lacks(&case.text, "programs", &case.without, &found.programs);
        report.holds(&case.text, "reads", &case.reads, &found.reads);
        report.holds(&case.text, "writes", &case.writes, &found.writes);
        report.holds(&case.text, "hosts", &case.hosts, &hosts);
        let raised = flags(&[
            (found.dynamic, "dynamic"),
            (found.uploads, "uploads"),
            (!found.complete, "unparsed"),
            (!found.code.is_empty(), "code"),
            (!found.sql.is_empty(), "sql"),
        ]);
        report.same(&case.text, "flags", case.flags, raised);
    }
    report.assert_empty();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunCase {
    text: String,
    ran: Vec<String>,
}

#[test]
fn every_program_that_bash_ran_is_found() {
    let mut report = Report::default();
    for case in cases::<RunCase>("ran_by_bash.json") {
        report.holds(&case.text, "programs", &case.ran, &shell::read(&case.text).programs);
    }
    report.assert_empty();
}

/// Wherever a command stands, its programs are found: the frames are what attacks are wrapped in.
#[test]
fn programs_are_found_in_every_frame() {
    const FRAMES: [&str; 12] = [
        "true; #",
        "(#)",
        "{ #\n}",
        "if true; then\n#\nfi",
        "while read x; do\n#\ndone < f",
        "echo \"$(#\n)\"",
        "cat <(#\n)",
        "f() {\n#\n}\nf",
        "case $x in a) #\n;; esac",
        "true && time #",
        "cat <<E\n$(#\n)\nE",
        "x=\"${y:-$(#\n)}\"",
    ];
    let mut report = Report::default();
    for case in cases::<ShellCase>("shell.json").iter().filter(|case| !case.flags.contains("unparsed")) {
        for frame in FRAMES {
            // A here-document within a here-document or a subshell on one line is another text.
            if case.text.contains("<<") && (frame.contains("<<") || !frame.contains("#\n")) {
                continue;
            }
            let text = frame.replace('#', &case.text);
            let found = shell::read(&text);
            report.holds(&text, "programs", &case.programs, &found.programs);
        }
    }
    report.assert_empty();
}

#[test]
fn the_word_scan_finds_the_programs_of_plain_commands() {
    let mut report = Report::default();
    for text in [
        "Remove-Item -Recurse C:\\x; curl http://a.example",
        "del /q x & shutdown /s",
        "a | b\nc && d",
        "x; y",
    ] {
        let found = shell::scan(text);
        let want: Vec<String> = text
            .split(['|', ';', '&', '\n'])
            .filter_map(|segment| segment.split_whitespace().next().map(str::to_owned))
            .collect();
        report.holds(text, "programs", &want, &found.programs);
        report.same(text, "complete", false, found.complete);
    }
    report.assert_empty();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlCase {
    text: String,
    effect: Effect,
    statements: usize,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
    flags: BTreeSet<String>,
}

#[test]
fn sql_shows_its_effect_and_tables() {
    let mut report = Report::default();
    for case in cases::<SqlCase>("sql.json") {
        let found = sql::read(&case.text);
        report.same(&case.text, "effect", case.effect, found.effect);
        report.same(&case.text, "statements", case.statements, found.statements);
        report.same(&case.text, "reads", case.reads, found.reads);
        report.same(&case.text, "writes", case.writes, found.writes);
        let raised = flags(&[(found.unbounded, "unbounded"), (!found.complete, "unparsed")]);
        report.same(&case.text, "flags", case.flags, raised);
    }
    report.assert_empty();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UrlCase {
    /// A URL, or a host where it has no `://`.
    text: String,
    host: Option<String>,
    #[serde(default)]
    place: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    flags: BTreeSet<String>,
}

#[test]
fn urls_show_the_host_that_a_client_would_reach() {
    let mut report = Report::default();
    for case in cases::<UrlCase>("url.json") {
        let bare = !case.text.contains("://");
        let found = url::of_url(&case.text).or_else(|| url::of_host(&case.text).filter(|_| bare));
        report.same(
            &case.text,
            "host",
            case.host.clone(),
            found.as_ref().map(|contact| contact.host.clone()),
        );
        let Some(found) = found else { continue };
        report.same(&case.text, "place", case.place, format!("{:?}", found.place));
        report.same(&case.text, "port", case.port, found.port);
        let raised = flags(&[(found.has_userinfo, "userinfo"), (found.is_international, "international")]);
        report.same(&case.text, "flags", case.flags, raised);
    }
    report.assert_empty();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolCase {
    /// `namespace/server/name`.
    tool: String,
    /// What the connector knew.
    #[serde(default)]
    known: Effect,
    parameters: Map<String, Value>,
    effect: Effect,
    /// The facets, exactly.
    facets: Facets,
    /// The signals, exactly.
    signals: BTreeSet<String>,
}

#[test]
fn calls_get_their_effect_facets_and_signals_and_keep_them() {
    let catalogue = Catalogue::builtin();
    let mut report = Report::default();
    for case in cases::<ToolCase>("tools.json") {
        let mut action = action(&case.tool, case.known, case.parameters.clone());
        enrich(&catalogue, &mut action);
        let name = format!("{} {}", case.tool, Value::Object(case.parameters));
        report.same(&name, "effect", case.effect, action.effect);
        report.same(&name, "facets", json!(case.facets), json!(action.facets));
        report.same(&name, "signals", case.signals, action.risk_signals.iter().cloned().collect());
        let once = action.clone();
        enrich(&catalogue, &mut action);
        report.same(&name, "twice", once, action);
    }
    report.assert_empty();
}

pub(crate) fn action(tool: &str, effect: Effect, parameters: Map<String, Value>) -> Action {
    let mut parts = tool.splitn(3, '/');
    let mut part = || parts.next().unwrap().to_owned();
    let (namespace, server, name) = (part(), part(), part());
    let server = (server != "-").then_some(server);
    let tool = Tool { raw: name.clone(), name, namespace, server };
    let mut action: Action = serde_json::from_value(json!({
        "actionId": "act_00000000000000000000000000",
        "effect": effect,
        "identity": {"agent": {"id": "a"}, "assurance": "none", "verifiedBy": "none"},
        "operation": "test",
        "session": {"id": "ses_00000000000000000000000000", "vendorId": "s"},
        "source": {"connector": "c", "event": "e", "vendor": "v"},
        "timestamp": "2026-11-24T05:00:00.000Z",
        "tool": tool,
    }))
    .unwrap();
    action.parameters = parameters;
    action
}
