//! Opens the file of a store, checks it before and after SQLite opens it, and refuses stores that have lost data. Called by
//! [`Database::open`](crate::Database::open).

use std::{fs::File, io, path::Path};

use rusqlite::{Connection, config::DbConfig};

use crate::{
    Error, Options, causes, completeness,
    damage::{self, Finding},
    file::{self, Claim},
    identity,
    lock_record::{CommitCounter, LockRecord},
    schema,
    shape::Shape,
    state,
    watch::Watch,
};

/// An open file.
pub struct Opened {
    /// Holds the lock and counts the committed transactions.
    pub counter: CommitCounter,
    /// Holds the lock of the database. Must be dropped after the connections.
    pub database: File,
    /// The connection that writes.
    pub conn: Connection,
    /// The connections that read.
    pub readers: Vec<Connection>,
    /// Whether the end of the log was not intact.
    pub lost: bool,
    /// The group of files that the store belongs to.
    pub group: Option<String>,
    /// The files at the time of the opening.
    pub watch: Watch,
    /// The tables and indexes that the file must have.
    pub shape: Shape,
}

/// Takes the lock, examines the log, opens the connections and migrates the schema. Errors of the system are reported with their cause.
pub fn open(path: &Path, options: &Options) -> Result<Opened, Error> {
    try_open(path, options).map_err(|error| causes::with_cause(path, error))
}

fn try_open(path: &Path, options: &Options) -> Result<Opened, Error> {
    let Claim { lock, database } = file::claim(path)?;
    let at = |source: io::Error| Error::File { path: path.to_owned(), source };
    let open = |source| Error::Open { path: path.to_owned(), source };
    let record = LockRecord::read(path);
    let mut lost = is_damaged(path, &record, options)?;
    let file = (!damage::has_no_log(path)).then(|| state::of_file(path)).flatten();
    refuse_foreign(path, completeness::is_foreign(record.opening.as_ref(), file.as_ref()))?;
    let has_no_log = damage::has_no_log(path);
    let mut conn = file::writing(path).map_err(open)?;
    // A start that fails must not change the log. Without this setting the end of the last connection would write it back and remove it,
    // while the database is still recorded as open. A clean end of the writer resets the setting.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(open)?;
    // Without this check a start would only miss its record of the opening, and the first write would be refused.
    conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").map_err(open)?;
    let found = state::read(&conn).map_err(open)?;
    let is_foreign = completeness::is_foreign(found.commits.as_ref(), file.as_ref())
        || completeness::is_foreign_to_closed(&record, file.as_ref(), &found);
    refuse_foreign(path, is_foreign)?;
    let lacking = match has_no_log {
        true => completeness::missing_without_log(&record, &found),
        false => completeness::missing_with_log(&record, file.as_ref(), &found),
    };
    if let Some(what) = lacking {
        accept(path, options, &what)?;
        lost = true;
    }
    if lost {
        refuse_inconsistent(&conn, path)?;
    }
    let is_copy = identity::is_copy(path, &conn).map_err(open)?;
    schema::migrate(&mut conn, path, options.migrations)?;
    let mut shape = Shape::of(options.migrations).map_err(open)?;
    if let Some(what) = shape.fault(&conn).map_err(open)? {
        return Err(Error::Changed { path: path.to_owned(), what });
    }
    renew(&mut conn, path, options, is_copy, lost).map_err(open)?;
    // The renewal is complete here. A start that dies before this point runs it again.
    if let Err(error) = identity::renew(path, &conn) {
        tracing::warn!(path = %path.display(), %error, "cannot record the files of the store, a copy may not be detected");
    }
    let mut counter = CommitCounter::new(lock).map_err(at)?;
    if let Err(error) = begin(&conn, &mut counter) {
        // A store on a full disk can still be read. Without the record the next start cannot detect all lost transactions.
        tracing::warn!(path = %path.display(), %error, "cannot record the opening, lost transactions may not be detected");
    }
    shape.extend(&conn).map_err(open)?;
    let group = state::group(&conn).map_err(open)?;
    let readers = (0..options.readers.max(1)).map(|_| file::reading(path));
    let readers: Vec<Connection> = readers.collect::<Result<_, _>>().map_err(open)?;
    let watch = Watch::new(path).map_err(at)?;
    watch.measure();
    Ok(Opened { counter, database, conn, readers, lost, group, watch, shape })
}

/// Begins a new history in a copy, in a store that has lost rows, and where the options require it. Repairs a store whose loss is accepted.
fn renew(
    conn: &mut Connection,
    path: &Path,
    options: &Options,
    is_copy: bool,
    lost: bool,
) -> rusqlite::Result<()> {
    if is_copy && !options.renew && !options.renewal.is_empty() {
        tracing::warn!(
            path = %path.display(),
            "the file was copied, moved or restored since the last start: stored positions are invalid, clients reload, and sessions \
             are closed"
        );
    }
    let is_cut =
        !options.renew_if.is_empty() && conn.query_row(options.renew_if, [], |row| row.get::<_, bool>(0))?;
    if is_cut {
        tracing::warn!(
            path = %path.display(),
            "another program has deleted the newest rows of the store: stored positions are invalid, clients reload"
        );
    }
    if is_copy || is_cut || lost || options.accept_loss || options.renew {
        schema::run(conn, options.renewal)?;
    }
    match options.accept_loss {
        true => schema::run(conn, options.repair),
        false => Ok(()),
    }
}

/// Records that the store is open. Starts to count transactions when the record is in the database file.
fn begin(conn: &Connection, counter: &mut CommitCounter) -> Result<(), Box<dyn std::error::Error>> {
    let id = state::new_group()?;
    if state::open(conn, &id)? {
        counter.begin(id)?;
    }
    Ok(())
}

/// Refuses a log that belongs to another database. SQLite would apply its pages to this database.
fn refuse_foreign(path: &Path, is_foreign: bool) -> Result<(), Error> {
    match is_foreign {
        true => Err(Error::ForeignLog { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Whether the log has lost transactions. The loss of the last one, which may never have been acknowledged, is accepted. A larger loss is
/// refused unless [`Options::accept_loss`] is set.
fn is_damaged(path: &Path, record: &LockRecord, options: &Options) -> Result<bool, Error> {
    let found = damage::examine(path, record.same_boot);
    match found.map_err(|source| Error::File { path: path.to_owned(), source })? {
        Finding::Whole => Ok(false),
        Finding::Torn(what) => {
            tracing::warn!(path = %path.display(), what, "dropped the incomplete last transaction before a crash");
            Ok(true)
        }
        // The number of transactions decides later.
        Finding::Emptied(_) if record.opening.is_some() => Ok(false),
        Finding::Emptied(what) | Finding::Lost(what) => accept(path, options, &what).map(|()| true),
    }
}

fn accept(path: &Path, options: &Options, what: &str) -> Result<(), Error> {
    if !options.accept_loss {
        return Err(Error::Lost { path: path.to_owned(), what: what.to_owned() });
    }
    tracing::warn!(path = %path.display(), what, "accepted the loss of committed data");
    Ok(())
}

/// Refuses an inconsistent file. Some pages of a lost transaction may already be in the file, beside older versions of its other pages.
fn refuse_inconsistent(conn: &Connection, path: &Path) -> Result<(), Error> {
    let query = "PRAGMA integrity_check(1)";
    let found: Result<String, _> = conn.query_row(query, [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(Error::Damaged { path: path.to_owned(), what: found }),
        Err(error) => Err(Error::Damaged { path: path.to_owned(), what: error.to_string() }),
    }
}
