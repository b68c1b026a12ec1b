//! Opens the file of a store: what is checked before SQLite sees it, and what is refused. Called by
//! [`Database::open`](crate::Database::open).

use std::{io, path::Path};

use rusqlite::{Connection, config::DbConfig};

use crate::{
    Error, Options, causes,
    damage::{self, Finding},
    file, identity, judge,
    note::{Noted, Tally},
    schema, state,
    watch::Watch,
};

/// An open file.
pub struct Opened {
    /// Keeps other processes out while it lives, and counts the transactions.
    pub tally: Tally,
    /// The connection that writes.
    pub conn: Connection,
    /// The connections that read.
    pub readers: Vec<Connection>,
    /// Whether the end of the log was not intact.
    pub lost: bool,
    /// The group of files that it belongs to.
    pub group: Option<String>,
    /// The files as they are now.
    pub watch: Watch,
}

/// Takes the lock, examines the log, opens the connections, migrates. What the system refuses is named by its cause.
pub fn open(path: &Path, options: &Options) -> Result<Opened, Error> {
    try_open(path, options).map_err(|error| causes::named(path, error))
}

fn try_open(path: &Path, options: &Options) -> Result<Opened, Error> {
    let lock = file::claim(path)?;
    let at = |source: io::Error| Error::File { path: path.to_owned(), source };
    let open = |source| Error::Open { path: path.to_owned(), source };
    let noted = Noted::read(path);
    let mut lost = is_damaged(path, &noted, options)?;
    let file = (!damage::has_no_log(path)).then(|| state::of_file(path)).flatten();
    refuse_alien(path, judge::is_alien(noted.opening.as_ref(), file.as_ref()))?;
    let has_no_log = damage::has_no_log(path);
    let mut conn = file::writing(path).map_err(open)?;
    // A start that fails leaves the log as it is: the end of the last connection would write it back and remove it, and the database
    // would still be noted as open. A clean end of the writer allows it again.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(open)?;
    let found = state::read(&conn).map_err(open)?;
    refuse_alien(path, judge::is_alien(found.commits.as_ref(), file.as_ref()))?;
    let lacking = match has_no_log {
        true => judge::without_log(&noted, &found),
        false => judge::with_log(&noted, file.as_ref(), &found),
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
    if is_copy && !options.renew && !options.renewal.is_empty() {
        tracing::warn!(
            path = %path.display(),
            "the file is not that of the last start: it was copied, moved or restored. What others keep of it is void: clients reload, \
             and sessions are closed"
        );
    }
    if is_copy || lost || options.accept_loss || options.renew {
        schema::run(&mut conn, options.renewal).map_err(open)?;
    }
    if options.accept_loss {
        schema::run(&mut conn, options.repair).map_err(open)?;
    }
    // After the renewal: a start that dies in between renews again.
    if let Err(error) = identity::renew(path, &conn) {
        tracing::warn!(path = %path.display(), %error, "it is not noted which files the store has");
    }
    let mut tally = Tally::new(lock).map_err(at)?;
    if let Err(error) = begin(&conn, &mut tally) {
        // A full disk does not keep the store from being read. Without these notes the next start checks less.
        tracing::warn!(path = %path.display(), %error, "it is not noted that the store is open");
    }
    let group = state::group(&conn).map_err(open)?;
    let readers = (0..options.readers.max(1)).map(|_| file::reading(path));
    let readers: Vec<Connection> = readers.collect::<Result<_, _>>().map_err(open)?;
    let watch = Watch::new(path).map_err(at)?;
    watch.measure();
    Ok(Opened { tally, conn, readers, lost, group, watch })
}

/// Notes that the store is open. Transactions are counted once the note is in the database file.
fn begin(conn: &Connection, tally: &mut Tally) -> Result<(), Box<dyn std::error::Error>> {
    let id = state::new_group()?;
    if state::open(conn, &id)? {
        tally.begin(id)?;
    }
    Ok(())
}

/// With the log of another database SQLite would read pages of both.
fn refuse_alien(path: &Path, is_alien: bool) -> Result<(), Error> {
    match is_alien {
        true => Err(Error::Alien { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Whether the last transaction is not intact. A greater loss is refused, or accepted where that was asked for.
fn is_damaged(path: &Path, noted: &Noted, options: &Options) -> Result<bool, Error> {
    let found = damage::examine(path, noted.same_boot);
    match found.map_err(|source| Error::File { path: path.to_owned(), source })? {
        Finding::Whole => Ok(false),
        Finding::Torn(what) => {
            tracing::warn!(path = %path.display(), what, "the last transaction before a crash is dropped");
            Ok(true)
        }
        // The number of transactions decides.
        Finding::Emptied(_) if noted.opening.is_some() => Ok(false),
        Finding::Emptied(what) | Finding::Lost(what) => accept(path, options, &what).map(|()| true),
    }
}

fn accept(path: &Path, options: &Options, what: &str) -> Result<(), Error> {
    if !options.accept_loss {
        return Err(Error::Lost { path: path.to_owned(), what: what.to_owned() });
    }
    tracing::warn!(path = %path.display(), what, "the loss is accepted");
    Ok(())
}

/// Pages of a lost transaction may be in the file already; with older ones beside them nothing can be trusted.
fn refuse_inconsistent(conn: &Connection, path: &Path) -> Result<(), Error> {
    let query = "PRAGMA integrity_check(1)";
    let found: Result<String, _> = conn.query_row(query, [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(Error::Damaged { path: path.to_owned(), what: found }),
        Err(error) => Err(Error::Damaged { path: path.to_owned(), what: error.to_string() }),
    }
}
