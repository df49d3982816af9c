//! The journal's records: length-prefixed, little-endian, without padding.
//!
//! A batch is the checkpoint's note, the index of its first leaf, and its commits. A commit is its leaves, its
//! recorded answer, the sessions as they stand after it, and its changes of live state. What may have to be read
//! again by itself (a leaf, a recorded answer, a session) is one record that a [`Place`] points at.

use std::str::FromStr;

use bytes::Bytes;
use countersign_receipt::LeafHash;
use countersign_schemas::{ApprovalId, ReceiptKind, SessionId, Timestamp, Verdict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    ApprovalWrite, BreakGlassWrite, Commit, GrantWrite, HaltWrite, Index, NewLeaf, OutboxWrite, Recorded,
    SessionState, StoredLeaf, Summary,
};

/// Where a record lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Journal position of its first byte.
    pub(crate) position: u64,
    /// Its length in bytes.
    pub(crate) length: u32,
}

/// Bytes that are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed record: {0}")]
pub(crate) struct Malformed(String);

/// Changes of the state that is kept whole in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) approvals: Vec<ApprovalWrite>,
    pub(crate) grants: Vec<GrantWrite>,
    pub(crate) outbox: Vec<OutboxWrite>,
    pub(crate) halts: Vec<HaltWrite>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) break_glasses: Vec<BreakGlassWrite>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.approvals.is_empty()
            && self.grants.is_empty()
            && self.outbox.is_empty()
            && self.halts.is_empty()
            && self.break_glasses.is_empty()
    }
}

/// A batch as it stands in the journal.
pub(crate) struct Batch<'a> {
    pub(crate) note: &'a str,
    pub(crate) first_index: Index,
    pub(crate) commits: Vec<CommitRecord<'a>>,
}

/// A commit as it stands in the journal.
pub(crate) struct CommitRecord<'a> {
    pub(crate) leaves: Vec<(Place, LeafRecord<'a>)>,
    pub(crate) recorded: Option<(Place, RecordedRecord<'a>)>,
    pub(crate) sessions: Vec<(Place, SessionRecord<'a>)>,
    pub(crate) changes: Changes,
}

/// A leaf and what is kept beside it.
pub(crate) struct LeafRecord<'a> {
    pub(crate) hash: LeafHash,
    pub(crate) summary: Summary,
    pub(crate) bytes: &'a [u8],
    pub(crate) disclosure: Option<&'a str>,
}

impl LeafRecord<'_> {
    pub(crate) fn stored(self, index: Index) -> StoredLeaf {
        let disclosure = self.disclosure.map(str::to_owned);
        StoredLeaf { index, bytes: self.bytes.to_vec(), disclosure, summary: self.summary }
    }
}

/// A recorded answer.
pub(crate) struct RecordedRecord<'a> {
    pub(crate) key: &'a str,
    pub(crate) expires_at: Timestamp,
    request_sha256: &'a str,
    status: u16,
    content_type: &'a str,
    body: &'a [u8],
    waits_for: Vec<ApprovalId>,
}

impl RecordedRecord<'_> {
    pub(crate) fn recorded(self) -> Recorded {
        Recorded {
            body: self.body.to_vec(),
            content_type: self.content_type.to_owned(),
            expires_at: self.expires_at,
            request_sha256: self.request_sha256.to_owned(),
            status: self.status,
            waits_for: self.waits_for,
        }
    }
}

/// A session as it stands after a commit.
pub(crate) struct SessionRecord<'a> {
    pub(crate) id: SessionId,
    version: u64,
    next_seq: u64,
    head: LeafHash,
    context: &'a [u8],
}

impl SessionRecord<'_> {
    pub(crate) fn state(&self) -> SessionState {
        let Self { version, next_seq, head, context, .. } = *self;
        SessionState { version, next_seq, head, context: Bytes::copy_from_slice(context) }
    }
}

/// The part of a commit that does not depend on what was committed before it, so that it can be encoded by the
/// caller, side by side with others. It is known to read back: a record that does not would keep the store from ever
/// opening again.
///
/// # Errors
///
/// [`Malformed`] when a part has no encoded form, does not read back, or is longer than 4 GiB.
pub(crate) fn encode_body(commit: &Commit, changes: &Changes) -> Result<Vec<u8>, Malformed> {
    let leaves: usize = commit.leaves.iter().map(|leaf| leaf.bytes.len() + 1024).sum();
    let mut out = Encoder(Vec::with_capacity(leaves + 1024));
    out.u32(commit.leaves.len())?;
    for leaf in &commit.leaves {
        out.record(|out| encode_leaf(out, leaf))?;
    }
    match &commit.recorded {
        None => out.flag(false),
        Some((key, recorded)) => {
            out.flag(true);
            out.record(|out| encode_recorded(out, key, recorded))?;
        }
    }
    if changes.is_empty() {
        out.bytes(&[])?
    } else {
        out.json(changes)?
    }
    decode_body(&mut Decoder { bytes: &out.0, at: 0, position: 0 })?;
    Ok(out.0)
}

