//! Reuse of the name of an archived room.

use proto::event::Settings;
use rusqlite::{Connection, params};

use super::{change_log, other_settings};
use crate::{
    Error,
    directory::{NewRoom, refusal},
};

/// Replaces an archived room by a new one of the same name, or returns the refusal. Only the number of the old room's last message is
/// kept, and the new room continues after it, so that a position that a client or a node still holds cannot refer to another message.
pub fn renew(conn: &Connection, room: &NewRoom) -> rusqlite::Result<Option<Error>> {
    let name = room.name.as_str();
    let query = "SELECT archived AND (ephemeral OR (private AND NOT EXISTS (SELECT 1 FROM members WHERE room = name))),
                        archived AND NOT private
                 FROM rooms WHERE name = ?";
    let (is_free, is_kept): (bool, bool) =
        conn.prepare_cached(query)?.query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !is_free {
        return Ok(Some(refusal::taken(is_kept)));
    }
    let update = "UPDATE rooms SET private = ?2, ephemeral = ?3, settings = ?4, archived = 0,
            base = max(base, (SELECT coalesce(max(seq), 0) FROM messages WHERE room = name)),
            trimmed = max(trimmed, (SELECT coalesce(max(\"offset\"), 0) FROM messages WHERE room = name))
        WHERE name = ?1";
    let Settings { private, ephemeral, .. } = room.settings;
    let values = params![name, private, ephemeral, other_settings(&room.settings)];
    conn.prepare_cached(update)?.execute(values)?;
    for delete in ["messages", "members", "departures"] {
        conn.prepare_cached(&format!("DELETE FROM {delete} WHERE room = ?"))?.execute([name])?;
    }
    change_log::delete(conn, &room.name)?;
    Ok(None)
}
