//! What must hold for every request and every action.

use countersign_drift::calibrate::Sketch;
use countersign_drift::{Embedder, Lexical, Profile, Request, measure, note, verbalize};
use countersign_schemas::{Action, Effect, Facets};
use countersign_schemas::{Degree, Prior};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::pairs;

/// Texts of a few words, some of them known.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "delete",
            "do",
            "not",
            "pay",
            "the",
            "invoice",
            "tickets",
            "Überweise",
            "gmail",
            ","
        ]),
        prop::sample::select(vec![
            "staging",
            "orders",
            "anna@acme.example",
            "src/api",
            "mail",
            "and",
            "?",
            "show",
            "me"
        ]),
    ];
    let known = prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "));
    // A trunk in any script before an ending that the word lists look at.
    let endings = r"[\p{L}]{0,4}(ing|ung|s|ies|y)";
    prop_oneof![4 => known, 1 => ".{0,80}", 1 => endings]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_]{1,10}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn facets() -> impl Strategy<Value = Facets> {
    let few = || prop::collection::vec(text(), 0..3);
    (few(), few(), few(), few(), prop::option::of(text()), prop::option::of(any::<bool>())).prop_map(
        |(hosts, paths, recipients, tables, environment, external)| Facets {
            hosts,
            paths,
            recipients,
            tables,
            environment,
            external,
            ..Facets::default()
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let parameters = prop::collection::btree_map("[a-zA-Z_]{1,10}", json_value(), 0..4);
    let server = prop::option::of(prop::sample::select(vec!["gmail", "stripe", "github", "x"]));
    (prop::sample::select(Effect::ALL.to_vec()), facets(), parameters, text(), server).prop_map(
        |(effect, facets, parameters, name, server)| {
            let tool = json!({"name": name, "namespace": "mcp", "server": server});
            let parameters: Map<String, Value> = parameters.into_iter().collect();
            let sketch = json!({"effect": effect, "facets": facets, "parameters": parameters, "tool": tool});
            serde_json::from_value::<Sketch>(sketch).unwrap().action()
        },
    )
}

proptest! {
    #[test]
    fn a_distance_is_symmetric_and_nothing_is_nearer_than_itself(a in text(), b in text()) {
        let [a, b] = [a, b].map(|text| Lexical.embed(&text));
        prop_assert_eq!(a.distance(&b), b.distance(&a));
        prop_assert!(a.distance(&a) <= a.distance(&b));
    }

    #[test]
    fn the_same_input_gives_the_same_numbers(request in text(), action in action(), earlier in action()) {
        let mut prior = Prior::default();
        note(&mut prior, &earlier);
        let once = || measure(&Request::of(&request, &Lexical), &action, &prior, &Profile::default());
        prop_assert_eq!(once(), once());
    }

    #[test]
    fn naming_a_resource_never_raises_the_scope(request in text(), more in text(), action in action()) {
        let scope = |request: &str| {
            measure(&Request::of(request, &Lexical), &action, &Prior::default(), &Profile::default()).scope
        };
        let longer = format!("{request} {more}");
        prop_assert!(scope(&longer) <= scope(&request));
    }

    #[test]
    fn what_an_earlier_action_used_is_no_longer_new(request in text(), action in action(), other in action()) {
        let request = Request::of(&request, &Lexical);
        let scope = |prior: &Prior| measure(&request, &action, prior, &Profile::default()).scope;
        let mut prior = Prior::default();
        let before = scope(&prior);
        note(&mut prior, &other);
        prop_assert!(scope(&prior) <= before);
        note(&mut prior, &action);
        prop_assert_eq!(Degree::ZERO, scope(&prior));
    }

    #[test]
    fn a_sentence_is_bounded_and_is_no_json(action in action()) {
        let sentence = verbalize(&action);
        prop_assert!(sentence.split_whitespace().count() <= 48 && !sentence.contains(['{', '}', '"', '[']), "{}", sentence);
    }

    #[test]
    fn a_secret_is_never_said(
        key in prop::sample::select(vec!["password", "apiKey", "client_secret", "Authorization", "access_token", "PIN"]),
        secret in "[a-z]{6,9}",
        mut action in action(),
    ) {
        prop_assume!(!verbalize(&action).contains(&secret));
        action.parameters.insert("login".to_owned(), json!({"user": "ann", key: [secret.clone()]}));
        prop_assert!(!verbalize(&action).contains(&secret));
    }
}

#[test]
fn what_looks_like_a_secret_is_not_said_whatever_its_name() {
    for value in [
        "sk_live_51HqLyjWDarjtT1zdp7dc4Gh",
        "Bearer abcdef ghijkl",
        "-----BEGIN PRIVATE KEY----- abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    ] {
        let mut action = pairs(false)[0].action.action();
        let before = verbalize(&action);
        action.parameters.insert("note".to_owned(), json!(value));
        assert_eq!(format!("{before} note"), verbalize(&action));
    }
}

#[test]
fn a_long_document_does_not_drown_the_action() {
    let mut action = pairs(false)[0].action.action();
    action.parameters.insert("body".to_owned(), json!("lorem ipsum dolor sit amet ".repeat(10_000)));
    assert!(verbalize(&action).len() < 300);
}

#[test]
fn an_empty_request_is_as_far_as_can_be() {
    let action = pairs(false)[0].action.action();
    let drift = measure(&Request::of("", &Lexical), &action, &Prior::default(), &Profile::default());
    assert_eq!([Degree::ONE, Degree::ONE], [drift.distance, drift.scope]);
}
