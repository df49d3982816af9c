//! What is refused, all at once, with its place.

use countersign_engine::{Policies, PolicySource};

use crate::{load, options, try_load};

/// The problems of a text, one a line.
fn problems(text: &str) -> String {
    try_load(text, options()).expect_err(text).to_string()
}

#[track_caller]
fn check(text: &str, want: &str) {
    let problems = problems(text);
    assert!(problems.contains(want), "{want}\n--- is not in\n{problems}");
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = r#"// A comment; with "a quote.
permit (principal, action, resource);

@id("a") @reason("; // not the end")
forbid (principal, action, resource) when { context.nowhere == 1 };
@id("a") forbid (principal, action, resource);
  @id("t") @reason("r") forbid (principal == ?principal, action, resource);
"#;
    let second =
        PolicySource { name: "b.cedar".to_owned(), text: "permit (principal, action resource);".to_owned() };
    let first = PolicySource { name: "a.cedar".to_owned(), text: text.to_owned() };
    let errors = Policies::load(&[first, second], options()).unwrap_err();
    let places: Vec<_> = errors.0.iter().map(|p| (p.file.as_str(), p.line, p.policy.as_deref())).collect();
    assert_eq!(
        [
            ("a.cedar", Some(7), None),
            ("a.cedar", Some(2), None),
            ("b.cedar", Some(1), None),
            ("a.cedar", Some(6), Some("a")),
            ("a.cedar", Some(6), Some("a")),
        ]
        .as_slice(),
        places.as_slice(),
        "{errors}"
    );
}

#[test]
fn annotations_that_mean_nothing_or_the_wrong_thing_are_refused() {
    let forbid =
        |annotations: &str| format!(r#"@id("a") {annotations} forbid (principal, action, resource);"#);
    let step_up = |annotations: &str| forbid(&format!(r#"@reason("r") @decision("step_up") {annotations}"#));
    let permit =
        |annotations: &str| format!(r#"@id("a") {annotations} permit (principal, action, resource);"#);
    check(&forbid(""), "`@reason` is missing");
    check(&forbid(r#"@reason(" ")"#), "`@reason` is empty");
    check(&forbid(r#"@reason("r") @decision("allow")"#), "does not fit a forbid");
    check(&forbid(r#"@reason("r") @decision("block")"#), "a forbid takes");
    check(&permit(r#"@decision("deny")"#), "does not fit a permit");
    check(&permit(r#"@class("forbidden")"#), "does not fit ALLOW");
    check(&permit(r#"@timeout("PT1M")"#), "`@timeout` has no meaning for ALLOW");
    check(&forbid(r#"@reason("r") @class("secret")"#), "must be \"forbidden\" or \"context\"");
    check(&forbid(r#"@reason("r") @prority("1")"#), "did you mean `@priority`?");
    check(&forbid(r#"@reason("r") @priority("-1")"#), "must be a whole number");
    check(&forbid(r#"@reason("r") @severity("huge")"#), "must be \"info\"");
    check(&forbid(r#"@reason("r") @threshold("80")"#), "is not supported");
    check(&step_up(""), "`@approvers` is missing");
    check(&step_up(r#"@approvers("a b")"#), "must be names without spaces");
    check(&step_up(r#"@approvers("group:")"#), "a group without a name");
    check(&step_up(r#"@approvers("ann, bob") @quorum("3")"#), "wants 3 but `@approvers` names 2");
    check(&step_up(r#"@approvers("ann, ann") @quorum("2")"#), "wants 2 but `@approvers` names 1");
    check(&step_up(r#"@approvers("ann") @quorum("0")"#), "must be a whole number");
    check(&step_up(r#"@approvers("ann") @timeout("30 minutes")"#), "must be an ISO 8601 duration");
    check(&step_up(r#"@approvers("ann") @on_timeout("allow")"#), "can only be \"deny\"");
    check(&forbid(r#"@reason("r") @decision("modify")"#), "`@modify` is missing");
    check(&forbid(r#"@reason("r") @decision("modify") @modify("[{}]")"#), "is not an RFC 6902 patch");
    check(&forbid(r#"@reason("r") @decision("defer") @approvers("ann")"#), "is for its escalation");
    check(
        &forbid(r#"@reason("r") @decision("defer") @on_timeout("allow")"#),
        "must be \"deny\" or \"step_up\"",
    );
    check(r#"@id("a b") permit (principal, action, resource);"#, "`@id` must be");
    assert!(try_load(&step_up(r#"@approvers("ann, group:x") @quorum("3")"#), options()).is_ok());
}

#[test]
fn a_policy_that_can_never_match_is_refused() {
    check(r#"@id("a") permit (principal in Server::"x", action, resource);"#, "`a`");
    check(
        r#"@id("a") @reason("r") forbid (principal, action, resource) when { !(context.session has request) };"#,
        "hasRequest",
    );
}

#[test]
fn types_and_guards_are_checked() {
    let when =
        |condition: &str| format!(r#"@id("a") permit (principal, action, resource) when {{ {condition} }};"#);
    check(&when("context.params.limit > 1"), "limit");
    check(&when("context.facets.hosts == \"a\""), "a.cedar:1:");
    check(&when("context.session.label.contains(\"x\")"), "did you mean");
    check(&when("ip(\"300.1.1.1\").isLoopback()"), "a.cedar:1:");
    check(r#"@id("a") permit (principal, action == Action::"reed", resource);"#, "Action::\"read\"");
}

#[test]
fn hashes_do_not_see_layout_but_see_everything_else() {
    let hash = |text: &str| load(text).bundle_sha256().to_owned();
    let base = r#"@id("a") permit (principal, action, resource);"#;
    let other = r#"@id("b") permit (principal, action, resource);"#;
    assert_eq!(hash(base), hash("// note\n@id(\"a\")\n  permit(principal,action,resource) ;"));
    assert_eq!(hash(&[base, other].concat()), hash(&[other, base].concat()));
    let changed = base.replace("@id", "@version(\"2\") @id");
    let all = [hash(base), hash(other), hash(&[base, other].concat()), hash(&changed), hash("")];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), distinct.len());
}

#[test]
fn a_set_that_permits_nothing_is_warned_about() {
    assert_eq!("no policy permits anything, so everything is denied", load("").warnings()[0].to_string());
}

/// Whatever is nested is refused, or loaded and decided on, on a stack as small as worker threads have; it never
/// ends the process.
#[test]
fn deep_nesting_ends_nothing() {
    let shapes: [fn(usize) -> String; 6] = [
        |depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth)),
        |depth| format!("{}[]{} == []", "[".repeat(depth), "]".repeat(depth)),
        |depth| vec!["true"; depth].join(" && "),
        |depth| format!("{} > 0", vec!["1"; depth].join(" + ")),
        |depth| format!("{}false", "if false then true else ".repeat(depth)),
        |depth| format!("context{} like \"(((\"", ".a".repeat(depth)),
    ];
    for shape in shapes {
        for depth in [50, 900, 1_900, 100_000] {
            let text =
                format!("@id(\"a\") permit (principal, action, resource) when {{ {} }};", shape(depth));
            match try_load(&text, options()) {
                Ok(policies) => {
                    let _decision = crate::evaluate(&policies, &crate::read());
                }
                Err(errors) => assert_eq!(Some(1), errors.0[0].line),
            }
        }
    }
    check(&format!("permit {}", "(".repeat(65)), "nested too deeply");
}
