//! `countersign policy`: what it finds in sets, and what it makes of recorded decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use countersign_schemas::{Timestamp, Verdict};
use countersign_service::export::{self, Filter};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::cli::{Home, action, check, expect, program, repository, text};
use crate::support::{self, NOON, Plan, Site};

const DONE: i32 = 0;
const NO: i32 = 1;
const INCOMPLETE: i32 = 2;

/// Every code that a small set can have.
const CODES: [&str; 12] = [
    "always-true",
    "annotation",
    "duplicate",
    "duplicate-id",
    "invalid",
    "missing-reason",
    "nothing-permitted",
    "relies-on-unpopulated",
    "shadowed",
    "syntax",
    "type-error-vanishes",
    "unreachable",
];

#[test]
fn every_finding_is_told_with_its_place_and_what_to_do() {
    let mut codes = BTreeSet::new();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(repository("fixtures/policies")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    for case in &cases {
        let run = |args: &[&str]| {
            let mut command = program(&[&["policy", "check", "."], args].concat());
            command.current_dir(case).output().unwrap()
        };
        let told = text(&run(&[]).stdout);
        // The digest of the set depends on the schema and on Cedar's version.
        let findings: Vec<&str> = told.lines().filter(|line| !line.starts_with("ok: ")).collect();
        let exits = [&[][..], &["--strict"]].map(|args| run(args).status.code().unwrap());
        let made = format!("exit {}, with --strict {}\n\n{}\n", exits[0], exits[1], findings.join("\n"));
        expect(&case.join("expected.txt"), &format!("{}\n", made.trim_end()));
        let json: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
        for level in ["errors", "warnings", "infos"] {
            let found = json[level].as_array().unwrap().iter();
            codes.extend(found.map(|finding| finding["code"].as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(CODES.map(str::to_owned).into_iter().collect::<BTreeSet<_>>(), codes, "each code has a case");
}

#[test]
fn the_starter_set_has_no_finding_that_matters() {
    let base = repository("policies/base");
    let told = program(&["policy", "check", base.to_str().unwrap(), "--strict"]).output().unwrap();
    check(told, DONE);
}

#[test]
fn too_little_coverage_fails_and_names_what_no_case_satisfies() {
    let dir = tempfile::tempdir().unwrap();
    let set = "@id(\"read\") @reason(\"look\") permit (principal, action == Action::\"read\", resource);\n\
               @id(\"pay\") @reason(\"no\") forbid (principal, action == Action::\"pay\", resource)\n\
               when { context.facets.amountMinor > 5 };";
    fs::write(dir.path().join("a.cedar"), set).unwrap();
    let cases = dir.path().join("cases.json");
    let case = |effect: &str, facets: Value, verdict: &str| {
        json!({
            "name": effect, "action": {"effect": effect, "tool": "a/-/b", "facets": facets},
            "expect": {"verdict": verdict},
        })
    };
    let all = [
        case("read", json!({}), "ALLOW"),
        case("pay", json!({"amountMinor": 1}), "DENY"),
        case("pay", json!({}), "DENY"),
    ];
    fs::write(&cases, json!({"cases": all}).to_string()).unwrap();
    let (dir, cases) = (dir.path().to_str().unwrap(), cases.to_str().unwrap());
    let run = |percent: &str, exit: i32| {
        let mut command = program(&["--json", "policy", "test", dir, cases, "--min-coverage", percent]);
        serde_json::from_slice::<Value>(&check(command.output().unwrap(), exit).stdout).unwrap()
    };
    let coverage = run("50", DONE)["coverage"].clone();
    assert_eq!(coverage, run("51", NO)["coverage"]);
    assert_eq!((&json!(50), &json!(["pay"])), (&coverage["percent"], &coverage["neverSatisfied"]));
    let pay = json!({"faults": 0, "id": "pay", "notSatisfied": 1, "satisfied": 0, "undecidable": 1});
    assert_eq!(pay, coverage["policies"][0]);
}

#[test]
fn a_difference_is_told_by_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let set = |name: &str, text: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.cedar"), text).unwrap();
        folder.to_str().unwrap().to_owned()
    };
    let policy = |id: &str, more: &str, scope: &str, when: &str| {
        format!(
            "@id(\"{id}\") @reason(\"r\") {more} forbid (principal, action == Action::\"{scope}\", resource) when {{ {when} }};\n"
        )
    };
    let same = "@id(\"p\") permit (principal, action, resource);\n";
    let a = [
        same.to_owned(),
        policy("gone", "", "pay", "context.human == \"\""),
        policy("condition", "", "pay", "context.human == \"\""),
        policy("scope", "", "pay", "context.human == \"\""),
        policy("outcome", "", "pay", "context.human == \"\""),
        policy("priority", "@priority(\"7\")", "pay", "context.human == \"\""),
    ];
    let b = [
        format!("// Layout does not count.\n{}", same.replace(", ", ",\n ")),
        policy("condition", "", "pay", "context.human == \"x\""),
        policy("scope", "", "send", "context.human == \"\""),
        policy("outcome", "@decision(\"defer\")", "pay", "context.human == \"\""),
        policy("priority", "@priority(\"8\")", "pay", "context.human == \"\""),
        policy("new", "", "pay", "context.human == \"\""),
    ];
    let (a, b) = (set("a", &a.concat()), set("b", &b.concat()));
    check(program(&["policy", "diff", &a, &a]).output().unwrap(), DONE);
    let told = check(program(&["--json", "policy", "diff", &a, &b]).output().unwrap(), NO);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(("gone", "new"), (id(&told["removed"][0]), id(&told["added"][0])));
    let changed = told["changed"].as_array().unwrap().iter();
    let changed: BTreeMap<&str, &Value> = changed.map(|change| (id(change), &change["parts"])).collect();
    for part in ["condition", "scope", "outcome", "priority"] {
        assert_eq!(json!([part]), *changed[part], "{changed:?}");
    }
    assert_eq!(4, changed.len());
    let shown = text(&program(&["policy", "diff", &a, &b]).output().unwrap().stdout);
    assert!(shown.contains("priority 7 -> 8") && shown.contains("DENY -> DEFER"), "{shown}");
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// Policies that read whatever of a session follows from its receipts.
const REMEMBERING: &str = r#"
@id("allow") @reason("all") permit (principal, action, resource);
@id("denied") @reason("d") forbid (principal, action == Action::"execute", resource)
when { context.session.deniedCount >= 3 && context.session.recentDenied < 6 };
@id("first") @reason("f") forbid (principal, action == Action::"delete", resource)
when { !context.session.effects.contains("delete") };
@id("count") @reason("c") forbid (principal, action == Action::"create", resource)
when { context.session.actionCount > 4 && context.session.lastMinute > 2 };
@id("label") @decision("step_up") @approvers("a") @reason("l") forbid (principal, action == Action::"send", resource)
when { context.session.labels.contains("RESTRICTED") || context.session.untrusted };
@id("tool") @reason("t") forbid (principal, action == Action::"update", resource)
when { context.session.recentTools.contains("warehouse/-/query") && context.session.secondsSinceStart > 100 };
@id("cut") @decision("modify") @modify("[{\"op\":\"replace\",\"path\":\"/limit\",\"value\":10}]") @reason("m")
forbid (principal, action == Action::"list", resource) when { context.params has limit && context.params.limit > 10 };
@id("risk") @reason("r") forbid (principal, action == Action::"pay", resource)
when { context.risk.unusual || context.session.ended || context.session.hasRequest };
"#;

/// Exports what the site has recorded.
async fn exported(site: &Site, disclose: bool) -> PathBuf {
    let filter = Filter { disclose, ..Filter::default() };
    let lines = export::stream(site.service.pipeline().store.clone(), filter).await.unwrap();
    let bytes: Vec<bytes::Bytes> = lines.try_collect().await.unwrap();
    let path = site.dir.path().join(format!("log-{disclose}.ndjson"));
    fs::write(&path, bytes.concat()).unwrap();
    path
}

/// Some hundred actions in a few sessions, over some minutes.
async fn busy_site() -> Site {
    let site = Site::with(Plan { policies: Some(REMEMBERING), ..Plan::default() }).await;
    let effects = ["read", "execute", "delete", "create", "send", "update", "list", "pay", "list", "delete"];
    for at in 0..120_usize {
        site.clock.set(Timestamp(NOON.0 + 7_000 * i64::try_from(at).unwrap()));
        let (effect, session) = (effects[(at * 7 + at / 10) % effects.len()], format!("s-{}", at % 3));
        let id = format!("a-{at}");
        site.ask(&id, support::action(&id, &session, effect, json!({"limit": at}))).await;
    }
    site
}

fn replay(candidate: &Path, from: &Path, fail_on: &str, exit: i32) -> Value {
    let (candidate, from) = (candidate.to_str().unwrap(), from.to_str().unwrap());
    let args = ["--json", "policy", "replay", "--candidate", candidate, "--from", from, "--fail-on", fail_on];
    serde_json::from_slice(&check(program(&args).output().unwrap(), exit).stdout).unwrap()
}

/// A candidate: the site's own set with something more.
fn candidate(site: &Site, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
    let dir = site.dir.path().join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("all.cedar"), edit(REMEMBERING)).unwrap();
    dir
}

#[tokio::test]
async fn under_the_same_set_every_decision_is_made_again_as_it_was() {
    let site = busy_site().await;
    let log = exported(&site, true).await;
    let report = replay(&site.dir.path().join("policies"), &log, "any", DONE);
    let decided = site.verdicts().await;
    assert_eq!((json!(decided.len()), json!([])), (report["unchanged"].clone(), report["changes"].clone()));
    for verdict in [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp] {
        assert!(decided.contains(&verdict), "the test is to cover {verdict}");
    }
}

#[tokio::test]
async fn what_a_candidate_would_change_is_counted_and_a_weaker_one_is_told_apart() {
    let site = busy_site().await;
    let log = exported(&site, true).await;
    let verdicts = site.verdicts().await;
    let asked = verdicts.iter().filter(|verdict| **verdict == Verdict::StepUp).count();
    let stricter =
        candidate(&site, "stricter", |set| set.replace("@decision(\"step_up\") @approvers(\"a\")", ""));
    let report = replay(&stricter, &log, "weaker", DONE);
    let change = &report["changes"][0];
    assert_eq!(
        (json!("STEP_UP"), json!("DENY"), json!(asked), json!(false)),
        (change["old"].clone(), change["new"].clone(), change["count"].clone(), change["weaker"].clone())
    );
    assert_eq!(json!(["label"]), change["examples"][0]["newPolicies"]);
    replay(&stricter, &log, "any", NO);
    let other_limit = candidate(&site, "other", |set| set.replace("value\\\":10}", "value\\\":11}"));
    let report = replay(&other_limit, &log, "weaker", NO);
    let mut changes = report["changes"].as_array().unwrap().iter();
    assert!(changes.any(|change| (&json!("MODIFY"), &json!("MODIFY")) == (&change["old"], &change["new"])));
    let weaker = candidate(&site, "weaker", |set| set.replace("deniedCount >= 3", "deniedCount >= 1000"));
    let report = replay(&weaker, &log, "weaker", NO);
    assert_eq!(
        (json!("DENY"), json!("ALLOW")),
        (report["changes"][0]["old"].clone(), report["changes"][0]["new"].clone())
    );
}

#[tokio::test]
async fn what_receipts_do_not_tell_counts_only_where_it_could_change_the_answer() {
    let site = busy_site().await;
    let log = exported(&site, true).await;
    let person = |priority: u32, effect: &str| {
        format!(
            "{REMEMBERING}\n@id(\"person\") @priority(\"{priority}\") @reason(\"p\")\n\
             forbid (principal, action == Action::\"{effect}\", resource)\n\
             when {{ context.person.labels.contains(\"PII\") }};"
        )
    };
    let reads = site.receipts().await;
    let reads = reads.iter().map(|leaf| export::statement_of(&leaf.bytes));
    let reads = reads.filter(|of| of["predicate"]["action"]["effect"] == "read").count();
    assert!(reads > 5);
    let matters = candidate(&site, "matters", |_| person(50, "read"));
    let missed = replay(&matters, &log, "any", INCOMPLETE)["notReplayable"].clone();
    assert_eq!(
        (json!(reads), json!({"person.labels": reads}), json!({"person": reads})),
        (missed["count"].clone(), missed["needs"].clone(), missed["policies"].clone())
    );
    let outranked = candidate(&site, "outranked", |_| person(200, "read"));
    replay(&outranked, &log, "any", DONE);
    // Without disclosures nobody knows the limit; what reads no parameter is replayed all the same.
    let bare = exported(&site, false).await;
    let report = replay(&site.dir.path().join("policies"), &bare, "any", INCOMPLETE);
    assert_eq!(
        json!(["cut"]),
        json!(report["notReplayable"]["policies"].as_object().unwrap().keys().collect::<Vec<_>>())
    );
    assert_eq!(json!([]), report["changes"]);
    assert!(report["unchanged"].as_u64().unwrap() > 60, "{report}");
}

#[tokio::test]
async fn a_drafted_set_is_sound_and_allows_what_was_allowed_and_nothing_else() {
    let site = busy_site().await;
    let log = exported(&site, true).await;
    let dir = site.dir.path().join("drafted");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("suggested.cedar");
    let args = ["policy", "suggest", "--from", log.to_str().unwrap(), "-o", file.to_str().unwrap()];
    check(program(&args).output().unwrap(), DONE);
    check(program(&["policy", "check", dir.to_str().unwrap(), "--strict"]).output().unwrap(), DONE);
    let report = replay(&dir, &log, "none", DONE);
    for change in report["changes"].as_array().unwrap() {
        assert_ne!("ALLOW", change["old"], "{change}");
    }
}

#[tokio::test]
async fn a_receipt_is_explained_by_its_policies_and_by_what_would_be_decided_now() {
    let home = Home::new();
    let server = home.serve();
    server.ask("1", action("1", "read", json!({}))).await;
    let asked = server.ask("2", action("2", "grant", json!({}))).await;
    let receipt = asked["receipt_id"].as_str().unwrap();
    let told = server.json(DONE, &["policy", "explain", receipt]);
    assert_eq!(json!(true), told["sameBundle"], "{told}");
    let policy = &told["policies"][0];
    assert_eq!(
        ("rights-need-two-approvals", "as recorded"),
        (id(policy), policy["status"].as_str().unwrap())
    );
    assert!(policy["text"].as_str().unwrap().contains("@quorum(\"2\")"));
    assert_eq!("STEP_UP", told["now"]["explanation"]["decision"]["verdict"]);

    fs::write(home.path("policies/base/money.cedar"), "").unwrap();
    let shown = text(&server.run(DONE, &["policy", "explain", receipt]).stdout);
    assert!(shown.contains("another set") && shown.contains("rights-need-two-approvals: gone"), "{shown}");
    assert!(shown.contains("now: DENY"), "{shown}");
    server.stop();
    let log = ["--offline", "--since", "1h"];
    let policies = home.path("policies");
    let candidate = ["policy", "replay", "--candidate", policies.to_str().unwrap()];
    let report = home.json(DONE, &[&candidate[..], &log].concat());
    assert_eq!((json!(2), json!(1)), (report["decisions"].clone(), report["changes"][0]["count"].clone()));
    assert_eq!(told["predicate"], home.json(DONE, &["policy", "explain", receipt, "--offline"])["predicate"]);
    let drafted = text(&home.run(DONE, &["policy", "suggest", "--offline"]).stdout);
    assert!(drafted.contains("action == Action::\"read\"") && !drafted.contains("grant"), "{drafted}");
}
