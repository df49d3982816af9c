//! One event, from standard input to the client's ears.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use countersign_sdk::Dialect;
use countersign_sdk::dialect::Refusal;
use serde_json::{Map, Value};

use crate::ask::{self, AskError};
use crate::server;

/// How long an answer is waited for; the client's own time-out, as installed, is five seconds more.
const DEADLINE: Duration = Duration::from_secs(30);
/// A report is not worth more of anybody's time.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);
/// An event has a file's content or a command's output in it. What is larger is refused, not cut.
const EVENT_BYTES_MAX: u64 = 8 << 20;
/// What clients take for "this is blocked".
const BLOCKED: u8 = 2;

/// What is printed, and the exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// The exit code.
    pub code: u8,
    /// For standard error.
    pub stderr: String,
    /// For standard output, to the byte.
    pub stdout: String,
}

/// What follows `countersign hook` on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) event: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) name: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) url: Option<String>,
}

/// Answers the event on `stdin`. `args` is what follows `countersign hook`; `dialect` knows the clients by name;
/// `lookup` reads environment variables.
///
/// It always returns, before the deadline, and what it returns is an answer or a refusal. There are no other ends.
pub fn run(
    args: impl Iterator<Item = OsString>,
    dialect: &dyn Fn(&str) -> Option<Dialect>,
    lookup: &dyn Fn(&str) -> Option<String>,
    stdin: impl Read + Send + 'static,
) -> Spoken {
    let begun = Instant::now();
    let options = match options(args) {
        Ok(options) => options,
        Err((name, error)) => return refuse(dialect(&name).as_ref(), &error),
    };
    let Some(dialect) = dialect(&options.name) else {
        return refuse(None, &AskError::Dialect(options.name));
    };
    let until = begun + options.timeout.unwrap_or(DEADLINE);
    let Some(read) = within(until, move || read(stdin)) else {
        return refuse(Some(&dialect), &AskError::Late);
    };
    let (event, names) = match read {
        Ok(event) => {
            let names = names(&dialect, options.event.as_deref(), &event);
            (event, names)
        }
        Err(error) => return refuse(Some(&dialect), &error),
    };
    let reports = !names.is_empty() && names.iter().all(|name| dialect.reports.contains(&name.as_str()));
    let until = if reports { until.min(begun + REPORT_DEADLINE) } else { until };
    let answered = server::find(&options, lookup).map_err(AskError::Server).and_then(|server| {
        let asked =
            ask::Question { event: event.text, fields: dialect.answer_fields, name: options.event, until };
        within(until, move || ask::ask(&server, &asked)).unwrap_or(Err(AskError::Late))
    });
    match answered {
        Ok(stdout) => Spoken { stdout, ..Spoken::default() },
        // What comes of a report must not stop the work; the log shows an action without an outcome.
        Err(_) if reports => Spoken { stdout: "{}".to_owned(), ..Spoken::default() },
        Err(error) => refuse(Some(&dialect), &error),
    }
}

/// The refusal of a client that is not known is the one that most of them honour.
fn refuse(dialect: Option<&Dialect>, error: &AskError) -> Spoken {
    let reason = format!("Countersign refuses, because it could not be asked: {error}");
    match dialect.map(|dialect| dialect.refusal) {
        Some(Refusal::Body(body)) => Spoken { stdout: body(&reason).to_string(), ..Spoken::default() },
        Some(Refusal::ExitTwo) | None => Spoken { code: BLOCKED, stderr: reason, ..Spoken::default() },
    }
}

/// Does something that may hang or panic, and waits for it until `until`.
fn within<T: Send + 'static>(until: Instant, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, waiting) = mpsc::channel();
    let worker = thread::Builder::new().spawn(move || {
        // Whoever waited may be gone.
        let _late = done.send(work());
    });
    worker.ok()?;
    waiting.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

struct Event {
    body: Map<String, Value>,
    text: Vec<u8>,
}

fn read(stdin: impl Read) -> Result<Event, AskError> {
    let mut text = Vec::new();
    stdin.take(EVENT_BYTES_MAX + 1).read_to_end(&mut text).map_err(AskError::Input)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > EVENT_BYTES_MAX {
        return Err(AskError::Large(EVENT_BYTES_MAX));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(body)) => Ok(Event { body, text }),
        _ => Err(AskError::NoEvent),
    }
}

