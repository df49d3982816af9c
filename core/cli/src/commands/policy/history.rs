//! What was decided before, read from receipts: the action as far as it is disclosed, and the session's context as far
//! as receipts tell.
//!
//! A receipt holds a view of its session's context. The rest is folded anew from the session's earlier receipts, and is
//! known where all of them were seen and nothing that went into it is kept from receipts, such as what was found in an
//! outcome.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use countersign_engine::ledger;
use countersign_receipt::{
    Envelope, ExportHeader, ExportLine, LINE_BYTES_MAX, disclosure_digest, open_disclosure,
};
use countersign_schemas::{
    Action, ActionView, Agent, Context, ContextView, Decision, Disclosed, Human, Identity, IdentityView,
    Intent, OutcomeStatus, Predicate, ReceiptId, ReceiptKind, SessionId, SessionRef, Source, Statement,
    Timestamp, Trend,
};
use countersign_service::export::{Filter, stream};
use futures::StreamExt as _;
use serde_json::Value;

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::site;

const READ_BUFFER: usize = 1 << 20;
/// Sessions whose contexts are kept. Beyond, all are forgotten: what goes on then is known in part.
const SESSIONS_MAX: usize = 100_000;

/// Attributes that a receipt tells by itself.
const TOLD: [&str; 19] = [
    "agentKind",
    "assurance",
    "assuranceLevel",
    "connector",
    "delegationDepth",
    "device",
    "event",
    "human",
    "model",
    "now",
    "operation",
    "rawTool",
    "role",
    "scopes",
    "service",
    "session.actionCount",
    "tenant",
    "toolName",
    "vendor",
];
/// Attributes that follow from the receipts of a session.
const FOLLOWING: [&str; 7] = [
    "session.deniedCount",
    "session.driftMax",
    "session.effects",
    "session.failedCount",
    "session.lastMinute",
    "session.recentDenied",
    "session.recentTools",
];

/// Where receipts are read.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Read an export (`countersign export --disclose`); `-` for standard input. It is taken on trust: `countersign
    /// verify` checks it.
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    from: Option<PathBuf>,
    /// Read the configured store itself. No server may be running.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Place {
    /// Writes the export of what `filter` wants to `out`. A file is read whole.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or `out` refuses.
    pub(super) async fn read(
        &self,
        globals: &Globals,
        filter: Filter,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        if let Some(path) = &self.from {
            return read_file(path, out);
        }
        if !self.offline {
            return Client::new(&self.remote, globals)?.download(&["v1", "export"], &filter, out).await;
        }
        let store = site::open_store(&globals.config)?;
        let mut lines = pin!(stream(store.clone(), filter).await.map_err(anyhow::Error::msg)?);
        while let Some(piece) = lines.next().await {
            out.write_all(&piece?)?;
        }
        Ok(store.close().await?)
    }

    /// The session of a receipt; `None` for a file, which is read whole anyway.
    ///
    /// # Errors
    ///
    /// When there is no such receipt.
    pub(super) async fn session_of(
        &self,
        globals: &Globals,
        id: &ReceiptId,
    ) -> anyhow::Result<Option<String>> {
        if self.from.is_some() {
            return Ok(None);
        }
        if self.offline {
            let store = site::open_store(&globals.config)?;
            let found = store.receipt(id).await?;
            store.close().await?;
            let found = found.with_context(|| format!("no receipt `{id}`"))?;
            return Ok(Some(found.summary.session_id.to_string()));
        }
        let client = Client::new(&self.remote, globals)?;
        let view: Value = client.get(&["v1", "receipts", &id.to_string()], &()).await?;
        let session = view.pointer("/statement/predicate/session/id").and_then(Value::as_str);
        Ok(Some(session.context("the server's answer is not what this version knows")?.to_owned()))
    }
}

