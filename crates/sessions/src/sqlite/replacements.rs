//! The relation between sessions and the sessions that they replace, until the first use of the new one. Called by [`super`].

use rusqlite::{Connection, params};

use super::{ids, remove};
use crate::{Closing, SessionId};

/// Records that `new` replaces the sessions of `old` that exist.
pub fn record(conn: &Connection, new: &SessionId, old: &[SessionId]) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO replacements(new, old) SELECT ?1, id FROM sessions WHERE id = ?2";
    for old in old {
        conn.prepare_cached(sql)?.execute(params![new.as_str(), old.as_str()])?;
    }
    Ok(())
}

/// Marks the sessions that `new` replaces as superseded. Returns the sessions that were not marked before.
pub fn supersede(conn: &Connection, new: &SessionId) -> rusqlite::Result<Vec<Closing>> {
    let sql = "UPDATE sessions SET superseded = 1
        WHERE superseded = 0 AND id IN (SELECT old FROM replacements WHERE new = ?1) RETURNING id";
    Ok(replaced(ids(conn, sql, params![new.as_str()])?))
}

/// Removes the sessions that `new` replaces, and returns them.
pub fn close_replaced(conn: &Connection, new: &SessionId) -> rusqlite::Result<Vec<Closing>> {
    let sql = "SELECT old FROM replacements WHERE new = ?1";
    let old = ids(conn, sql, params![new.as_str()])?;
    for old in &old {
        remove(conn, old)?;
    }
    Ok(replaced(old))
}

/// A session, and all sessions that replace it or are replaced by it, directly or transitively.
pub fn related(conn: &Connection, id: &SessionId) -> rusqlite::Result<Vec<SessionId>> {
    let sql = "WITH RECURSIVE related(id) AS (
        SELECT ?1
        UNION
        SELECT CASE WHEN link.new = related.id THEN link.old ELSE link.new END
        FROM related JOIN replacements AS link ON link.new = related.id OR link.old = related.id
    ) SELECT id FROM related";
    ids(conn, sql, params![id.as_str()])
}

fn replaced(ids: Vec<SessionId>) -> Vec<Closing> {
    ids.into_iter().map(Closing::replaced).collect()
}
