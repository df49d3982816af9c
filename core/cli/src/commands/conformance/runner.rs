//! Does what a row says, over HTTP and as a client would, and notes what came of it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_receipt::{Trust, VerifyOptions, leaf_hash, verify};
use countersign_schemas::{Facets, Verdict};
use countersign_sdk::http::Egress;
use countersign_sdk::signature::sign_standard_webhooks;
use countersign_service::clock::{Clock as _, SystemClock};
use countersign_service::export::Filter;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::suite::{Answer, Audit, Edit, Replay, Row, Send, Silence, Step};
use super::want::{Past, Seen, Want};
use crate::client::Client;
use crate::output;

/// Requests and three times twenty actions, of which half stray from the request little by little.
const SESSIONS: &str = include_str!("../../../../../fixtures/drift/sessions.json");
/// A receipt that was just made is among the newest, however busy the server is.
const NEWEST: usize = 100;
/// How soon a ticket that should end by itself is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much of a refusal is shown.
const REFUSAL_CHARS_MAX: usize = 120;

/// A server, and what it takes to call it.
pub(super) struct Target {
    pub(super) client: Client,
    /// The instance of the generic connector.
    pub(super) connector: String,
    pub(super) egress: Egress,
    /// The connector's hook.
    pub(super) hook: String,
    /// Signs requests.
    pub(super) key: Vec<u8>,
    /// Tells this run's sessions from those of earlier ones.
    pub(super) run: String,
    /// Whom an auditor of the server believes.
    pub(super) trust: Trust,
}

/// What came of a row.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) requirement: String,
    pub(super) row: String,
    pub(super) done: String,
    pub(super) passed: bool,
    pub(super) checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) step: String,
    pub(super) expected: String,
    pub(super) seen: String,
    /// The receipt that proves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipt: Option<String>,
    pub(super) passed: bool,
}

/// A request to be sent: the session's name, the call's name, the body.
struct Request<'a> {
    session: &'a str,
    name: &'a str,
    body: Map<String, Value>,
}

/// A session of the fixture.
#[derive(Deserialize)]
struct Recorded {
    domain: String,
    kind: String,
    request: String,
    actions: Vec<Map<String, Value>>,
}

impl Target {
    /// Does a row from its first step to its last, or to the first request that leaves no receipt.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or the row names what there is not.
    pub(super) async fn show(&self, row: &Row) -> anyhow::Result<Shown> {
        let session = format!("{}-{}-{}", self.run, row.requirement, row.id);
        let mut past = Past::new();
        let mut checks = Vec::new();
        for step in &row.steps {
            let goes_on = match step {
                Step::Answer(answer) => self.answer(answer, &mut past, &mut checks).await?,
                Step::Silence(silence) => self.silence(&session, silence, &mut past, &mut checks).await?,
                Step::Send(send) => self.send(&session, send, &mut past, &mut checks).await?,
                Step::Replay(replay) => self.replay(&session, replay, &mut checks).await?,
                Step::Audit(audit) => {
                    checks.push(self.audit(audit, &past).await?);
                    true
                }
            };
            if !goes_on {
                break;
            }
        }
        let passed = !checks.is_empty() && checks.iter().all(|check| check.passed);
        let (requirement, id, done) = (row.requirement.clone(), row.id.clone(), row.done.clone());
        Ok(Shown { requirement, row: id, done, passed, checks })
    }

    async fn send(
        &self,
        session: &str,
        send: &Send,
        past: &mut Past,
        checks: &mut Vec<Check>,
    ) -> anyhow::Result<bool> {
        let session = match send.session.as_str() {
            "" => session.to_owned(),
            other => format!("{session}-{other}"),
        };
        let request = Request { session: &session, name: &send.name, body: send.request.clone() };
        match self.ask(request).await? {
            Ok(seen) => {
                checks.extend(checks_of(send, &seen, past));
                past.insert(send.name.clone(), seen);
                Ok(true)
            }
            Err(refusal) => {
                checks.push(refused(&send.name, refusal));
                Ok(false)
            }
        }
    }