fn read_file(path: &PathBuf, out: &mut impl Write) -> anyhow::Result<()> {
    let mut reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::with_capacity(READ_BUFFER, io::stdin()))
    } else {
        let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Box::new(BufReader::with_capacity(READ_BUFFER, file))
    };
    io::copy(&mut reader, out).with_context(|| format!("`{}`", path.display()))?;
    Ok(())
}

/// Takes an export in pieces and hands on its lines.
pub(super) struct Lines<F> {
    line: Vec<u8>,
    /// How many leaves the log has, once the header has come.
    size: Option<u64>,
    /// Gets a line with its line feed, and the size of the log.
    take: F,
}

impl<F: FnMut(Vec<u8>, u64) -> anyhow::Result<()>> Lines<F> {
    pub(super) fn new(take: F) -> Self {
        Self { line: Vec::new(), size: None, take }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When the export ended within a line, or there was none.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self.size {
            Some(_) if self.line.is_empty() => Ok(()),
            Some(_) => bail!("the export was cut off"),
            None => bail!("it is not an export; `countersign export --disclose` makes one"),
        }
    }
}

impl<F: FnMut(Vec<u8>, u64) -> anyhow::Result<()>> Write for Lines<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let taken = &bytes[..end];
        if self.line.len() + taken.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("a line of the export is too long"));
        }
        self.line.extend_from_slice(taken);
        if taken.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            match self.size {
                Some(size) => (self.take)(line, size).map_err(io::Error::other)?,
                None => {
                    let header = ExportHeader::parse(&line).map_err(io::Error::other)?;
                    self.size = Some(header.to);
                }
            }
        }
        Ok(end)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A receipt, decoded. Its signature is not looked at.
pub(super) struct Receipt {
    pub(super) disclosed: Option<Disclosed>,
    pub(super) index: u64,
    pub(super) predicate: Predicate,
}

impl Receipt {
    /// Reads a line of an export.
    ///
    /// # Errors
    ///
    /// When it is none, or its disclosure belongs to another receipt.
    pub(super) fn parse(line: &[u8]) -> anyhow::Result<Self> {
        let line = ExportLine::parse(line)?;
        let named = || format!("leaf {}", line.index);
        let envelope = Envelope::from_leaf(line.leaf()).with_context(named)?;
        let statement: Statement = serde_json::from_slice(&envelope.payload).with_context(named)?;
        let predicate = statement.predicate;
        let bound = predicate.disclosure.as_ref();
        let disclosed = match line.disclosure {
            Some(text) if bound.is_some_and(|bound| bound.digest == disclosure_digest(text)) => {
                Some(open_disclosure(text).with_context(named)?)
            }
            Some(_) => bail!("leaf {}: the disclosure belongs to another receipt", line.index),
            None => {
                let inline = bound.and_then(|bound| bound.content.as_deref());
                inline.map(serde_json::from_str).transpose().with_context(named)?
            }
        };
        Ok(Self { disclosed, index: line.index, predicate })
    }
}

/// An action that was decided by policy, as it can be decided again.
pub(super) struct Situation {
    pub(super) action: Action,
    pub(super) context: Context,
    pub(super) known: Known,
    pub(super) now: Timestamp,
}

/// Which attributes of a situation are known.
#[derive(Clone)]
pub(super) struct Known {
    /// Another session may have handed its work to this one with this very action: what it had touched came along.
    handed_on: bool,
    /// Another session may have handed its work to this one, with any action so far.
    delegated: bool,
    /// The session ended and may have gone on.
    ended: bool,
    /// Outcomes came, and what was found in them is kept from receipts.
    outcomes: bool,
    /// The parameters and what was read from them.
    parameters: bool,
    /// The user's first request.
    request: bool,
    /// Which messages came from a person.
    requests: bool,
    /// What was measured about the action.
    risk: bool,
    /// When the session began.
    started: bool,
    /// Every receipt of the session so far was seen.
    whole: bool,
}