fn encode_leaf(out: &mut Encoder, leaf: &NewLeaf) -> Result<(), Malformed> {
    out.0.extend_from_slice(&leaf.hash);
    encode_summary(out, &leaf.summary)?;
    out.bytes(&leaf.bytes)?;
    out.flag(leaf.disclosure.is_some());
    out.bytes(leaf.disclosure.as_deref().unwrap_or_default().as_bytes())
}

fn encode_summary(out: &mut Encoder, summary: &Summary) -> Result<(), Malformed> {
    out.bytes(summary.receipt_id.as_str().as_bytes())?;
    out.bytes(summary.kind.as_str().as_bytes())?;
    out.bytes(summary.session_id.as_str().as_bytes())?;
    out.u64(summary.session_seq);
    out.time(summary.decided_at);
    out.bytes(summary.connector.as_bytes())?;
    out.optional(summary.action_id.as_deref())?;
    out.optional(summary.tool.as_deref())?;
    out.optional(summary.verdict.map(Verdict::as_str))?;
    out.optional(summary.expressed.as_deref())?;
    out.optional(summary.agent.as_deref())?;
    out.optional(summary.human.as_deref())
}

fn decode_summary(input: &mut Decoder<'_>) -> Result<Summary, Malformed> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(Summary {
        receipt_id: input.parse("a receipt's name")?,
        kind: input.named(&ReceiptKind::ALL, ReceiptKind::as_str, "a kind of receipt")?,
        session_id: input.parse("a session's name")?,
        session_seq: input.u64()?,
        decided_at: input.time()?,
        connector: input.text()?.to_owned(),
        action_id: owned(input.optional()?),
        tool: owned(input.optional()?),
        verdict: match input.flag()? {
            true => Some(input.named(&Verdict::ALL, Verdict::as_str, "a verdict")?),
            false => None,
        },
        expressed: owned(input.optional()?),
        agent: owned(input.optional()?),
        human: owned(input.optional()?),
    })
}

fn encode_recorded(out: &mut Encoder, key: &str, recorded: &Recorded) -> Result<(), Malformed> {
    out.bytes(key.as_bytes())?;
    out.bytes(recorded.request_sha256.as_bytes())?;
    out.u64(u64::from(recorded.status));
    out.bytes(recorded.content_type.as_bytes())?;
    out.bytes(&recorded.body)?;
    out.json(&recorded.waits_for)?;
    out.time(recorded.expires_at);
    Ok(())
}

/// Appends a commit: its body, then the sessions as they stand after it.
///
/// # Errors
///
/// [`Malformed`] when a part is longer than 4 GiB.
pub(crate) fn encode_commit<'s>(
    out: &mut Encoder,
    body: &[u8],
    sessions: impl ExactSizeIterator<Item = (&'s SessionId, &'s SessionState)>,
) -> Result<(), Malformed> {
    out.0.extend_from_slice(body);
    out.u32(sessions.len())?;
    for (id, state) in sessions {
        out.record(|out| {
            out.bytes(id.as_str().as_bytes())?;
            out.u64(state.version);
            out.u64(state.next_seq);
            out.0.extend_from_slice(&state.head);
            out.bytes(&state.context)
        })?;
    }
    Ok(())
}

/// Begins a batch; its commits follow by [`encode_commit`].
///
/// # Errors
///
/// [`Malformed`] when a part is longer than 4 GiB.
pub(crate) fn encode_batch_head(
    out: &mut Encoder,
    note: &str,
    first_index: Index,
    commits: usize,
) -> Result<(), Malformed> {
    out.bytes(note.as_bytes())?;
    out.u64(first_index);
    out.u32(commits)
}

/// Reads a batch that begins at `position`.
///
/// # Errors
///
/// [`Malformed`]
pub(crate) fn decode_batch(bytes: &[u8], position: u64) -> Result<Batch<'_>, Malformed> {
    let mut input = Decoder { bytes, at: 0, position };
    let note = input.text()?;
    let first_index = input.u64()?;
    let commits = (0..input.u32()?).map(|_| decode_commit(&mut input)).collect::<Result<_, _>>()?;
    input.end()?;
    Ok(Batch { note, first_index, commits })
}

