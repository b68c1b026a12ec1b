//! The schema of the chat's SQLite file: its versions, the repair of damaged rows, and the checks of `godzilla check`.

use embedded::Check;

/// The schema, one step per version. A released step never changes.
///
/// - `author` and `user` compare without regard to ASCII case, because usernames are unique in this form.
/// - `messages.offset` is the offset in the log. `AUTOINCREMENT` prevents reuse of an offset after a room was trimmed.
/// - `messages.origin` is the socket that sent a message. The message is not delivered to it when the client recovers.
/// - `rooms.trimmed` is the offset of the last deleted message of a room.
/// - `rooms.base` is the number of the last message of an earlier room of the same name.
/// - `rooms.settings` is a JSON object with the settings that have no column of their own.
/// - `members.added_by` is null for members who created or joined the room themselves.
/// - `departures` contains users who have left a room that another user had added them to.
/// - `tickets` contains the recovery sessions.
/// - `revs` contains the number of changes of each room (from 1 on in older stores), the number from which on `changes` is complete, and the
///   offset at which the room has taken the name of an earlier one.
/// - `changes` contains one row for each part of a room that has changed: a member (`key` is the name) or the room (`key` is empty), with
///   the number and the offset of its last change. `since` is the offset at which a membership last began or ended.
/// - `sum` is the checksum of a row. It is null in messages of earlier releases.
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))));

    CREATE TABLE rooms (
        name TEXT PRIMARY KEY,
        private INTEGER NOT NULL,
        ephemeral INTEGER NOT NULL,
        archived INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO rooms (name, private, ephemeral) VALUES ('lobby', 0, 0);

    CREATE TABLE members (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL REFERENCES rooms (name),
        user TEXT NOT NULL COLLATE NOCASE,
        owner INTEGER NOT NULL,
        UNIQUE (room, user)
    ) STRICT;
    CREATE INDEX members_by_user ON members (user);

    CREATE TABLE messages (
        \"offset\" INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        id TEXT NOT NULL,
        author TEXT NOT NULL COLLATE NOCASE,
        client_id TEXT,
        text TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        UNIQUE (room, seq),
        UNIQUE (room, author, client_id)
    ) STRICT;
",
    "
    ALTER TABLE messages ADD COLUMN origin TEXT;
    ALTER TABLE rooms ADD COLUMN trimmed INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE tickets (
        pid TEXT PRIMARY KEY,
        sid TEXT NOT NULL,
        user TEXT NOT NULL,
        since INTEGER NOT NULL,
        issued INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tickets_by_age ON tickets (issued);
",
    "ALTER TABLE messages ADD COLUMN sum INTEGER",
    "
    ALTER TABLE members ADD COLUMN added_by TEXT COLLATE NOCASE;
    CREATE INDEX members_by_adder ON members (added_by) WHERE added_by IS NOT NULL;
    CREATE TABLE departures (
        room TEXT NOT NULL,
        user TEXT NOT NULL COLLATE NOCASE,
        adder TEXT NOT NULL COLLATE NOCASE,
        at INTEGER NOT NULL,
        PRIMARY KEY (user, room)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX departures_by_age ON departures (at);
    ALTER TABLE rooms ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
",
    "
    ALTER TABLE rooms ADD COLUMN sum INTEGER;
    UPDATE rooms SET sum = row_sum(name, private, ephemeral, archived, trimmed, base);
    ALTER TABLE members ADD COLUMN sum INTEGER;
    UPDATE members SET sum = row_sum(room, user, owner, added_by);
    ALTER TABLE departures ADD COLUMN sum INTEGER;
    UPDATE departures SET sum = row_sum(room, user, adder, at);
    ALTER TABLE tickets ADD COLUMN sum INTEGER;
    UPDATE tickets SET sum = row_sum(pid, sid, user, since, issued);
    ALTER TABLE meta ADD COLUMN sum INTEGER;
    UPDATE meta SET sum = row_sum(key, value);
",
    "
    CREATE TABLE revs (
        room TEXT PRIMARY KEY REFERENCES rooms (name),
        rev INTEGER NOT NULL,
        floor INTEGER NOT NULL,
        renewed INTEGER NOT NULL DEFAULT 0, sum INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX revs_by_renewal ON revs (renewed);
    INSERT INTO revs (room, rev, floor, sum) SELECT name, 1, 1, row_sum(name, 1, 1, 0) FROM rooms WHERE name <> 'lobby';
    CREATE TABLE changes (
        room TEXT NOT NULL REFERENCES rooms (name),
        type TEXT NOT NULL,
        key TEXT NOT NULL COLLATE NOCASE,
        rev INTEGER NOT NULL,
        \"offset\" INTEGER NOT NULL,
        since INTEGER NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (room, type, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX changes_by_rev ON changes (room, rev);
    CREATE INDEX changes_by_offset ON changes (\"offset\");
",
    // The checksum of a damaged row stays wrong.
    "
    ALTER TABLE rooms ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
    UPDATE rooms SET sum = row_sum(name, private, ephemeral, archived, trimmed, base, settings)
    WHERE sum = row_sum(name, private, ephemeral, archived, trimmed, base);
",
];

/// Statements that run on a file that has lost its last commits, and on a copy. Earlier offsets then belong to another epoch, and no
/// client recovers.
pub const RENEWAL: &[&str] = &[
    "INSERT INTO meta (key, value) VALUES ('epoch', lower(hex(randomblob(8))))
     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    "INSERT OR REPLACE INTO meta (key, value) SELECT 'accepted', seq FROM sqlite_sequence WHERE name = 'messages'",
    "UPDATE meta SET sum = row_sum(key, value)",
    "DELETE FROM tickets",
];

/// Statements that repair a file after a loss was accepted. The text of a damaged message is replaced by U+FFFD; its number is kept. A
/// damaged room becomes private, unless it is the lobby, and keeps its messages. Damaged members and departures are deleted.
pub const REPAIR: &[&str] = &[
    "UPDATE messages SET text = char(65533),
        sum = row_sum(room, seq, id, author, client_id, char(65533), timestamp, origin)
     WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)",
    "UPDATE rooms SET private = (name <> 'lobby'), ephemeral = 0, settings = '{}',
        sum = row_sum(name, name <> 'lobby', 0, archived, trimmed, base, '{}')
     WHERE sum <> row_sum(name, private, ephemeral, archived, trimmed, base, settings)",
    "DELETE FROM members WHERE sum <> row_sum(room, user, owner, added_by)",
    "DELETE FROM departures WHERE sum <> row_sum(room, user, adder, at)",
    "DELETE FROM changes WHERE sum <> row_sum(room, type, key, rev, \"offset\", since)",
    "UPDATE revs SET rev = 1 + (SELECT coalesce(max(rev), 0) FROM changes WHERE changes.room = revs.room)
     WHERE sum <> row_sum(room, rev, floor, renewed)",
    "UPDATE revs SET floor = rev, renewed = 0, sum = row_sum(room, rev, rev, 0) WHERE sum <> row_sum(room, rev, floor, renewed)",
];

/// Queries that find inconsistencies in the file. Each row is a finding.
pub const CHECKS: &[Check] = &[
    Check {
        since: 3,
        sql: "SELECT 'message ' || seq || ' of the room ' || room || ' has a wrong checksum' FROM messages
              WHERE sum <> row_sum(room, seq, id, author, client_id, text, timestamp, origin)",
    },
    Check {
        since: 1,
        sql: "SELECT 'the room ' || room || ' has ' || count(*) || ' messages from ' || min(seq) || ' to ' || max(seq)
              FROM messages GROUP BY room HAVING max(seq) - min(seq) + 1 <> count(*)",
    },
    Check {
        since: 4,
        sql: "SELECT 'the room ' || room || ' begins at message ' || min(seq) FROM messages LEFT JOIN rooms ON name = room
              WHERE coalesce(trimmed, 0) = 0 GROUP BY room HAVING min(seq) <> coalesce(max(base), 0) + 1",
    },
    Check {
        since: 1,
        sql: "SELECT 'messages are in ' || room || ', which is no room' FROM (SELECT DISTINCT room FROM messages)
              WHERE room NOT IN (SELECT name FROM rooms)",
    },
    Check {
        since: 1,
        sql: "SELECT 'a message has offset ' || top || ', and the last one that was given is ' || given
              FROM (SELECT coalesce(max(\"offset\"), 0) AS top FROM messages),
                   (SELECT coalesce(max(seq), 0) AS given FROM sqlite_sequence WHERE name = 'messages')
              WHERE top > given",
    },
    Check {
        since: 5,
        sql: "SELECT 'the room ' || name || ' has a wrong checksum' FROM rooms
              WHERE sum <> row_sum(name, private, ephemeral, archived, trimmed, base)
                AND (SELECT user_version FROM pragma_user_version) < 7",
    },
    Check {
        since: 7,
        sql: "SELECT 'the room ' || name || ' has a wrong checksum' FROM rooms
              WHERE sum <> row_sum(name, private, ephemeral, archived, trimmed, base, settings)",
    },
    Check {
        since: 5,
        sql: "SELECT 'the member ' || user || ' of ' || room || ' has a wrong checksum' FROM members
              WHERE sum <> row_sum(room, user, owner, added_by)",
    },
    Check {
        since: 5,
        sql: "SELECT 'a departure of ' || user || ' has a wrong checksum' FROM departures
              WHERE sum <> row_sum(room, user, adder, at)",
    },
    Check {
        since: 5,
        sql: "SELECT 'a recovery session of ' || user || ' has a wrong checksum' FROM tickets
              WHERE sum <> row_sum(pid, sid, user, since, issued)",
    },
    Check {
        since: 6,
        sql: "SELECT 'a change of the room ' || room || ' has a wrong checksum' FROM changes
              WHERE sum <> row_sum(room, type, key, rev, \"offset\", since)",
    },
    Check {
        since: 6,
        sql: "SELECT 'the number of changes of the room ' || revs.room || ' is damaged' FROM revs
              WHERE sum <> row_sum(room, rev, floor, renewed)
                 OR rev < (SELECT coalesce(max(rev), 0) FROM changes WHERE changes.room = revs.room)",
    },
    Check {
        since: 6,
        sql: "SELECT 'the row with the last offset ' || seq || ' is missing'
              FROM (SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'messages')
              WHERE seq > 0 AND seq NOT IN (SELECT \"offset\" FROM messages)
                AND seq NOT IN (SELECT \"offset\" FROM changes) AND seq NOT IN (SELECT renewed FROM revs)
                AND CAST(seq AS TEXT) NOT IN (SELECT value FROM meta WHERE key = 'accepted')",
    },
    Check {
        since: 5,
        sql: "SELECT 'the log''s epoch is damaged' WHERE NOT EXISTS
              (SELECT 1 FROM meta WHERE key = 'epoch' AND (sum <> row_sum(key, value)) IS NOT 1)",
    },
];

/// Queries that find inconsistencies between the file and the file of users, which is attached as `people`.
pub const CHECKS_WITH_USERS: &[Check] = &[
    Check {
        since: 1,
        sql: "SELECT 'messages are from ' || author || ', who is no user' FROM (SELECT DISTINCT author FROM messages)
              WHERE lower(author) NOT IN (SELECT key FROM people.users)",
    },
    Check {
        since: 1,
        sql: "SELECT user || ' is a member of ' || room || ' and no user' FROM members
              WHERE lower(user) NOT IN (SELECT key FROM people.users)",
    },
];
