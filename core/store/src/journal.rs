//! The journal: what was committed, in order, one frame per batch, one sync per frame.
//!
//! A position counts bytes from the journal's beginning. A segment is a file named by the position of its first
//! byte; the next segment begins where the last frame of this one ends. Segments are filled with zeros beforehand,
//! because `fdatasync` of a file that neither grows nor gets new blocks is about half as dear.
//!
//! Frame: magic (4 bytes), length of the payload (u32), position of the frame (u64), CRC-32 of length, position and
//! payload (u32), payload. Little-endian.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::codec::Place;

/// 0xFF occurs in no UTF-8 text, so no receipt can hold the magic. The last byte is the version of the format.
const MAGIC: [u8; 4] = [0xC5, 0xFF, b'J', 2];
const HEADER_BYTES: usize = 20;
/// How much of a new segment is written at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// The journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The medium failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was written is not there any more.
    #[error("segment {segment:020} is damaged at byte {offset}: {problem}")]
    Damaged {
        /// The segment's name.
        segment: u64,
        /// Byte offset in the segment.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// It is in the format of another version.
    #[error("another version of countersign wrote the journal")]
    OtherVersion,
}

/// Where segments are kept.
pub(crate) trait Medium: Send + Sync {
    /// Names of all segments, in order.
    fn segments(&self) -> io::Result<Vec<u64>>;
    /// Opens a segment.
    fn open(&self, name: u64) -> io::Result<Arc<dyn Segment>>;
    /// Makes a segment of `bytes` zeros, durably.
    fn create(&self, name: u64, bytes: u64) -> io::Result<Arc<dyn Segment>>;
    /// Makes the first `ready` bytes of the next [`Medium::create`] of `bytes` cheap.
    fn prepare(&self, bytes: u64, ready: u64) -> io::Result<()>;
}

/// A run of bytes that is written once from its beginning to its end.
pub(crate) trait Segment: Send + Sync {
    /// Its size, unwritten zeros included.
    fn size(&self) -> io::Result<u64>;
    /// Reads exactly `bytes.len()` bytes.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything that was written is durable.
    fn sync(&self) -> io::Result<()>;
}

/// What readers need of the journal.
pub(crate) struct Journal {
    medium: Arc<dyn Medium>,
    segments: RwLock<Vec<u64>>,
    /// Where the next frame goes; everything before it is durable.
    end: AtomicU64,
}

/// What the one writer needs besides.
pub(crate) struct Appender {
    journal: Arc<Journal>,
    segment: Arc<dyn Segment>,
    name: u64,
    size: u64,
    segment_bytes: u64,
}

/// One frame.
pub(crate) struct Frame<'a> {
    /// Journal position of the payload.
    pub(crate) position: u64,
    /// The payload.
    pub(crate) payload: &'a [u8],
    /// Journal position of the next frame.
    pub(crate) next: u64,
}