impl Known {
    /// Whether the value of a dotted context path is known.
    pub(super) fn knows(&self, path: &str) -> bool {
        match path {
            "signals" | "params" | "facets" => self.parameters,
            "session.hasRequest" | "session.labels" | "session.untrusted" => !self.handed_on,
            "session.request" => self.request && !self.handed_on,
            "session.requests" | "session.chainLength" => self.whole && self.requests,
            "session.ended" => self.whole && !self.ended,
            "session.secondsSinceStart" => self.whole && self.started,
            "session.delegated" => self.whole && !self.delegated,
            "session.injection" => self.whole && !self.delegated && !self.outcomes,
            _ if TOLD.contains(&path) => true,
            _ if FOLLOWING.contains(&path) => self.whole,
            _ => match path.split_once('.') {
                Some(("params" | "facets", _)) => self.parameters,
                Some(("risk", _)) => self.risk,
                _ => false,
            },
        }
    }
}

/// Sessions as their receipts tell them, oldest receipt first.
#[derive(Default)]
pub(super) struct Sessions(HashMap<SessionId, Session>);

struct Session {
    context: Context,
    known: Known,
    next_seq: u64,
}

impl Sessions {
    /// Notes a receipt. Gives the situation back in which it was decided, when it is a decision about an action.
    pub(super) fn note(&mut self, receipt: &Receipt) -> Option<Situation> {
        let of = &receipt.predicate;
        if self.0.len() >= SESSIONS_MAX && !self.0.contains_key(&of.session.id) {
            self.0.clear();
        }
        let begins_with_action = of.kind == ReceiptKind::Decision && of.action.is_some();
        let session = self.0.entry(of.session.id.clone()).or_insert_with(|| Session::new(begins_with_action));
        session.known.whole &= session.next_seq == of.session.seq;
        session.next_seq = of.session.seq + 1;
        session.note(receipt)
    }
}

impl Session {
    fn new(begins_with_action: bool) -> Self {
        let known = Known {
            delegated: false,
            ended: false,
            handed_on: false,
            outcomes: false,
            parameters: false,
            request: true,
            requests: true,
            risk: false,
            // A decision is noted at its own time, everything else at that of its receipt.
            started: begins_with_action,
            whole: true,
        };
        Self { context: Context::default(), known, next_seq: 0 }
    }

    fn note(&mut self, receipt: &Receipt) -> Option<Situation> {
        let of = &receipt.predicate;
        match of.kind {
            ReceiptKind::Decision => return self.note_decision(receipt),
            ReceiptKind::Outcome => {
                self.known.outcomes = true;
                if of.outcome.as_ref().is_some_and(|outcome| outcome.status == OutcomeStatus::Failed) {
                    self.context.failed_count = self.context.failed_count.saturating_add(1);
                }
            }
            ReceiptKind::Intent => self.note_intent(receipt),
            ReceiptKind::SessionEnd => self.known.ended = true,
            _ => {}
        }
        None
    }

    fn note_decision(&mut self, receipt: &Receipt) -> Option<Situation> {
        let of = &receipt.predicate;
        let (view, recorded) = (of.action.as_ref()?, of.decision.as_ref()?);
        let action = action_of(view, receipt);
        self.known.handed_on = !action.identity.delegation.is_empty();
        self.known.delegated |= self.known.handed_on;
        self.known.parameters = receipt.disclosed.is_some();
        self.known.risk = view.risk.is_some();
        if let Some(drift) = view.risk.as_ref().and_then(|risk| risk.drift) {
            let max = self.context.drift.map_or(drift, |trend| trend.max.max(drift));
            self.context.drift = Some(Trend { max, ..Trend::default() });
        }
        let situation = of.context.as_ref().map(|told| self.situation(&action, told, view, of.decided_at));
        let decision = Decision { verdict: recorded.verdict, ..Decision::deny("") };
        ledger::fold_action(&mut self.context, &action, &decision, of.decided_at);
        situation
    }

