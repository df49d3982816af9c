//! The index: where in the journal everything lies, in SQLite. It copies neither leaves nor answers nor sessions, is
//! brought up to date off the commit path, and can be made anew from the journal at any time.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_receipt::LeafHash;
use countersign_schemas::{
    Approval, BreakGlass, Grant, Halt, ReceiptId, ReceiptKind, SessionId, Timestamp, Verdict,
};
use rusqlite::types::Value;
use rusqlite::{
    CachedStatement, Connection, OpenFlags, OptionalExtension, Transaction, params, params_from_iter,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::codec::{Batch, Changes, CommitRecord, Malformed, Place};
use crate::live::Live;
use crate::tree::Tile;
use crate::{
    ApprovalWrite, BreakGlassWrite, GrantWrite, HaltWrite, Index as LeafIndex, OutboxEntry, OutboxWrite,
    Query, Summary,
};

/// Written into the file; another number means another layout, and the index is made anew.
const LAYOUT: i64 = 2;
/// 3.51.3 is the first release without the WAL-reset bug, which corrupts a database with two connections.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Leaves of which the earliest and the latest time are kept.
const SPAN: u64 = 256;
/// Idle connections that are kept for readers.
const READERS_MAX: usize = 4;
/// Recorded answers that one round drops at most, so that no round is long.
const EXPIRED_MAX: i64 = 8192;

// Names are kept as fingerprints, and whoever finds a leaf by one reads the name itself from the journal. They are
// spread at random, so they are indexed in runs of 65,536 rows: new ones then touch few pages however large the index
// grows, and a look-up asks every run. What most receipts have in common has no index: the newest of those are found
// by looking at the newest.
const TABLES: &str = "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1), origin TEXT NOT NULL, position INTEGER NOT NULL,
        size INTEGER NOT NULL, note TEXT NOT NULL, newest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE leaf (
        idx INTEGER PRIMARY KEY, position INTEGER NOT NULL, length INTEGER NOT NULL, receipt INTEGER NOT NULL,
        kind TEXT NOT NULL, session INTEGER NOT NULL, decided_at INTEGER NOT NULL, connector TEXT NOT NULL,
        action INTEGER, verdict TEXT
    ) STRICT;
    CREATE INDEX leaf_receipt ON leaf (idx >> 16, receipt);
    CREATE INDEX leaf_session ON leaf (idx >> 16, session);
    CREATE INDEX leaf_action ON leaf (idx >> 16, action) WHERE action IS NOT NULL;
    CREATE INDEX leaf_connector ON leaf (connector);
    CREATE INDEX leaf_kind ON leaf (kind) WHERE kind <> 'decision';
    CREATE INDEX leaf_verdict ON leaf (verdict) WHERE verdict <> 'ALLOW';
    CREATE TABLE tile (
        level INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, number)
    ) STRICT;
    CREATE TABLE span (
        number INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE session (
        id TEXT PRIMARY KEY, position INTEGER NOT NULL, length INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recorded (
        seq INTEGER PRIMARY KEY, fingerprint INTEGER NOT NULL, position INTEGER NOT NULL, length INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX recorded_fingerprint ON recorded (seq >> 16, fingerprint);
    CREATE TABLE live (
        kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;";

/// In any run of leaves.
const LEAF_RUN: &str = " AND idx >> 16 IN (
    WITH RECURSIVE run (n) AS (
        SELECT max(idx) >> 16 FROM leaf UNION ALL SELECT n - 1 FROM run WHERE n > 0
    ) SELECT n FROM run)";

/// The index cannot be used. It can be made anew from the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// SQLite failed.
    #[error("index: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A file of the index cannot be removed.
    #[error("index: {0}")]
    Io(#[from] io::Error),
    /// It does not hold what it should.
    #[error("index: {0}")]
    Content(String),
}

impl From<serde_json::Error> for IndexError {
    fn from(error: serde_json::Error) -> Self {
        Self::Content(error.to_string())
    }
}

impl From<Malformed> for IndexError {
    fn from(error: Malformed) -> Self {
        Self::Content(error.to_string())
    }
}

/// How far the index has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Journal position of the first batch that it does not hold.
    pub(crate) position: u64,
    /// Leaves that it holds.
    pub(crate) size: LeafIndex,
    /// The checkpoint over them; empty before the first batch.
    pub(crate) note: String,
    /// When the newest receipt was decided: the log's own time.
    pub(crate) newest: Timestamp,
}

/// The index. One thread writes; any number reads.
pub(crate) struct Index {
    writer: Mutex<Connection>,
    readers: Option<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// 64 bits that tell keys apart well enough for the journal to be asked.
pub(crate) fn fingerprint(key: &str) -> i64 {
    let digest = Sha256::digest(key.as_bytes());
    i64::from_le_bytes(std::array::from_fn(|i| digest[i]))
}

impl Index {
    /// Opens the index of the log `origin` in a file, or in memory when there is no `path`. What is there but cannot
    /// be used is thrown away.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn open(path: Option<&Path>, origin: &str) -> Result<Self, IndexError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(IndexError::Content(format!("SQLite {} is too old", rusqlite::version())));
        }
        let Some(path) = path else {
            let writer = Connection::open_in_memory()?;
            create(&writer, origin)?;
            return Ok(Self { writer: Mutex::new(writer), readers: None });
        };
        let writer = match open_file(path, origin) {
            Ok(writer) => writer,
            Err(error) => {
                tracing::warn!(%error, "the index cannot be used and is made anew");
                renew(path, origin)?
            }
        };
        let readers = Readers { path: path.to_owned(), idle: Mutex::default() };
        Ok(Self { writer: Mutex::new(writer), readers: Some(readers) })
    }

    /// Throws everything away.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn clear(&self, origin: &str) -> Result<(), IndexError> {
        let mut writer = self.writer();
        match &self.readers {
            None => {
                *writer = Connection::open_in_memory()?;
                create(&writer, origin)?;
            }
            Some(readers) => {
                lock(&readers.idle).clear();
                *writer = Connection::open_in_memory()?;
                *writer = renew(&readers.path, origin)?;
            }
        }
        Ok(())
    }

    /// How far the index has come.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn applied(&self) -> Result<Applied, IndexError> {
        applied(&self.writer())
    }

    /// Applies batches, all of them or none. `next` is the journal position behind the last, `tiles` what the tree
    /// has gained by them.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn apply(
        &self,
        batches: &[Batch<'_>],
        next: u64,
        tiles: &[Tile],
    ) -> Result<Applied, IndexError> {
        let Some(last) = batches.last() else { return self.applied() };
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let before = applied(&transaction)?;
        let mut rows = Rows::prepare(&transaction, before.newest)?;
        for batch in batches {
            let mut index = batch.first_index;
            for commit in &batch.commits {
                rows.commit(index, commit)?;
                index += commit.leaves.len() as u64;
                rows.size = index;
            }
        }
        let (size, newest) = rows.finish()?;
        let applied = Applied { position: next, size, note: last.note.to_owned(), newest };
        write_tiles(&transaction, tiles)?;
        drop_expired(&transaction, applied.newest)?;
        transaction
            .prepare_cached("UPDATE meta SET position = ?1, size = ?2, note = ?3, newest = ?4")?
            .execute(params![
                signed(applied.position)?,
                signed(applied.size)?,
                applied.note,
                applied.newest.0
            ])?;
        transaction.commit()?;
        Ok(applied)
    }

    /// Everything that is kept whole in memory.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn live(&self) -> Result<Live, IndexError> {
        let writer = self.writer();
        let approvals: Vec<Approval> = live_values(&writer, "approval")?;
        let grants: Vec<Grant> = live_values(&writer, "grant")?;
        let outbox: Vec<OutboxEntry> = live_values(&writer, "outbox")?;
        let halts: Vec<Halt> = live_values(&writer, "halt")?;
        let break_glasses: Vec<BreakGlass> = live_values(&writer, "break_glass")?;
        let mut live = Live::default();
        live.apply(Changes {
            approvals: approvals.into_iter().map(|value| ApprovalWrite::Open(Box::new(value))).collect(),
            grants: grants.into_iter().map(GrantWrite::Give).collect(),
            outbox: outbox.into_iter().map(|value| OutboxWrite::Put(Box::new(value))).collect(),
            halts: halts.into_iter().map(HaltWrite::Give).collect(),
            break_glasses: break_glasses.into_iter().map(BreakGlassWrite::Open).collect(),
        });
        Ok(live)
    }

    /// Calls `each` with the fingerprint of every recorded answer.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn fingerprints(&self, mut each: impl FnMut(i64)) -> Result<(), IndexError> {
        self.read(|reader| {
            let mut statement = reader.prepare("SELECT fingerprint FROM recorded")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get(0)?);
            }
            Ok(())
        })
    }

    /// Places of the recorded answers that may belong to this key, newest first.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn recorded(&self, key: &str) -> Result<Vec<Place>, IndexError> {
        let sql = "SELECT position, length FROM recorded INDEXED BY recorded_fingerprint
                   WHERE seq >> 16 IN (
                       WITH RECURSIVE run (n, last) AS (
                           SELECT (SELECT min(seq) FROM recorded) >> 16, (SELECT max(seq) FROM recorded) >> 16
                           UNION ALL SELECT n + 1, last FROM run WHERE n < last
                       ) SELECT n FROM run
                   ) AND fingerprint = ?1 ORDER BY seq DESC";
        self.read(|reader| {
            let mut statement = reader.prepare_cached(sql)?;
            let places = statement.query_map([fingerprint(key)], |row| place(row, 0))?;
            Ok(places.collect::<Result<_, _>>()?)
        })
    }

    /// Place of a session's state.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<Place>, IndexError> {
        self.read(|reader| {
            let mut statement =
                reader.prepare_cached("SELECT position, length FROM session WHERE id = ?1")?;
            Ok(statement.query_row([id.as_str()], |row| place(row, 0)).optional()?)
        })
    }

    /// Places of the leaves `from..from+limit`.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn leaves(
        &self,
        from: LeafIndex,
        limit: usize,
    ) -> Result<Vec<(LeafIndex, Place)>, IndexError> {
        let sql = "SELECT idx, position, length FROM leaf WHERE idx >= ?1 ORDER BY idx LIMIT ?2";
        self.places(sql, vec![signed(from)?.into(), clamped(limit).into()])
    }

    /// Places of the leaves that may be that of a receipt.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn receipt(&self, id: &ReceiptId) -> Result<Vec<(LeafIndex, Place)>, IndexError> {
        let sql = format!(
            "SELECT idx, position, length FROM leaf INDEXED BY leaf_receipt WHERE receipt = ?1{LEAF_RUN}"
        );
        self.places(&sql, vec![fingerprint(id.as_str()).into()])
    }

    /// Places of the newest leaves that match, newest first. A leaf of another session or action may be among them.
    ///
    /// # Errors
    ///
    /// [`IndexError`]
    pub(crate) fn find(&self, query: &Query) -> Result<Vec<(LeafIndex, Place)>, IndexError> {
        let (index, run) = match (&query.action_id, &query.session_id) {
            (Some(_), _) => (" INDEXED BY leaf_action", LEAF_RUN),
            (None, Some(_)) => (" INDEXED BY leaf_session", LEAF_RUN),
            (None, None) => ("", ""),
        };
        let mut sql = format!("SELECT idx, position, length FROM leaf{index} WHERE true{run}");
        let mut values: Vec<Value> = Vec::new();
        let mut only = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                sql.push_str(condition);
                values.push(value);
            }
        };
        only(" AND session = ?", query.session_id.as_ref().map(|id| fingerprint(id.as_str()).into()));
        only(" AND action = ?", query.action_id.as_deref().map(|id| fingerprint(id).into()));
        only(" AND connector = ?", query.connector.clone().map(Value::from));
        only(" AND kind = ?", query.kind.map(|kind| kind.as_str().to_owned().into()));
        only(" AND verdict = ?", query.verdict.map(|verdict| verdict.as_str().to_owned().into()));
        only(" AND idx < ?", query.below.map(signed).transpose()?.map(Value::from));
        // The very words of the indexes' conditions, which is how SQLite knows that it may use them.
        let rare_kind = query.kind.is_some_and(|kind| kind != ReceiptKind::Decision);
        let rare_verdict = query.verdict.is_some_and(|verdict| verdict != Verdict::Allow);
        only(" AND kind <> 'decision' AND ?", rare_kind.then_some(Value::Integer(1)));
        only(" AND verdict <> 'ALLOW' AND ?", rare_verdict.then_some(Value::Integer(1)));
        // Times nearly rise with the index; a span of leaves knows its earliest and latest.
        let since = query.since.map(|time| time.0);
        let until = query.until.map(|time| time.0);
        only(" AND decided_at >= ?", since.map(Value::from));
        only(
            " AND idx >= 256 * (SELECT coalesce(min(number), 1 << 54) FROM span WHERE latest >= ?)",
            since.map(Value::from),
        );
        only(" AND decided_at < ?", until.map(Value::from));
        only(
            " AND idx < 256 * (SELECT coalesce(max(number), -1) + 1 FROM span WHERE earliest < ?)",
            until.map(Value::from),
        );
        sql.push_str(" ORDER BY idx DESC LIMIT ?");
        values.push(clamped(query.limit).into());
        self.places(&sql, values)
    }

    /// The hashes of a tile.
    ///
    /// # Errors
    ///
    /// [`IndexError`], also when there is no such tile.
    pub(crate) fn tile(&self, level: u8, number: u64) -> Result<Vec<LeafHash>, IndexError> {
        let number = signed(number)?;
        self.read(|reader| {
            let mut statement =
                reader.prepare_cached("SELECT hashes FROM tile WHERE level = ?1 AND number = ?2")?;
            let bytes: Vec<u8> = statement.query_row(params![level, number], |row| row.get(0))?;
            Ok(bytes.as_chunks::<32>().0.to_vec())
        })
    }

    fn places(&self, sql: &str, values: Vec<Value>) -> Result<Vec<(LeafIndex, Place)>, IndexError> {
        self.read(|reader| {
            let mut statement = reader.prepare_cached(sql)?;
            let rows = statement
                .query_map(params_from_iter(values), |row| Ok((unsigned(row.get(0)?), place(row, 1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, IndexError>) -> Result<T, IndexError> {
        // A database in memory has one connection.
        let Some(readers) = &self.readers else { return read(&self.writer()) };
        let idle = lock(&readers.idle).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let reader = Connection::open_with_flags(&readers.path, flags)?;
                settings(&reader)?;
                reader
            }
        };
        let result = read(&reader);
        let mut idle = lock(&readers.idle);
        if idle.len() < READERS_MAX {
            idle.push(reader);
        }
        result
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        lock(&self.writer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_file(path: &Path, origin: &str) -> Result<Connection, IndexError> {
    let writer = connect(path)?;
    let layout: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout == 0 {
        create(&writer, origin)?;
        return Ok(writer);
    }
    let found: String = writer.query_row("SELECT origin FROM meta", [], |row| row.get(0))?;
    if layout != LAYOUT || found != origin {
        return Err(IndexError::Content(format!("layout {layout} of the log `{found}`")));
    }
    Ok(writer)
}

/// An empty index in place of the one that is there.
fn renew(path: &Path, origin: &str) -> Result<Connection, IndexError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let writer = connect(path)?;
    create(&writer, origin)?;
    Ok(writer)
}

fn connect(path: &Path) -> Result<Connection, IndexError> {
    let connection = Connection::open(path)?;
    settings(&connection)?;
    // NORMAL may lose the newest transactions with the power, and they are applied again from the journal.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 2000;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -32768;",
    )?;
    Ok(connection)
}

fn settings(connection: &Connection) -> Result<(), IndexError> {
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA busy_timeout = 5000;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn create(connection: &Connection, origin: &str) -> Result<(), IndexError> {
    connection.execute_batch("BEGIN")?;
    connection.execute_batch(TABLES)?;
    connection.execute("INSERT INTO meta VALUES (1, ?1, 0, 0, '', 0)", [origin])?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}

fn applied(connection: &Connection) -> Result<Applied, IndexError> {
    let row = connection.query_row("SELECT position, size, note, newest FROM meta", [], |row| {
        let (position, size) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
        Ok(Applied { position, size, note: row.get(2)?, newest: Timestamp(row.get(3)?) })
    })?;
    Ok(row)
}

/// The statements of one transaction.
struct Rows<'t> {
    leaf: CachedStatement<'t>,
    span: CachedStatement<'t>,
    session: CachedStatement<'t>,
    recorded: CachedStatement<'t>,
    put: CachedStatement<'t>,
    remove: CachedStatement<'t>,
    /// Sessions change often; only where they end up is written.
    sessions: HashMap<SessionId, Place>,
    /// The earliest and the latest time in a span of leaves.
    spans: BTreeMap<u64, (Timestamp, Timestamp)>,
    size: LeafIndex,
    newest: Timestamp,
}

impl<'t> Rows<'t> {
    fn prepare(transaction: &'t Transaction<'_>, newest: Timestamp) -> Result<Self, IndexError> {
        let prepare = |sql| transaction.prepare_cached(sql);
        Ok(Self {
            leaf: prepare("INSERT INTO leaf VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?,
            span: prepare(
                "INSERT INTO span VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE
                 SET earliest = min(earliest, ?2), latest = max(latest, ?3)",
            )?,
            session: prepare("REPLACE INTO session VALUES (?1, ?2, ?3)")?,
            recorded: prepare("INSERT INTO recorded VALUES (NULL, ?1, ?2, ?3, ?4)")?,
            put: prepare("REPLACE INTO live VALUES (?1, ?2, ?3)")?,
            remove: prepare("DELETE FROM live WHERE kind = ?1 AND id = ?2")?,
            sessions: HashMap::new(),
            spans: BTreeMap::new(),
            size: 0,
            newest,
        })
    }

    fn commit(&mut self, first_index: LeafIndex, commit: &CommitRecord<'_>) -> Result<(), IndexError> {
        for (index, (place, leaf)) in (first_index..).zip(&commit.leaves) {
            self.leaf(index, *place, &leaf.summary)?;
        }
        for (place, session) in &commit.sessions {
            self.sessions.insert(session.id.clone(), *place);
        }
        if let Some((place, recorded)) = &commit.recorded {
            let position = signed(place.position)?;
            self.recorded.execute(params![
                fingerprint(recorded.key),
                position,
                place.length,
                recorded.expires_at.0
            ])?;
        }
        self.changes(&commit.changes)
    }

    fn leaf(&mut self, index: LeafIndex, place: Place, summary: &Summary) -> Result<(), IndexError> {
        self.newest = self.newest.max(summary.decided_at);
        self.leaf.execute(params![
            signed(index)?,
            signed(place.position)?,
            place.length,
            fingerprint(summary.receipt_id.as_str()),
            summary.kind.as_str(),
            fingerprint(summary.session_id.as_str()),
            summary.decided_at.0,
            summary.connector,
            summary.action_id.as_deref().map(fingerprint),
            summary.verdict.map(Verdict::as_str),
        ])?;
        let time = summary.decided_at;
        let (earliest, latest) = self.spans.entry(index / SPAN).or_insert((time, time));
        (*earliest, *latest) = ((*earliest).min(time), (*latest).max(time));
        Ok(())
    }

    /// Writes what was gathered, and tells the new size and time of the log.
    fn finish(mut self) -> Result<(LeafIndex, Timestamp), IndexError> {
        for (id, place) in &self.sessions {
            self.session.execute(params![id.as_str(), signed(place.position)?, place.length])?;
        }
        for (number, (earliest, latest)) in &self.spans {
            self.span.execute(params![signed(*number)?, earliest.0, latest.0])?;
        }
        Ok((self.size, self.newest))
    }

    fn changes(&mut self, changes: &Changes) -> Result<(), IndexError> {
        for write in &changes.approvals {
            match write {
                ApprovalWrite::Open(value) => self.put("approval", value.approval_id.as_str(), value)?,
                ApprovalWrite::Close(id) => self.remove("approval", id.as_str())?,
            }
        }
        for write in &changes.grants {
            match write {
                GrantWrite::Give(value) => self.put("grant", value.grant_id.as_str(), value)?,
                GrantWrite::Take(id) => self.remove("grant", id.as_str())?,
            }
        }
        for write in &changes.outbox {
            match write {
                OutboxWrite::Put(value) => self.put("outbox", value.id.as_str(), value)?,
                OutboxWrite::Done(id) => self.remove("outbox", id.as_str())?,
            }
        }
        for write in &changes.halts {
            match write {
                HaltWrite::Give(value) => self.put("halt", &serde_json::to_string(&value.what)?, value)?,
                HaltWrite::Lift(what) => self.remove("halt", &serde_json::to_string(what)?)?,
            }
        }
        for write in &changes.break_glasses {
            match write {
                BreakGlassWrite::Open(value) => {
                    self.put("break_glass", value.break_glass_id.as_str(), value)?
                }
                BreakGlassWrite::End(id) => self.remove("break_glass", id.as_str())?,
            }
        }
        Ok(())
    }

    fn put(&mut self, kind: &str, id: &str, value: &impl Serialize) -> Result<(), IndexError> {
        self.put.execute(params![kind, id, serde_json::to_string(value)?])?;
        Ok(())
    }

    fn remove(&mut self, kind: &str, id: &str) -> Result<(), IndexError> {
        self.remove.execute([kind, id])?;
        Ok(())
    }
}

fn live_values<T: DeserializeOwned>(connection: &Connection, kind: &str) -> Result<Vec<T>, IndexError> {
    let mut statement = connection.prepare_cached("SELECT value FROM live WHERE kind = ?1")?;
    let mut rows = statement.query([kind])?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
    }
    Ok(values)
}

fn write_tiles(transaction: &Transaction<'_>, tiles: &[Tile]) -> Result<(), IndexError> {
    let mut statement = transaction.prepare_cached("REPLACE INTO tile VALUES (?1, ?2, ?3)")?;
    for tile in tiles {
        statement.execute(params![tile.level, signed(tile.number)?, tile.hashes.as_flattened()])?;
    }
    Ok(())
}

/// Answers are dropped in the order in which they were recorded, so one with a long life keeps the ones after it.
fn drop_expired(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), IndexError> {
    let sql = "DELETE FROM recorded
               WHERE seq < (SELECT min(seq) FROM recorded) + ?2
               AND seq < coalesce((SELECT seq FROM recorded WHERE expires_at > ?1 ORDER BY seq LIMIT 1), 1 << 62)";
    transaction.prepare_cached(sql)?.execute(params![now.0, EXPIRED_MAX])?;
    let sql = "DELETE FROM live WHERE kind = 'grant' AND value ->> 'expiresAt' <= ?1";
    transaction.prepare_cached(sql)?.execute([now.to_string()])?;
    Ok(())
}

fn place(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Place> {
    Ok(Place { position: unsigned(row.get(at)?), length: row.get(at + 1)? })
}

/// SQLite's integers are signed; a journal of 2^63 bytes does not exist.
fn signed(value: u64) -> Result<i64, IndexError> {
    i64::try_from(value).map_err(|_| IndexError::Content(format!("{value} is too large")))
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn clamped(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