impl Journal {
    /// Opens the journal and cuts off a frame at its end that was not completely written, because nothing that it
    /// holds was acknowledged.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`] when a sound frame follows one that is not.
    pub(crate) fn open(
        medium: Arc<dyn Medium>,
        segment_bytes: u64,
    ) -> Result<(Arc<Self>, Appender), JournalError> {
        let mut names = medium.segments()?;
        if names.is_empty() {
            medium.create(0, segment_bytes)?;
            names.push(0);
        }
        let name = names.last().copied().unwrap_or_default();
        let segment = medium.open(name)?;
        let size = segment.size()?;
        let journal = Self { medium, segments: RwLock::new(names), end: AtomicU64::new(name + size) };
        let end = journal.cut_torn_tail(&*segment, name, size)?;
        journal.end.store(end, Ordering::Release);
        let journal = Arc::new(journal);
        Ok((journal.clone(), Appender { journal, segment, name, size, segment_bytes }))
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The frames from `position` on that end at or before `end`, of one segment: the first, and more while they are
    /// together at most `bytes_max` long. They lie in `buffer`.
    ///
    /// # Errors
    ///
    /// [`JournalError`], also when there is no sound frame where one should be.
    pub(crate) fn frames<'b>(
        &self,
        position: u64,
        end: u64,
        bytes_max: u64,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Vec<Frame<'b>>, JournalError> {
        let (name, limit) = self.segment_of(position);
        let limit = limit.min(end);
        let segment = self.medium.open(name)?;
        let first = frame_bytes(&*segment, name, position, limit)?;
        buffer.resize(to_usize(first.max(bytes_max.min(limit - position)))?, 0);
        segment.read(buffer, position - name)?;
        let (mut frames, mut at) = (Vec::new(), 0);
        // The last one may be cut off by the buffer's end.
        while let Some(bytes) = buffer.get(at..).filter(|bytes| !bytes.is_empty()) {
            let frame = match parse_frame(bytes, name, position + at as u64) {
                Ok(frame) => frame,
                Err(JournalError::Damaged { problem: CUT_OFF, .. }) if !frames.is_empty() => break,
                Err(error) => return Err(error),
            };
            at = to_usize(frame.next - position)?;
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Reads records that mostly lie in the same segment.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { journal: self, open: None }
    }

    /// Makes the next segment in advance, off the commit path and as far as this one is in use: commits then never
    /// wait behind all of it.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    pub(crate) fn prepare(&self, segment_bytes: u64) -> io::Result<()> {
        let end = self.end();
        let (name, _) = self.segment_of(end);
        let used = end - name;
        if used <= segment_bytes / 8 {
            return Ok(());
        }
        self.medium.prepare(segment_bytes, segment_bytes.min(used + used / 4))
    }

    /// The segment that holds `position`, and the position behind its last frame.
    fn segment_of(&self, position: u64) -> (u64, u64) {
        let names = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = names.partition_point(|name| *name <= position);
        let name = after.checked_sub(1).and_then(|i| names.get(i)).copied().unwrap_or_default();
        (name, names.get(after).copied().unwrap_or_else(|| self.end()))
    }

    /// Returns where the last sound frame ends.
    fn cut_torn_tail(&self, segment: &dyn Segment, name: u64, size: u64) -> Result<u64, JournalError> {
        let limit = name + size;
        let mut end = name;
        let mut buffer = Vec::new();
        let problem = loop {
            match read_frame(segment, name, end, limit, &mut buffer) {
                Ok(next) => end = next,
                Err(JournalError::Damaged { problem, .. }) => break problem,
                Err(error) => return Err(error),
            }
        };
        if problem == OTHER_VERSION {
            return Err(JournalError::OtherVersion);
        }
        let mut rest = vec![0; to_usize(limit - end)?];
        segment.read(&mut rest, end - name)?;
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Ok(end) };
        // A frame is written only when the one before it is durable: a sound one behind this one means that this one
        // was sound once.
        for at in (0..last).filter(|at| rest[*at..].starts_with(&MAGIC)) {
            if parse_frame(&rest[at..], name, end + at as u64).is_ok() {
                return Err(JournalError::Damaged { segment: name, offset: end - name, problem });
            }
        }
        rest.truncate(last + 1);
        tracing::warn!(
            journal.position = end,
            torn_bytes = rest.len(),
            "cut off a batch that was never acknowledged"
        );
        // Zeros again, so that no leftovers lie behind later frames.
        rest.fill(0);
        segment.write(&rest, end - name)?;
        segment.sync()?;
        Ok(end)
    }
}

/// What is said of a frame in another version's format. It may hold receipts that were acknowledged.
const OTHER_VERSION: &str = "another version of countersign wrote this frame";
/// What is said of a frame of which not everything is there.
const CUT_OFF: &str = "the frame is cut off";

