//! What holds for any text and any call.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use countersign_facets::{Catalogue, enrich, shell, sql, url};
use countersign_schemas::Effect;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::corpus::action;

/// Lists never have more entries.
const ENTRIES_MAX: usize = 256;
/// For an unoptimised build beside others; a text that takes more is quadratic.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Words that mean something to a shell or to SQL, in any order: far more often almost right than random letters.
fn almost_code() -> impl Strategy<Value = String> {
    const WORDS: [&str; 56] = [
        "ls", "rm", "sudo", "sh -c", "eval", "$", "${", "}", "$(", ")", "(", "((", "))", "`", "'", "\"",
        "\\", "\n", ";", ";;", "|", "||", "&&", "&", "<", ">", "<<E", "<<<", "<(", "&>", "{", "if", "then",
        "fi", "for x in", "do", "done", "case", "in", "esac", "[[", "]]", "function", "a=", "a=(", "$'\\x",
        "#", "E\n", "!", "SELECT", "FROM t", "DELETE", "WHERE", "é", "http://h", "coproc",
    ];
    prop::collection::vec(
        prop_oneof![4 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,6}"],
        0..60,
    )
    .prop_map(|words| words.join(" "))
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        almost_code().prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(
            &["command", "sql", "query", "path", "to", "url", "owner", "repo", "amount", "table"][..]
        )
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_and_its_lists_are_bounded(text in prop_oneof![almost_code(), ".{0,200}"]) {
        for found in [shell::read(&text), shell::scan(&text)] {
            let lengths = [found.programs.len(), found.reads.len(), found.writes.len(), found.contacts.len(), found.sql.len()];
            prop_assert!(lengths.iter().all(|length| *length <= ENTRIES_MAX));
        }
        let _sql = sql::read(&text);
        let _host = url::of_url(&text).or_else(|| url::of_host(&text));
    }

    #[test]
    fn what_cannot_be_parsed_is_scanned(text in almost_code()) {
        let found = shell::read(&text);
        if !found.complete {
            let scanned = shell::scan(&text);
            prop_assert!(scanned.programs.iter().all(|program| found.programs.contains(program)));
        }
    }

    #[test]
    fn a_program_is_found_behind_any_text_that_ends_its_command(text in almost_code()) {
        // There the line goes on.
        prop_assume!(!text.ends_with('\\'));
        let mut whole = text.clone();
        whole.push_str("\nshred x\n");
        let found = shell::read(&whole);
        // An open quote, comment or here-document may have swallowed it; then the words were scanned.
        let alone = shell::read(&text);
        prop_assert!(!alone.complete || found.programs.contains(&"shred".to_owned()), "{whole:?} {found:?}");
    }

    #[test]
    fn enriching_removes_nothing_and_twice_is_once(
        parameters in prop::collection::vec(("command|sql|query|path|to|[a-z]{1,4}", any_value()), 0..6),
        tool in prop::sample::select(&["claude-code/-/Bash", "mcp/postgres/query", "stripe/-/pay_invoice", "a/b/c"][..]),
        effect in prop::sample::select(&Effect::ALL[..]),
    ) {
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);
        let catalogue = &*CATALOGUE;
        let mut once = action(tool, effect, parameters.into_iter().collect());
        once.facets.hosts.push("kept.example".to_owned());
        once.facets.external = Some(false);
        once.risk_signals.push("kept".to_owned());
        enrich(catalogue, &mut once);
        prop_assert!(once.facets.hosts.contains(&"kept.example".to_owned()));
        prop_assert!(once.risk_signals.contains(&"kept".to_owned()));
        prop_assert_eq!(Some(false), once.facets.external);
        let mut twice = once.clone();
        enrich(catalogue, &mut twice);
        prop_assert_eq!(once, twice);
    }
}

/// Texts that are made to take long, or to nest deep, on a thread with little stack.
#[test]
fn hostile_texts_take_bounded_time_and_stack() {
    const HOSTILE: [(&str, &str); 34] = [
        ("$(", ")"),
        ("`", "`"),
        ("(", ")"),
        ("((", "))"),
        ("$((", "))"),
        ("{ ", " }"),
        ("${a:-", "}"),
        ("<(", ")"),
        ("\"$(", ")\""),
        ("if x; then ", "; fi"),
        ("case x in y) ", ";; esac"),
        ("a=$a$a;", ""),
        ("sudo ", ""),
        ("sh -c '", "'"),
        ("eval ", ""),
        ("xargs ", ""),
        ("cat <<E\n", "E\n"),
        ("<<a ", ""),
        ("{a,b}", ""),
        ("${IFS}", ""),
        ("a|", ""),
        ("$'\\x", ""),
        ("[[ ", " ]]"),
        ("!(", ")"),
        ("\\", ""),
        ("python -c 'system(\"", ""),
        ("http://a://", ""),
        ("SELECT (", ")"),
        ("DELETE FROM a WHERE ", ""),
        ("(DELETE FROM a WHERE x OR ", ")"),
        ("1+", ""),
        ("/*!", ""),
        ("find . -exec ", ""),
        ("x@", ""),
    ];
    let work = || {
        let catalogue = Catalogue::builtin();
        for (open, close) in HOSTILE {
            let count = 64 * 1024 / (open.len() + close.len());
            let text = format!("{}ls{}", open.repeat(count), close.repeat(count));
            let nested = open.repeat(count);
            for text in [&text, &nested] {
                let started = Instant::now();
                let _shell = shell::read(text);
                let _sql = sql::read(text);
                let mut call = action(
                    "a/b/c",
                    Effect::Invoke,
                    json!({"content": text, "to": text}).as_object().unwrap().clone(),
                );
                enrich(&catalogue, &mut call);
                assert!(started.elapsed() < TIME_MAX, "{open:?} takes {:?}", started.elapsed());
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_list_that_is_cut_is_signalled() {
    let command: String = (0..ENTRIES_MAX + 1).map(|number| format!("p{number};")).collect();
    assert!(shell::read(&command).dynamic);
    let urls: String = (0..ENTRIES_MAX + 1).map(|number| format!("https://h{number}.example ")).collect();
    let mut call = action("a/b/c", Effect::Invoke, json!({"body": urls}).as_object().unwrap().clone());
    enrich(&Catalogue::builtin(), &mut call);
    assert_eq!(ENTRIES_MAX, call.facets.hosts.len());
    assert!(call.risk_signals.contains(&"facets_cut".to_owned()));
}
