//! The last signed checkpoint, kept in a file outside the store's directory. It may lag behind the log, never lead
//! it: a log that is behind this file was restored from an older copy, and signing on would fork it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// More is not a checkpoint.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// The file.
pub(crate) struct CheckpointFile {
    path: PathBuf,
    /// What is in it, as far as we know.
    note: String,
    is_synced: bool,
}

impl CheckpointFile {
    /// Reads the file; an absent one holds nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), note: read(path)?, is_synced: true })
    }

    /// The note that it holds; empty when there is none.
    pub(crate) fn note(&self) -> &str {
        &self.note
    }

    /// Whether a power cut could take the note away.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Puts `note` into the file. Durable only after [`CheckpointFile::sync`].
    ///
    /// # Errors
    ///
    /// When it cannot be written, or somebody else wrote it: then two stores sign for one log.
    pub(crate) fn put(&mut self, note: &str) -> io::Result<()> {
        if self.note == note {
            return Ok(());
        }
        if read(&self.path)? != self.note {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "somebody else wrote the checkpoint file"));
        }
        let mut draft = self.path.clone().into_os_string();
        draft.push(".new");
        fs::write(&draft, note)?;
        fs::rename(&draft, &self.path)?;
        note.clone_into(&mut self.note);
        self.is_synced = false;
        Ok(())
    }

    /// Makes what was put durable.
    ///
    /// # Errors
    ///
    /// When it cannot be synced.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        if let Some(directory) = self.path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        self.is_synced = true;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.len() > NOTE_BYTES_MAX => Err(ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read_to_string(path),
    }
}