/// How long the frame at `position` says it is, header included.
fn frame_bytes(segment: &dyn Segment, name: u64, position: u64, limit: u64) -> Result<u64, JournalError> {
    let damaged = |problem| JournalError::Damaged { segment: name, offset: position - name, problem };
    if position + HEADER_BYTES as u64 > limit {
        return Err(damaged(CUT_OFF));
    }
    let mut header = [0; HEADER_BYTES];
    segment.read(&mut header, position - name)?;
    let length = HEADER_BYTES as u64 + u64::from(payload_bytes(&header, position).map_err(damaged)?);
    if position + length > limit { Err(damaged(CUT_OFF)) } else { Ok(length) }
}

/// Checks the frame at `position` and returns where the next one begins.
fn read_frame(
    segment: &dyn Segment,
    name: u64,
    position: u64,
    limit: u64,
    buffer: &mut Vec<u8>,
) -> Result<u64, JournalError> {
    buffer.resize(to_usize(frame_bytes(segment, name, position, limit)?)?, 0);
    segment.read(buffer, position - name)?;
    Ok(parse_frame(buffer, name, position)?.next)
}

fn payload_bytes(header: &[u8; HEADER_BYTES], position: u64) -> Result<u32, &'static str> {
    let [magic, length, low, high, _crc] = words(header);
    if magic != MAGIC {
        // A version of zero is a magic that was torn, not another format.
        let is_another = magic[..3] == MAGIC[..3] && magic[3] != 0;
        return Err(if is_another { OTHER_VERSION } else { "no frame begins here" });
    }
    if u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32 != position {
        return Err("the frame belongs elsewhere");
    }
    Ok(u32::from_le_bytes(length))
}

/// The frame at `position`, with which `bytes` begin.
fn parse_frame(bytes: &[u8], name: u64, position: u64) -> Result<Frame<'_>, JournalError> {
    let damaged = |problem| JournalError::Damaged { segment: name, offset: position - name, problem };
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| damaged(CUT_OFF))?;
    let length = to_usize(u64::from(payload_bytes(header, position).map_err(damaged)?))?;
    let payload = rest.get(..length).ok_or_else(|| damaged(CUT_OFF))?;
    let [.., crc] = words(header);
    if checksum(&header[4..16], payload) != u32::from_le_bytes(crc) {
        return Err(damaged("the frame's checksum is wrong"));
    }
    let body = position + HEADER_BYTES as u64;
    Ok(Frame { position: body, payload, next: body + length as u64 })
}

fn words(header: &[u8; HEADER_BYTES]) -> [[u8; 4]; 5] {
    std::array::from_fn(|i| std::array::from_fn(|j| header[4 * i + j]))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn to_usize(length: u64) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))
}

/// Keeps the segment of the last read open.
pub(crate) struct Reader<'a> {
    journal: &'a Journal,
    open: Option<(u64, Arc<dyn Segment>)>,
}

impl Reader<'_> {
    /// The bytes at `place`.
    ///
    /// # Errors
    ///
    /// When the medium fails or ends before the record does.
    pub(crate) fn record(&mut self, place: Place) -> io::Result<Vec<u8>> {
        let (name, _) = self.journal.segment_of(place.position);
        let segment = match &self.open {
            Some((open, segment)) if *open == name => segment,
            _ => &self.open.insert((name, self.journal.medium.open(name)?)).1,
        };
        let mut bytes = vec![0; to_usize(u64::from(place.length))?];
        segment.read(&mut bytes, place.position - name)?;
        Ok(bytes)
    }
}

impl Appender {
    /// Empties a frame, to append a payload to it.
    pub(crate) fn begin(frame: &mut Vec<u8>) {
        frame.clear();
        frame.resize(HEADER_BYTES, 0);
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> u64 {
        self.journal.end()
    }

    /// Writes a frame that [`Appender::begin`] began, and returns when it is durable. After an error nothing is known
    /// of the medium any more: the kernel may have dropped the pages of a failed sync, so that trying again would
    /// succeed without data.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    pub(crate) fn append(&mut self, frame: &mut [u8]) -> io::Result<()> {
        let position = self.journal.end();
        let length = frame.len() - HEADER_BYTES;
        let narrow = u32::try_from(length).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&narrow.to_le_bytes());
        frame[8..16].copy_from_slice(&position.to_le_bytes());
        let crc = checksum(&frame[4..16], &frame[HEADER_BYTES..]);
        frame[16..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let next = position + frame.len() as u64;
        if next > self.name + self.size {
            self.roll(position, frame.len() as u64)?;
        }
        self.segment.write(frame, position - self.name)?;
        self.segment.sync()?;
        self.journal.end.store(next, Ordering::Release);
        Ok(())
    }