fn decode_commit<'a>(input: &mut Decoder<'a>) -> Result<CommitRecord<'a>, Malformed> {
    let mut commit = decode_body(input)?;
    for _ in 0..input.u32()? {
        let (place, bytes) = input.record()?;
        commit.sessions.push((place, decode_session(bytes)?));
    }
    Ok(commit)
}

fn decode_body<'a>(input: &mut Decoder<'a>) -> Result<CommitRecord<'a>, Malformed> {
    let mut leaves = Vec::new();
    for _ in 0..input.u32()? {
        let (place, bytes) = input.record()?;
        leaves.push((place, decode_leaf(bytes)?));
    }
    let mut recorded = None;
    if input.flag()? {
        let (place, bytes) = input.record()?;
        recorded = Some((place, decode_recorded(bytes)?));
    }
    let changes = input.bytes()?;
    let changes = if changes.is_empty() { Changes::default() } else { from_json(changes)? };
    Ok(CommitRecord { leaves, recorded, sessions: Vec::new(), changes })
}

/// Reads a leaf record.
///
/// # Errors
///
/// [`Malformed`]
pub(crate) fn decode_leaf(bytes: &[u8]) -> Result<LeafRecord<'_>, Malformed> {
    let mut input = Decoder { bytes, at: 0, position: 0 };
    let hash = input.hash()?;
    let summary = decode_summary(&mut input)?;
    let bytes = input.bytes()?;
    let disclosure = input.flag()?;
    let text = input.text()?;
    input.end()?;
    Ok(LeafRecord { hash, summary, bytes, disclosure: disclosure.then_some(text) })
}

/// Reads a recorded answer and its key.
///
/// # Errors
///
/// [`Malformed`]
pub(crate) fn decode_recorded(bytes: &[u8]) -> Result<RecordedRecord<'_>, Malformed> {
    let mut input = Decoder { bytes, at: 0, position: 0 };
    let recorded = RecordedRecord {
        key: input.text()?,
        request_sha256: input.text()?,
        status: u16::try_from(input.u64()?).map_err(|_| Malformed("a status above 65535".to_owned()))?,
        content_type: input.text()?,
        body: input.bytes()?,
        waits_for: input.json()?,
        expires_at: input.time()?,
    };
    input.end()?;
    Ok(recorded)
}

/// Reads a session and its name.
///
/// # Errors
///
/// [`Malformed`]
pub(crate) fn decode_session(bytes: &[u8]) -> Result<SessionRecord<'_>, Malformed> {
    let mut input = Decoder { bytes, at: 0, position: 0 };
    let session = SessionRecord {
        id: input.parse("a session's name")?,
        version: input.u64()?,
        next_seq: input.u64()?,
        head: input.hash()?,
        context: input.bytes()?,
    };
    input.end()?;
    Ok(session)
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| Malformed(error.to_string()))
}

/// Appends to a byte string.
pub(crate) struct Encoder(pub(crate) Vec<u8>);

impl Encoder {
    fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    fn u32(&mut self, value: usize) -> Result<(), Malformed> {
        self.0.extend_from_slice(&narrow(value)?.to_le_bytes());
        Ok(())
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        self.0.extend_from_slice(&time.0.to_le_bytes());
    }

