//! Turns the lines of an export into the lines of a projection, as they come.

use std::io::{self, Write};

use countersign_export::{Projection, csv, ocsf};
use countersign_receipt::{Envelope, ExportHeader, ExportLine, LINE_BYTES_MAX, open_disclosure};
use countersign_schemas::Statement;

/// Into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Projected {
    Ocsf,
    Csv,
}

/// Takes an export and writes its projection to `out`.
pub(super) struct Projector<W: Write> {
    /// The line that has begun.
    line: Vec<u8>,
    /// The log's name, once the header has come.
    origin: Option<String>,
    out: W,
    projected: Projected,
}

impl<W: Write> Projector<W> {
    pub(super) fn new(projected: Projected, out: W) -> Self {
        Self { line: Vec::new(), origin: None, out, projected }
    }

    /// Gives `out` back once everything is written.
    ///
    /// # Errors
    ///
    /// When the export ended within a line.
    pub(super) fn finish(self) -> anyhow::Result<W> {
        if self.line.is_empty() && self.origin.is_some() {
            Ok(self.out)
        } else {
            anyhow::bail!("the export was cut off")
        }
    }

    fn project(&mut self) -> anyhow::Result<()> {
        let Some(origin) = &self.origin else {
            if self.projected == Projected::Csv {
                self.out.write_all(csv::header().as_bytes())?;
            }
            self.origin = Some(ExportHeader::parse(&self.line)?.origin);
            return Ok(());
        };
        let line = ExportLine::parse(&self.line)?;
        let envelope = Envelope::from_leaf(line.leaf())?;
        let statement: Statement = serde_json::from_slice(&envelope.payload)?;
        let disclosed = line.disclosure.map(open_disclosure).transpose()?;
        let projection = Projection {
            disclosed: disclosed.as_ref(),
            envelope: line.envelope.get(),
            index: line.index,
            origin,
            predicate: &statement.predicate,
        };
        match self.projected {
            Projected::Csv => self.out.write_all(csv::row(&projection).as_bytes())?,
            Projected::Ocsf => {
                for event in ocsf::events(&projection) {
                    serde_json::to_writer(&mut self.out, &event)?;
                    self.out.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Projector<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let taken = &bytes[..end];
        if self.line.len() + taken.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("a line of the export is too long"));
        }
        self.line.extend_from_slice(taken);
        if taken.ends_with(b"\n") {
            self.project().map_err(io::Error::other)?;
            self.line.clear();
        }
        Ok(end)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
