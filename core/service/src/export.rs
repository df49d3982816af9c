//! Exports: the log, or a part of it, as the lines that `countersign verify` takes.

use std::sync::Arc;

use bytes::Bytes;
use countersign_receipt::{Checkpoint, Envelope, ExportHeader, ExportWriter, Frontier};
use countersign_schemas::{ReceiptKind, SessionId, Timestamp, Verdict};
use countersign_store::{Query, Store, StoreError, StoredLeaf};
use futures::stream::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Leaves read at once: bounds memory, whatever the size of the log.
const SLICE: usize = 512;
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Which receipts are wanted. Without any field: all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Only this action (`act_…`).
    pub action: Option<String>,
    /// Only below this index: for paging.
    pub below: Option<u64>,
    /// Only this connector instance.
    pub connector: Option<String>,
    /// Add the personal parts that are kept beside the log.
    pub disclose: bool,
    /// Only this kind, for example `decision`.
    pub kind: Option<String>,
    /// At most this many; lists only.
    pub limit: Option<usize>,
    /// Only this session (`ses_…`).
    pub session: Option<String>,
    /// Only at or after this time (RFC 3339).
    pub since: Option<String>,
    /// Only before this time (RFC 3339).
    pub until: Option<String>,
    /// Only this decision, for example `DENY`.
    pub verdict: Option<String>,
}

impl Filter {
    /// As the store understands it.
    ///
    /// # Errors
    ///
    /// A sentence that names the field and what would be right.
    pub fn query(&self) -> Result<Query, String> {
        Ok(Query {
            action_id: self.action.clone(),
            below: self.below,
            connector: self.connector.clone(),
            kind: self.kind.as_deref().map(|text| word::<ReceiptKind>("kind", text)).transpose()?,
            limit: self.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX),
            session_id: self
                .session
                .as_deref()
                .map(|text| field::<SessionId>("session", text))
                .transpose()?,
            since: self.since.as_deref().map(|text| field::<Timestamp>("since", text)).transpose()?,
            until: self.until.as_deref().map(|text| field::<Timestamp>("until", text)).transpose()?,
            verdict: self.verdict.as_deref().map(|text| word::<Verdict>("verdict", text)).transpose()?,
        })
    }

    /// Whether every receipt is wanted.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        let Self { action, below, connector, disclose: _, kind, limit: _, session, since, until, verdict } =
            self;
        let texts = [action, connector, kind, session, since, until, verdict];
        below.is_none() && texts.iter().all(|text| text.is_none())
    }
}

fn field<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("{name}: {error}"))
}

fn word<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| format!("{name}: {error}"))
}

/// The signed statement inside a leaf; `Null` when the leaf is not one of ours.
#[must_use]
pub fn statement_of(leaf: &[u8]) -> Value {
    let envelope = Envelope::from_leaf(leaf).ok();
    envelope.and_then(|envelope| serde_json::from_slice(&envelope.payload).ok()).unwrap_or_default()
}

/// Whether a receipt is wanted. The store's index answers the same question for lists; an export reads every leaf.
fn wanted(query: &Query, leaf: &StoredLeaf) -> bool {
    let of = &leaf.summary;
    fn is<T: PartialEq>(want: Option<&T>, have: &T) -> bool {
        want.is_none_or(|want| want == have)
    }
    is(query.session_id.as_ref(), &of.session_id)
        && query.action_id.as_ref().is_none_or(|want| of.action_id.as_ref() == Some(want))
        && is(query.connector.as_ref(), &of.connector)
        && is(query.kind.as_ref(), &of.kind)
        && query.verdict.is_none_or(|want| of.verdict == Some(want))
        && query.since.is_none_or(|since| of.decided_at >= since)
        && query.until.is_none_or(|until| of.decided_at < until)
        && query.below.is_none_or(|below| leaf.index < below)
}

struct Run {
    disclose: bool,
    next: u64,
    query: Query,
    size: u64,
    store: Arc<dyn Store>,
    whole: bool,
    writer: Option<ExportWriter<Vec<u8>>>,
}

/// The lines of an export, in slices, as of now. A whole export is complete and needs no proofs; a filtered one
/// carries an inclusion proof on each line.
///
/// # Errors
///
/// A sentence, when the filter is wrong or the log is empty. Later failures end the stream with an error.
pub async fn stream(
    store: Arc<dyn Store>,
    filter: Filter,
) -> Result<impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static, String> {
    let query = filter.query()?;
    let head = store.checkpoint().await.map_err(|error| error.to_string())?;
    let head = head.ok_or_else(|| "the log is empty".to_owned())?;
    let checkpoint = Checkpoint::parse_unverified(&head.note).map_err(|error| error.to_string())?;
    let whole = filter.wants_all();
    let header = ExportHeader {
        checkpoint: head.note,
        complete: whole,
        edge: Frontier::new().hashes().to_vec(),
        from: 0,
        origin: checkpoint.origin,
        to: head.size,
        version: countersign_receipt::EXPORT_VERSION,
    };
    let writer = ExportWriter::new(Vec::new(), &header).map_err(|error| error.to_string())?;
    let run = Run {
        disclose: filter.disclose,
        next: 0,
        query,
        size: head.size,
        store,
        whole,
        writer: Some(writer),
    };
    Ok(stream::unfold(Some(run), |run| async {
        let mut run = run?;
        match run.slice().await {
            Ok(None) => None,
            Ok(Some(lines)) => Some((Ok(lines.into()), Some(run))),
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
        }
    }))
}

impl Run {
    /// The next lines; `None` after the last.
    async fn slice(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(mut writer) = self.writer.take() else { return Ok(None) };
        let text = |error: StoreError| error.to_string();
        let limit = usize::try_from(self.size - self.next).unwrap_or(usize::MAX).min(SLICE);
        let leaves = self.store.leaves(self.next, limit).await.map_err(text)?;
        for leaf in leaves.iter().filter(|leaf| self.whole || wanted(&self.query, leaf)) {
            let proof = match self.whole {
                true => None,
                false => Some(self.store.inclusion(leaf.index, self.size).await.map_err(text)?),
            };
            let disclosure = leaf.disclosure.as_deref().filter(|_| self.disclose);
            writer
                .push(leaf.index, &leaf.bytes, proof.as_deref(), disclosure)
                .map_err(|error| error.to_string())?;
        }
        self.next += leaves.len() as u64;
        if self.next >= self.size || leaves.is_empty() {
            return writer.finish().map(Some).map_err(|error| error.to_string());
        }
        let lines = std::mem::take(writer.get_mut());
        self.writer = Some(writer);
        Ok(Some(lines))
    }
}
