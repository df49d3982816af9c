//! The export: what a stranger gets, and all that he needs beside the trust file.
//!
//! Lines of JSON, each ended by one line feed, none longer than [`LINE_BYTES_MAX`]. The first is the
//! [`ExportHeader`], every other one an [`ExportLine`]. The form is exact: keys in this order, no white space, nothing
//! else; a reader that writes back what it read gets the same bytes.
//!
//! A *complete* export holds every leaf from `from` to the checkpoint's size. It needs no proofs, because pushing its
//! leaves on `edge` gives the signed root. Any other export is a *selection*: each line carries its inclusion proof.
//! It says nothing of what is not in it, so its `from` and `to` are always 0 and the checkpoint's size.

use std::io::{BufRead, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Checkpoint, LeafHash, NoteError};

/// The version of the format, which is also the header's first value.
pub const EXPORT_VERSION: u32 = 1;
/// A leaf has at most 65,535 bytes; the rest is room for a disclosure with a whole request in it.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// An export cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Reading or writing failed.
    #[error("cannot read or write the export")]
    Io(#[from] std::io::Error),
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The line has no line feed: the file was cut.
    #[error("the line has no line feed at its end")]
    Cut,
    /// Not JSON of this shape.
    #[error("not a line of an export: {0}")]
    Json(#[source] serde_json::Error),
    /// The same content, written in another way.
    #[error("the line is not written in the one form that an export has")]
    Form,
    /// Another version of the format.
    #[error("export version {0} is not known")]
    Version(u32),
    /// The checkpoint is not one.
    #[error("the checkpoint cannot be read: {0}")]
    Checkpoint(#[source] NoteError),
    /// The header contradicts itself.
    #[error("the header contradicts itself: {0}")]
    Header(&'static str),
    /// The line does not fit the header or the lines before it.
    #[error("leaf {index} does not fit: {why}")]
    Line {
        /// Index of the leaf.
        index: u64,
        /// Why it does not fit.
        why: &'static str,
    },
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    /// [`EXPORT_VERSION`].
    #[serde(rename = "countersignExport")]
    pub version: u32,
    /// The log's name.
    pub origin: String,
    /// The signed head of the log (C2SP tlog-checkpoint) that everything below is measured by.
    pub checkpoint: String,
    /// First leaf of a complete export; 0 for a selection.
    pub from: u64,
    /// The checkpoint's size.
    pub to: u64,
    /// True when every leaf `from..to` is there and `to` is the checkpoint's size.
    pub complete: bool,
    /// [`crate::Frontier::hashes`] of the tree of `from` leaves, when complete; else empty.
    #[serde(with = "hashes")]
    pub edge: Vec<LeafHash>,
}

impl ExportHeader {
    /// Checks that the parts fit each other. Says nothing about the checkpoint's signature.
    ///
    /// # Errors
    ///
    /// [`ExportError`] `Version`, `Checkpoint` or `Header`.
    pub fn check(&self) -> Result<Checkpoint, ExportError> {
        if self.version != EXPORT_VERSION {
            return Err(ExportError::Version(self.version));
        }
        let checkpoint = Checkpoint::parse_unverified(&self.checkpoint).map_err(ExportError::Checkpoint)?;
        let edge = if self.complete { self.from.count_ones() } else { 0 };
        let wrong = if checkpoint.origin != self.origin {
            "its checkpoint is of another log"
        } else if self.from > self.to {
            "it ends before it begins"
        } else if self.to > checkpoint.size {
            "it ends beyond its checkpoint"
        } else if !self.complete && (self.from, self.to) != (0, checkpoint.size) {
            "a selection is from 0 to its checkpoint's size"
        } else if usize::try_from(edge).ok() != Some(self.edge.len()) {
            "its edge has the wrong number of hashes"
        } else {
            return Ok(checkpoint);
        };
        Err(ExportError::Header(wrong))
    }

    /// Reads the first line, with its line feed.
    ///
    /// # Errors
    ///
    /// [`ExportError`] `Cut`, `Json` or `Form`.
    pub fn parse(line: &[u8]) -> Result<Self, ExportError> {
        exact(line)
    }
}

/// Any line but the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportLine<'a> {
    /// Index of the leaf.
    pub index: u64,
    /// Its inclusion proof in the checkpoint's tree, nearest hash first, when the export is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_hashes")]
    pub proof: Option<Vec<LeafHash>>,
    /// The leaf: its text is the leaf's bytes.
    #[serde(borrow)]
    pub envelope: &'a RawValue,
    /// The disclosure text, when it is disclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<&'a str>,
}

impl<'a> ExportLine<'a> {
    /// Reads a line, with its line feed.
    ///
    /// # Errors
    ///
    /// [`ExportError`] `Cut`, `Json` or `Form`.
    pub fn parse(line: &'a [u8]) -> Result<Self, ExportError> {
        exact(line)
    }

    /// The exact bytes of the leaf.
    #[must_use]
    pub fn leaf(&self) -> &'a [u8] {
        self.envelope.get().as_bytes()
    }
}

fn exact<'a, T: Serialize + Deserialize<'a>>(line: &'a [u8]) -> Result<T, ExportError> {
    let json = line.strip_suffix(b"\n").ok_or(ExportError::Cut)?;
    let value: T = serde_json::from_slice(json).map_err(ExportError::Json)?;
    let again = serde_json::to_vec(&value).map_err(ExportError::Json)?;
    if again == json { Ok(value) } else { Err(ExportError::Form) }
}

/// Writes an export, line by line. Refuses to write what the offline check would refuse to read.
#[derive(Debug)]
pub struct ExportWriter<W: Write> {
    out: W,
    line: Vec<u8>,
    next: u64,
    to: u64,
    complete: bool,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export.
    ///
    /// # Errors
    ///
    /// [`ExportError`] when the header contradicts itself, or `out` cannot be written to.
    pub fn new(out: W, header: &ExportHeader) -> Result<Self, ExportError> {
        let checkpoint = header.check()?;
        if header.complete && header.to != checkpoint.size {
            return Err(ExportError::Header("it is complete, but ends before its checkpoint"));
        }
        let (next, to, complete) = (header.from, header.to, header.complete);
        let mut writer = Self { out, line: Vec::new(), next, to, complete };
        writer.write(header)?;
        Ok(writer)
    }

    /// Adds a leaf. A complete export wants every index in turn and no proofs; a selection wants rising indices and
    /// a proof with each.
    ///
    /// # Errors
    ///
    /// [`ExportError`] when the leaf does not fit or cannot be written.
    pub fn push(
        &mut self,
        index: u64,
        leaf: &[u8],
        proof: Option<&[LeafHash]>,
        disclosure: Option<&str>,
    ) -> Result<(), ExportError> {
        let wrong = |why| ExportError::Line { index, why };
        if index < self.next || index >= self.to {
            return Err(wrong("it is out of order or out of range"));
        }
        if self.complete && index != self.next {
            return Err(wrong("leaves before it are missing"));
        }
        if self.complete == proof.is_some() {
            return Err(wrong("a selection has a proof with each leaf, a complete export has none"));
        }
        let text = std::str::from_utf8(leaf).map_err(|_| wrong("it is not text"))?;
        let envelope: &RawValue = serde_json::from_str(text).map_err(ExportError::Json)?;
        let proof = proof.map(<[LeafHash]>::to_vec);
        self.write(&ExportLine { index, proof, envelope, disclosure })?;
        self.next = index + 1;
        Ok(())
    }

    /// What the export is written to, so that a caller who writes to memory can take out what is there.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Ends the export and flushes it.
    ///
    /// # Errors
    ///
    /// [`ExportError`] when leaves are missing from a complete export, or the last bytes cannot be written.
    pub fn finish(mut self) -> Result<W, ExportError> {
        if self.complete && self.next != self.to {
            return Err(ExportError::Line { index: self.next, why: "it is missing" });
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn write(&mut self, value: &impl Serialize) -> Result<(), ExportError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value).map_err(ExportError::Json)?;
        self.line.push(b'\n');
        if self.line.len() > LINE_BYTES_MAX {
            return Err(ExportError::TooLong);
        }
        Ok(self.out.write_all(&self.line)?)
    }
}

/// Appends the next line, with its line feed, to `buffer`; returns its length, 0 at the end.
pub(crate) fn read_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> Result<usize, ExportError> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let length = reader.take(limit).read_until(b'\n', buffer)?;
    if length == LINE_BYTES_MAX && buffer.last() != Some(&b'\n') {
        return Err(ExportError::TooLong);
    }
    Ok(length)
}

/// Hashes as standard base64 text.
mod hashes {
    use super::{Deserialize, Deserializer, Engine, LeafHash, STANDARD, Serializer};

    pub(super) fn serialize<S: Serializer>(hashes: &[LeafHash], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(|hash| STANDARD.encode(hash)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LeafHash>, D::Error> {
        let texts = Vec::<&str>::deserialize(deserializer)?;
        // The edge and a proof have one hash per level, and a level per bit of a size.
        if texts.len() > 64 {
            return Err(serde::de::Error::custom("more than 64 hashes"));
        }
        texts.iter().map(|text| super::hash_from_base64(text)).collect()
    }
}

/// The same, where they may be absent.
mod optional_hashes {
    use super::{Deserializer, LeafHash, Serializer, hashes};

    pub(super) fn serialize<S: Serializer>(
        proof: &Option<Vec<LeafHash>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hashes::serialize(proof.as_deref().unwrap_or_default(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<LeafHash>>, D::Error> {
        hashes::deserialize(deserializer).map(Some)
    }
}

fn hash_from_base64<E: serde::de::Error>(text: &str) -> Result<LeafHash, E> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| E::custom("not the base64 of 32 bytes"))
}