/// What the event is called, by the command line and by itself. Where they disagree, both have to be reports.
fn names(dialect: &Dialect, given: Option<&str>, event: &Event) -> Vec<String> {
    let said = dialect.event_fields.iter().filter_map(|field| event.body.get(*field).and_then(Value::as_str));
    given.into_iter().chain(said).map(str::to_owned).collect()
}

type Misuse = (String, AskError);

fn options(args: impl Iterator<Item = OsString>) -> Result<Options, Misuse> {
    let mut options = Options::default();
    let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
    options.name = args.next().unwrap_or_default();
    while let Some(arg) = args.next() {
        let name = options.name.clone();
        let misuse = |what: &str| (name.clone(), AskError::Argument(what.to_owned()));
        let Some(flag) = arg.strip_prefix("--") else {
            if options.event.is_some() || arg.starts_with('-') {
                return Err(misuse(&arg));
            }
            options.event = Some(arg);
            continue;
        };
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (flag.to_owned(), args.next()),
        };
        let value = value.ok_or_else(|| misuse(&arg))?;
        match flag.as_str() {
            "ca-file" => options.ca_file = Some(value.into()),
            "config" => options.config = Some(value.into()),
            "instance" => options.instance = Some(value),
            "timeout" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                options.timeout = Some(Duration::from_secs(seconds.ok_or_else(|| misuse(&arg))?));
            }
            "token-file" => options.token_file = Some(value.into()),
            "url" => options.url = Some(value),
            _ => return Err(misuse(&arg)),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect {
        event_fields: &["name"],
        reports: &["after"],
        answer_fields: &["ok"],
        refusal: Refusal::ExitTwo,
        install: countersign_sdk::dialect::Install {
            events: &[],
            names_event: false,
            places: &[],
            switches: &[],
        },
    };

    fn speak(args: &[&str], stdin: &'static [u8]) -> Spoken {
        let known = |name: &str| (name == "client").then_some(DIALECT);
        run(args.iter().map(OsString::from), &known, &|_| None, stdin)
    }

    #[track_caller]
    fn refused(args: &[&str], stdin: &'static [u8], why: &str) {
        let spoken = speak(args, stdin);
        assert_eq!((2, ""), (spoken.code, spoken.stdout.as_str()));
        assert!(spoken.stderr.contains(why), "{}", spoken.stderr);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let named = ["client", "--config", "/nowhere/hook.toml"];
        refused(&["client", "--no-such", "x"], b"{}", "--no-such");
        refused(&["client", "before", "before"], b"{}", "before");
        refused(&["other"], b"{}", "`other`");
        refused(&[], b"{}", "``");
        refused(&named, b"", "no event");
        refused(&named, b"[]", "no event");
        refused(&named, br#"{"name": "before"}"#, "/nowhere/hook.toml");
        refused(&named, br#"{"name": "nobody knows"}"#, "/nowhere/hook.toml");
        refused(&named, b"{}", "/nowhere/hook.toml");
        refused(&["client", "--timeout", "0"], b"{}", "--timeout");
    }

    #[test]
    fn a_report_never_stops_the_work_unless_somebody_calls_it_a_question() {
        let named = ["client", "--config", "/nowhere/hook.toml"];
        let passed = Spoken { stdout: "{}".to_owned(), ..Spoken::default() };
        assert_eq!(passed, speak(&named, br#"{"name": "after"}"#));
        refused(&["client", "before", "--config", "/nowhere/hook.toml"], br#"{"name": "after"}"#, "nowhere");
    }

    #[test]
    fn an_input_that_never_ends_is_refused_in_time() {
        struct Silence;
        impl Read for Silence {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                thread::park();
                Ok(0)
            }
        }
        let args = ["client", "--timeout", "1"].iter().map(OsString::from);
        let spoken = run(args, &|_| Some(DIALECT), &|_| None, Silence);
        assert_eq!((2, true), (spoken.code, spoken.stderr.contains("in time")));
    }

    #[test]
    fn an_event_beyond_the_bound_is_refused() {
        let large = vec![b' '; usize::try_from(EVENT_BYTES_MAX).unwrap() + 1].leak();
        refused(&["client"], large, "larger than");
    }
}