    /// Answers as the API's caller. What comes of it is a receipt like any other.
    async fn answer(
        &self,
        answer: &Answer,
        past: &mut Past,
        checks: &mut Vec<Check>,
    ) -> anyhow::Result<bool> {
        let ticket = ticket(past, &answer.to)?;
        let verb = if answer.approved { "approve" } else { "deny" };
        let body = json!({"comment": "a row of the conformance suite"});
        let told: Value = match self.client.post(&["v1", "approvals", &ticket, verb], &body).await {
            Ok(told) => told,
            Err(error) => {
                checks.push(refused(&answer.name, format!("{error:#}")));
                return Ok(false);
            }
        };
        let id = told.get("receiptId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let receipt = self.client.get(&["v1", "receipts", &id], &()).await?;
        let seen = seen(told, &receipt);
        checks.extend(checks_of_receipt(&answer.name, &answer.receipt, &seen, past));
        past.insert(answer.name.clone(), seen);
        Ok(true)
    }

    /// Looks for the ticket's resolution until it is there.
    async fn silence(
        &self,
        session: &str,
        silence: &Silence,
        past: &mut Past,
        checks: &mut Vec<Check>,
    ) -> anyhow::Result<bool> {
        let ticket = ticket(past, &silence.after)?;
        let deadline = Instant::now() + Duration::from_secs(silence.within_seconds);
        let found = loop {
            let found = self.resolution(session, &ticket).await?;
            if found.is_some() || Instant::now() >= deadline {
                break found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let Some(receipt) = found else {
            checks.push(refused(&silence.name, format!("{ticket} is still open")));
            return Ok(false);
        };
        let seen = seen(Value::Null, &receipt);
        checks.extend(checks_of_receipt(&silence.name, &silence.receipt, &seen, past));
        past.insert(silence.name.clone(), seen);
        Ok(true)
    }

    async fn resolution(&self, session: &str, ticket: &str) -> anyhow::Result<Option<Value>> {
        let filter = Filter {
            connector: Some(self.connector.clone()),
            kind: Some("resolution".to_owned()),
            limit: Some(NEWEST),
            ..Filter::default()
        };
        let newest: Vec<Value> = self.client.get(&["v1", "receipts"], &filter).await?;
        let ours = |receipt: &Value| {
            let predicate = &receipt["statement"]["predicate"];
            let names = ["/approval/approvalId", "/deferral/approvalId"];
            predicate.pointer("/vendor/sessionId").is_some_and(|found| found == session)
                && names.iter().any(|at| predicate.pointer(at).is_some_and(|found| found == ticket))
        };
        Ok(newest.into_iter().find(ours))
    }

    async fn replay(&self, session: &str, replay: &Replay, checks: &mut Vec<Check>) -> anyhow::Result<bool> {
        let session = format!("{session}-{}", replay.name);
        let recorded: Vec<Recorded> = serde_json::from_str(SESSIONS).context("the recorded sessions")?;
        let recorded =
            recorded.into_iter().find(|found| found.domain == replay.domain && found.kind == replay.kind);
        let recorded = recorded.with_context(|| format!("no session {} {}", replay.domain, replay.kind))?;
        let agent = json!({"id": "conformance", "kind": replay.agent});
        let intent =
            Map::from_iter([("type".into(), "intent".into()), ("text".into(), recorded.request.into())]);
        let bodies = std::iter::once(Ok(intent)).chain(recorded.actions.into_iter().map(action));
        let mut seen = Vec::new();
        for (number, body) in bodies.enumerate() {
            let mut body = body?;
            body.insert("agent".into(), agent.clone());
            let name = format!("{}-{number}", replay.name);
            match self.ask(Request { session: &session, name: &name, body }).await? {
                Ok(left) => seen.push(left),
                Err(refusal) => {
                    checks.push(refused(&name, refusal));
                    return Ok(false);
                }
            }
        }
        checks.extend(checks_of_replay(replay, &seen));
        Ok(true)
    }

    /// Sends a request and finds its receipt. The inner error is what the server said instead.
    async fn ask(&self, request: Request<'_>) -> anyhow::Result<Result<Seen, String>> {
        let id = format!("{}-{}", request.session, request.name);
        let mut body = json!({
            "version": 1, "id": id, "session": {"id": request.session}, "agent": {"id": "conformance"},
            "human": {"id": format!("u-{}", request.session)}, "call_id": request.name,
        });
        let kind = request.body.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Value::Object(filled) = &mut body {
            filled.extend(request.body);
        }
        let body = body.to_string().into_bytes();
        let signature = sign_standard_webhooks(&self.key, &id, SystemClock.now(), &body);
        let signature = signature.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> =
            std::iter::once(("content-type", "application/json")).chain(signature).collect();
        let answer = self.egress.call(Method::POST, &self.hook, &headers, body).await?;
        let told = String::from_utf8_lossy(&answer.body);
        if !answer.is_success() {
            return Ok(Err(format!("HTTP {}: {}", answer.status, output::cut(&told, REFUSAL_CHARS_MAX))));
        }
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(receipt) = self.receipt(&answer, &kind, request.session).await? else {
            return Ok(Err(format!("no receipt: {}", output::cut(&told, REFUSAL_CHARS_MAX))));
        };
        Ok(Ok(seen(answer, &receipt)))
    }

    /// The receipt that the answer names; of what is no action, the newest one of its kind and session.
    async fn receipt(&self, answer: &Value, kind: &str, session: &str) -> anyhow::Result<Option<Value>> {
        if let Some(id) = answer.get("receipt_id").and_then(Value::as_str) {
            return Ok(Some(self.client.get(&["v1", "receipts", id], &()).await?));
        }
        if kind == "action" {
            return Ok(None);
        }
        let filter = Filter {
            connector: Some(self.connector.clone()),
            kind: Some(kind.to_owned()),
            limit: Some(NEWEST),
            ..Filter::default()
        };
        let newest: Vec<Value> = self.client.get(&["v1", "receipts"], &filter).await?;
        let ours = |receipt: &Value| {
            receipt.pointer("/statement/predicate/vendor/sessionId").is_some_and(|found| found == session)
        };
        Ok(newest.into_iter().find(ours))
    }

    async fn audit(&self, audit: &Audit, past: &Past) -> anyhow::Result<Check> {
        // The whole log: a selection may leave out what it likes.
        let mut export = Vec::new();
        self.client.download(&["v1", "export"], &Filter::default(), &mut export).await?;
        let export = String::from_utf8(export)?;
        let (export, receipt) = match &audit.edit {
            Some(edit) => edited(&export, edit, past)?,
            None => (export, None),
        };
        let options = VerifyOptions { kept_checkpoints: &[], progress: &|_| {}, threads: 1 };
        let report = verify(BufReader::new(export.as_bytes()), &self.trust, &options);
        let verdict = word(&report.verdict);
        let found: Vec<_> = report.findings.iter().map(|finding| word(&finding.code)).collect();
        let expected = audit
            .finding
            .as_ref()
            .map_or_else(|| audit.verdict.clone(), |finding| format!("{}: {finding}", audit.verdict));
        let seen =
            if found.is_empty() { verdict.clone() } else { format!("{verdict}: {}", found.join(", ")) };
        let passed = verdict == audit.verdict && audit.finding.iter().all(|finding| found.contains(finding));
        Ok(Check { step: audit.name.clone(), expected, seen, receipt, passed })
    }
}

fn seen(answer: Value, receipt: &Value) -> Seen {
    let leaf_hash = hex::encode(leaf_hash(receipt["envelope"].to_string().as_bytes()));
    Seen { answer, leaf_hash, predicate: receipt["statement"]["predicate"].clone() }
}

/// The ticket that a step was given.
fn ticket(past: &Past, step: &str) -> anyhow::Result<String> {
    let ticket = past.get(step).and_then(|seen| seen.answer["ticket"].as_str());
    ticket.map(str::to_owned).with_context(|| format!("step `{step}` was given no ticket"))
}

/// An action of the fixture in the words of the generic hook.
fn action(mut recorded: Map<String, Value>) -> anyhow::Result<Map<String, Value>> {
    let facets: Facets =
        recorded.remove("facets").map(serde_json::from_value).transpose()?.unwrap_or_default();
    let Facets { amount_minor, commands, currency, environment, external, hosts, labels, paths, .. } = facets;
    let (recipients, repository, tables) = (facets.recipients, facets.repository, facets.tables);
    recorded.insert("type".into(), "action".into());
    recorded.insert("labels".into(), labels.into());
    recorded.insert(
        "facets".into(),
        json!({
            "amount_minor": amount_minor, "commands": commands, "currency": currency, "environment": environment,
            "external": external, "hosts": hosts, "paths": paths, "recipients": recipients,
            "repository": repository, "tables": tables,
        }),
    );
    Ok(recorded)
}

fn refused(step: &str, refusal: String) -> Check {
    let expected = "an answer with a receipt".to_owned();
    Check { step: step.to_owned(), expected, seen: refusal, receipt: None, passed: false }
}

fn checks_of(send: &Send, seen: &Seen, past: &Past) -> Vec<Check> {
    let receipt = seen.receipt_id().map(str::to_owned);
    let check = |expected: String, shown: String, passed: bool| Check {
        step: send.name.clone(),
        expected,
        seen: shown,
        receipt: receipt.clone(),
        passed,
    };
    let mut checks = Vec::new();
    if let Some(verdict) = send.expect.decision.map(Verdict::as_str) {
        let (decided, told) = (seen.text("/decision/verdict"), seen.answer["decision"].as_str());
        let shown = match told {
            Some(told) if told == decided => decided.to_owned(),
            told => format!("{decided}, told {}", told.unwrap_or("nothing")),
        };
        checks.push(check(verdict.to_owned(), shown, decided == verdict && told == Some(verdict)));
    }
    if let Some(by) = &send.expect.by {
        let decided = seen.policies();
        checks.push(check(by_whom(by), by_whom(&decided), decided == *by));
    }
    checks.extend(checks_of_receipt(&send.name, &send.expect.receipt, seen, past));
    checks
}

fn checks_of_receipt(step: &str, wanted: &BTreeMap<String, Want>, seen: &Seen, past: &Past) -> Vec<Check> {
    let check = |(pointer, want): (&String, &Want)| {
        let found = seen.predicate.pointer(pointer);
        Check {
            step: step.to_owned(),
            expected: format!("{pointer} {want}"),
            seen: found.map_or_else(|| "absent".to_owned(), Value::to_string),
            receipt: seen.receipt_id().map(str::to_owned),
            passed: want.holds(found, past),
        }
    };
    wanted.iter().map(check).collect()
}

fn by_whom<T: AsRef<str>>(policies: &[T]) -> String {
    let names: Vec<_> = policies.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "by no policy".to_owned() } else { format!("by {}", names.join(", ")) }
}

/// `seen` is the request, then the actions, so that an action's place is its number.
fn checks_of_replay(replay: &Replay, seen: &[Seen]) -> Vec<Check> {
    let first = |policy: &str| {
        seen.iter().enumerate().find(|(_, seen)| seen.policies().contains(&policy)).map(|(at, seen)| {
            (
                at,
                format!("action {at}, {}", seen.text("/decision/verdict")),
                seen.receipt_id().map(str::to_owned),
            )
        })
    };
    let check = |expected: String, found: Option<(usize, String, Option<String>)>, passed: bool| {
        let (shown, receipt) = found.map_or_else(
            || ("never".to_owned(), seen.last().and_then(Seen::receipt_id).map(str::to_owned)),
            |(_, shown, receipt)| (shown, receipt),
        );
        Check { step: replay.name.clone(), expected, seen: shown, receipt, passed }
    };
    let mut checks = Vec::new();
    for want in &replay.first {
        let found = first(&want.policy);
        let passed = found.as_ref().is_some_and(|(at, ..)| *at < want.before);
        checks.push(check(format!("{} before action {}", want.policy, want.before), found, passed));
    }
    for policy in &replay.never {
        let found = first(policy);
        let actions = seen.len().saturating_sub(1);
        let passed = found.is_none() && actions > 0;
        checks.push(check(format!("{policy} never in {actions} actions"), found, passed));
    }
    checks
}

/// The export with one receipt changed or left out, and that receipt's name.
fn edited(export: &str, edit: &Edit, past: &Past) -> anyhow::Result<(String, Option<String>)> {
    let step = match edit {
        Edit::Change { step, .. } | Edit::Drop(step) => step,
    };
    let receipt = past.get(step).and_then(Seen::receipt_id).with_context(|| format!("no step `{step}`"))?;
    let mut lines = Vec::new();
    for line in export.lines() {
        let mut json: Value = serde_json::from_str(line)?;
        let payload = json.pointer("/envelope/payload").and_then(Value::as_str).unwrap_or_default();
        let statement = STANDARD.decode(payload)?;
        let mut statement: Value = serde_json::from_slice(&statement).unwrap_or_default();
        let is_it = statement.pointer("/predicate/receiptId").is_some_and(|id| id == receipt);
        match edit {
            Edit::Drop(_) if is_it => {}
            Edit::Change { pointer, value, .. } if is_it => {
                let place = statement.pointer_mut(&format!("/predicate{pointer}"));
                *place.with_context(|| format!("the receipt of `{step}` has no {pointer}"))? = value.clone();
                json["envelope"]["payload"] = STANDARD.encode(statement.to_string()).into();
                lines.push(json.to_string());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    Ok((format!("{}\n", lines.join("\n")), Some(receipt.to_owned())))
}

/// The wire name of a unit variant.
fn word(value: &impl Serialize) -> String {
    let name = serde_json::to_value(value).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}
