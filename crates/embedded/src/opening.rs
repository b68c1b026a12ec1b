//! Opens the file of a store: what is checked before SQLite sees it, and what is refused. Called by
//! [`Database::open`](crate::Database::open).

use std::{fs::File, io, path::Path};

use rusqlite::{Connection, config::DbConfig};

use crate::{
    Error, Options,
    damage::{self, Finding},
    file, schema, state,
    watch::Watch,
};

/// An open file.
pub struct Opened {
    /// Keeps other processes out while it lives.
    pub lock: File,
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

/// Takes the lock, examines the log, opens the connections, migrates.
pub fn open(path: &Path, options: &Options) -> Result<Opened, Error> {
    let lock = file::claim(path)?;
    let at = |source: io::Error| Error::File { path: path.to_owned(), source };
    let open = |source| Error::Open { path: path.to_owned(), source };
    let mut lost = is_damaged(path, options)?;
    let has_no_log = damage::has_no_log(path);
    let mut conn = file::writing(path).map_err(open)?;
    // What is refused is left as it is: the end of the last connection would write the log back and remove it.
    let keep = |keep| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map_err(open);
    keep(true)?;
    if has_no_log && state::is_open(&conn).map_err(open)? {
        accept(
            path,
            options,
            "the log of the store is missing: the file was copied or moved without its -wal",
        )?;
        lost = true;
    }
    if lost {
        refuse_inconsistent(&conn, path)?;
    }
    keep(false)?;
    schema::migrate(&mut conn, path, options.migrations)?;
    if lost || options.accept_loss {
        schema::run(&mut conn, options.renewal).map_err(open)?;
    }
    if options.accept_loss {
        schema::run(&mut conn, options.repair).map_err(open)?;
    }
    // A full disk does not keep the store from being read. Without these notes the next start checks less.
    if let Err(error) = state::open(&conn) {
        tracing::warn!(path = %path.display(), %error, "it is not noted that the store is open");
    }
    if let Err(error) = damage::note_boot(path) {
        tracing::warn!(path = %path.display(), %error, "this start of the machine is not noted");
    }
    let group = state::group(&conn).map_err(open)?;
    let readers = (0..options.readers.max(1)).map(|_| file::reading(path));
    let readers: Vec<Connection> = readers.collect::<Result<_, _>>().map_err(open)?;
    let watch = Watch::new(path).map_err(at)?;
    watch.measure();
    Ok(Opened { lock, conn, readers, lost, group, watch })
}

/// Whether the last transaction is not intact. A greater loss is refused, or accepted where that was asked for.
fn is_damaged(path: &Path, options: &Options) -> Result<bool, Error> {
    let found = damage::examine(path, damage::is_same_boot(path));
    match found.map_err(|source| Error::File { path: path.to_owned(), source })? {
        Finding::Whole => Ok(false),
        Finding::Torn(what) => {
            tracing::warn!(path = %path.display(), what, "the last transaction before a crash is dropped");
            Ok(true)
        }
        Finding::Lost(what) => accept(path, options, &what).map(|()| true),
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