    fn roll(&mut self, position: u64, frame_bytes: u64) -> io::Result<()> {
        let size = self.segment_bytes.max(frame_bytes);
        // An empty segment that is too small for the frame has the name that the next one would have.
        self.segment = self.journal.medium.create(position, size)?;
        (self.name, self.size) = (position, size);
        let mut names = self.journal.segments.write().unwrap_or_else(PoisonError::into_inner);
        if names.last() != Some(&position) {
            names.push(position);
        }
        Ok(())
    }
}

impl Segment for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Segments as files of one directory.
pub(crate) struct Directory {
    path: PathBuf,
    /// Held while the spare segment is made or used.
    spare: Mutex<()>,
}

impl Directory {
    /// Makes the directory if need be.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), spare: Mutex::default() })
    }

    fn path(&self, name: u64) -> PathBuf {
        self.path.join(format!("{name:020}.seg"))
    }

    fn spare(&self) -> PathBuf {
        self.path.join("next")
    }

    /// Lets the spare segment of `bytes` grow from the front to `ready` bytes.
    fn make_spare(&self, bytes: u64, ready: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.spare())?;
        let mut length = file.metadata()?.len();
        if length > bytes {
            file.set_len(0)?;
            length = 0;
        }
        if length >= ready {
            return Ok(());
        }
        let zeros = vec![0; to_usize(CHUNK_BYTES)?];
        while length < ready {
            let chunk = (bytes - length).min(CHUNK_BYTES);
            file.write_all(&zeros[..to_usize(chunk)?])?;
            // Bit by bit, so that no commit's sync waits behind all of it.
            file.sync_data()?;
            length += chunk;
        }
        if length == bytes { file.sync_all() } else { Ok(()) }
    }
}

impl Medium for Directory {
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            names.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: u64) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn create(&self, name: u64, bytes: u64) -> io::Result<Arc<dyn Segment>> {
        let _spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare(bytes, bytes)?;
        fs::rename(self.spare(), self.path(name))?;
        File::open(&self.path)?.sync_all()?;
        self.open(name)
    }

    fn prepare(&self, bytes: u64, ready: u64) -> io::Result<()> {
        let _spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare(bytes, ready)
    }
}

/// Segments in memory, for a store that ends with its process.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<u64, Arc<MemorySegment>>>);

pub(crate) struct MemorySegment(RwLock<Vec<u8>>);

impl Medium for Memory {
    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect())
    }

    fn open(&self, name: u64) -> io::Result<Arc<dyn Segment>> {
        let segments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = segments.get(&name).ok_or(ErrorKind::NotFound)?;
        Ok(segment.clone())
    }

    fn create(&self, name: u64, bytes: u64) -> io::Result<Arc<dyn Segment>> {
        let segment = Arc::new(MemorySegment(RwLock::new(vec![0; to_usize(bytes)?])));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, segment.clone());
        Ok(segment)
    }

    fn prepare(&self, _bytes: u64, _ready: u64) -> io::Result<()> {
        Ok(())
    }
}

impl MemorySegment {
    fn range(length: usize, offset: u64, size: usize) -> io::Result<std::ops::Range<usize>> {
        let start = to_usize(offset)?;
        let end = start.checked_add(length).filter(|end| *end <= size).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(start..end)
    }
}

impl Segment for MemorySegment {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        bytes.copy_from_slice(&held[Self::range(bytes.len(), offset, held.len())?]);
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let range = Self::range(bytes.len(), offset, held.len())?;
        held[range].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