    fn optional(&mut self, text: Option<&str>) -> Result<(), Malformed> {
        self.flag(text.is_some());
        text.map_or(Ok(()), |text| self.bytes(text.as_bytes()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.u32(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn json(&mut self, value: &impl Serialize) -> Result<(), Malformed> {
        self.record(|out| {
            serde_json::to_writer(&mut out.0, value).map_err(|error| Malformed(error.to_string()))
        })
    }

    /// Appends what `write` writes, its length before it.
    fn record(&mut self, write: impl FnOnce(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self)?;
        let length = narrow(self.0.len() - start - 4)?;
        self.0[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

fn narrow(length: usize) -> Result<u32, Malformed> {
    u32::try_from(length).map_err(|_| Malformed("longer than 4 GiB".to_owned()))
}

/// Takes a byte string apart.
struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Journal position of the first byte.
    position: u64,
}

impl<'a> Decoder<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| Malformed("ends too early".to_owned()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Malformed("ends too early".to_owned()))
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        let [flag] = self.array()?;
        Ok(flag != 0)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn time(&mut self) -> Result<Timestamp, Malformed> {
        Ok(Timestamp(i64::from_le_bytes(self.array()?)))
    }

    fn hash(&mut self) -> Result<LeafHash, Malformed> {
        self.array()
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed("longer than memory".to_owned()))?)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text that is not UTF-8".to_owned()))
    }

    fn optional(&mut self) -> Result<Option<&'a str>, Malformed> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    fn parse<T: FromStr>(&mut self, what: &str) -> Result<T, Malformed> {
        self.text()?.parse().map_err(|_| Malformed(format!("not {what}")))
    }

    /// The one of `all` that has the name that follows.
    fn named<T: Copy>(&mut self, all: &[T], name: fn(T) -> &'static str, what: &str) -> Result<T, Malformed> {
        let text = self.text()?;
        let found = all.iter().copied().find(|one| name(*one) == text);
        found.ok_or_else(|| Malformed(format!("not {what}")))
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, Malformed> {
        from_json(self.bytes()?)
    }

    /// A record, and where it lies.
    fn record(&mut self) -> Result<(Place, &'a [u8]), Malformed> {
        let bytes = self.bytes()?;
        let start = u64::try_from(self.at - bytes.len()).map_err(|error| Malformed(error.to_string()))?;
        Ok((Place { position: self.position + start, length: narrow(bytes.len())? }, bytes))
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed("bytes after its end".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contract::{everything, leaf, recorded, session};

    fn encoded(commit: &Commit, sessions: &[(SessionId, SessionState)]) -> Vec<u8> {
        let changes = Changes {
            approvals: commit.approvals.clone(),
            grants: commit.grants.clone(),
            ..Changes::default()
        };
        let body = encode_body(commit, &changes).unwrap();
        let mut out = Encoder(Vec::new());
        encode_batch_head(&mut out, "a note", 7, 2).unwrap();
        for _ in 0..2 {
            encode_commit(&mut out, &body, sessions.iter().map(|(id, state)| (id, state))).unwrap();
        }
        out.0
    }

    proptest! {
        #[test]
        fn a_batch_reads_back_and_each_place_is_its_record(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            body in prop::collection::vec(any::<u8>(), 0..200),
            context in prop::collection::vec(any::<u8>(), 0..200),
            disclosure in prop::option::of(".{0,40}"),
            version: u64,
            status: u16,
        ) {
            let id = session("one");
            let leaf = NewLeaf { bytes: bytes.clone(), disclosure: disclosure.clone(), ..leaf(&id, 3) };
            let answer = Recorded { body, status, ..recorded("\u{1F512}") };
            let key = "key\n\u{e9}".to_owned();
            let commit = Commit { leaves: vec![leaf.clone()], recorded: Some((key.clone(), answer.clone())), ..everything("one") };
            let state = SessionState { version, next_seq: !version, head: leaf.hash, context: context.into() };
            let written = encoded(&commit, &[(id.clone(), state.clone())]);
            let batch = decode_batch(&written, 1_000).unwrap();
            prop_assert_eq!((batch.note, batch.first_index, batch.commits.len()), ("a note", 7, 2));
            for read in batch.commits {
                let at = |place: Place| {
                    let start = usize::try_from(place.position).unwrap() - 1_000;
                    &written[start..start + usize::try_from(place.length).unwrap()]
                };
                let stored = decode_leaf(at(read.leaves[0].0)).unwrap().stored(7);
                prop_assert_eq!((stored.bytes, stored.disclosure, stored.summary), (bytes.clone(), disclosure.clone(), leaf.summary.clone()));
                let (place, ..) = read.recorded.unwrap();
                let again = decode_recorded(at(place)).unwrap();
                prop_assert_eq!((again.key.to_owned(), again.recorded()), (key.clone(), answer.clone()));
                let again = decode_session(at(read.sessions[0].0)).unwrap();
                prop_assert_eq!((again.state(), again.id), (state.clone(), id.clone()));
                prop_assert_eq!(read.changes.approvals.len(), 1);
            }
        }

        #[test]
        fn a_batch_that_ends_early_or_late_is_malformed(cut: prop::sample::Index) {
            let written = encoded(&everything("one"), &[(session("one"), SessionState::default())]);
            let end = cut.index(written.len());
            prop_assert!(decode_batch(&written[..end], 0).is_err());
            prop_assert!(decode_batch(&[&written[..], &[0]].concat(), 0).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _malformed = (decode_batch(&bytes, 0).is_err(), decode_leaf(&bytes).is_err(), decode_recorded(&bytes).is_err(), decode_session(&bytes).is_err());
        }
    }
}