    /// A receipt does not say whether a message came from a person; only of the first one its digest does.
    fn note_intent(&mut self, receipt: &Receipt) {
        let of = &receipt.predicate;
        let text = receipt.disclosed.as_ref().and_then(|disclosed| disclosed.request.clone());
        let first = of.context.as_ref().and_then(|view| view.request_sha256.clone());
        let again = self.context.request_sha256.is_some();
        self.known.requests &= !again;
        let by_human = again || first.is_some();
        let intent = Intent {
            by_human,
            identity: Identity::default(),
            session: session_of(of),
            source: source_of(of),
            text: text.unwrap_or_default(),
            timestamp: of.decided_at,
        };
        ledger::fold_intent(&mut self.context, &intent);
    }

    fn situation(&self, action: &Action, told: &ContextView, view: &ActionView, now: Timestamp) -> Situation {
        let request = self.context.request_sha256 == told.request_sha256;
        let mut context = self.context.clone();
        context.action_count = told.action_count;
        context.labels.clone_from(&told.labels);
        context.untrusted = told.untrusted;
        context.risk.clone_from(&view.risk);
        if !request {
            // Its text is not known, only whether there was one.
            context.request = told.request_sha256.as_ref().map(|_| String::new());
            context.request_sha256.clone_from(&told.request_sha256);
        }
        Situation { action: action.clone(), context, known: Known { request, ..self.known.clone() }, now }
    }
}

fn action_of(view: &ActionView, receipt: &Receipt) -> Action {
    let of = &receipt.predicate;
    let disclosed = receipt.disclosed.clone().unwrap_or_default();
    let mut identity = of.identity.as_ref().map(identity_of).unwrap_or_default();
    if let Some(human) = &mut identity.human {
        human.email = disclosed.human_email;
        human.name = disclosed.human_name;
    }
    Action {
        action_id: view.action_id.clone(),
        call_id: view.call_id.clone(),
        delivery_id: of.vendor.delivery_id.clone(),
        effect: view.effect,
        facets: disclosed.facets.unwrap_or_default(),
        identity,
        operation: view.operation.clone(),
        parameters: disclosed.parameters.unwrap_or_default(),
        risk_signals: view.risk_signals.clone(),
        session: session_of(of),
        source: source_of(of),
        timestamp: view.timestamp,
        tool: view.tool.clone(),
        vendor_fields: disclosed.vendor_fields,
    }
}

fn identity_of(view: &IdentityView) -> Identity {
    Identity {
        agent: Agent { id: view.agent.clone(), kind: view.agent_kind.clone(), model: view.model.clone() },
        assurance: view.assurance,
        delegation: view.delegation.clone(),
        device: view.device.clone(),
        human: view.human.clone().map(|id| Human { id, ..Human::default() }),
        role: view.role.clone(),
        scope: view.scope.clone(),
        service: view.service.clone(),
        tenant: view.tenant.clone(),
        verified_by: view.verified_by.clone(),
    }
}

fn session_of(of: &Predicate) -> SessionRef {
    let vendor_id = of.vendor.session_id.clone().unwrap_or_default();
    SessionRef { id: of.session.id.clone(), turn: None, vendor_id }
}

fn source_of(of: &Predicate) -> Source {
    Source {
        connector: of.vendor.connector.clone(),
        event: of.vendor.event.clone(),
        vendor: of.vendor.name.clone(),
    }
}

/// A moment as people write it: RFC 3339, or how long ago, for example `7d`, `12h` or `30m`.
pub(super) fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong =
        || format!("`{text}` is neither a time (RFC 3339) nor how long ago, such as `7d`, `12h` or `30m`");
    let unit = text.chars().next_back().with_context(wrong)?;
    let seconds: u64 = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        _ => bail!(wrong()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().ok().with_context(wrong)?;
    let ago = Duration::from_secs(count.checked_mul(seconds).with_context(wrong)?);
    let ago = i64::try_from(ago.as_millis()).ok().with_context(wrong)?;
    Ok(Timestamp(now.0.saturating_sub(ago)))
}
