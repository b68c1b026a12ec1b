//! The schema of the chat's SQLite file.

/// The script that creates the tables.
///
/// - `meta` has the epoch of the log, and the secret that recovery tickets are signed with.
/// - `author` and `user` compare without regard to ASCII case, because usernames are unique in this form.
/// - `messages.offset` is the offset in the log. `AUTOINCREMENT` prevents reuse of an offset after a room was trimmed.
/// - `messages.origin` is the socket that sent a message. The message is not delivered to it when the client recovers.
/// - `rooms.trimmed` is the offset of the last deleted message of a room.
/// - `rooms.settings` is a JSON object with the settings that have no column of their own.
/// - `members.added_by` is null for members who created or joined the room themselves.
/// - `departures` contains users who have left a room that another user had added them to.
/// - `revs` contains the number of changes of each room.
/// - `changes` contains one row for each part of a room that has changed: a member (`key` is the name) or the room (`key` is empty), with
///   the number and the offset of its last change. `since` is the offset at which a membership last began or ended.
pub const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8)))), ('secret', lower(hex(randomblob(32))));

    CREATE TABLE rooms (
        name TEXT PRIMARY KEY,
        private INTEGER NOT NULL,
        ephemeral INTEGER NOT NULL,
        archived INTEGER NOT NULL DEFAULT 0,
        trimmed INTEGER NOT NULL DEFAULT 0,
        settings TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    INSERT INTO rooms (name, private, ephemeral) VALUES ('lobby', 0, 0);

    CREATE TABLE members (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL REFERENCES rooms (name),
        user TEXT NOT NULL COLLATE NOCASE,
        owner INTEGER NOT NULL,
        added_by TEXT COLLATE NOCASE,
        UNIQUE (room, user)
    ) STRICT;
    CREATE INDEX members_by_user ON members (user);
    CREATE INDEX members_by_adder ON members (added_by) WHERE added_by IS NOT NULL;

    CREATE TABLE departures (
        room TEXT NOT NULL,
        user TEXT NOT NULL COLLATE NOCASE,
        adder TEXT NOT NULL COLLATE NOCASE,
        at INTEGER NOT NULL,
        PRIMARY KEY (room, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX departures_by_age ON departures (at);

    CREATE TABLE messages (
        \"offset\" INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        id TEXT NOT NULL,
        author TEXT NOT NULL COLLATE NOCASE,
        client_id TEXT,
        text TEXT NOT NULL,
        timestamp INTEGER NOT NULL,
        origin TEXT,
        UNIQUE (room, seq),
        UNIQUE (room, author, client_id)
    ) STRICT;

    CREATE TABLE revs (
        room TEXT PRIMARY KEY REFERENCES rooms (name),
        rev INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE changes (
        room TEXT NOT NULL REFERENCES rooms (name),
        type TEXT NOT NULL,
        key TEXT NOT NULL COLLATE NOCASE,
        rev INTEGER NOT NULL,
        \"offset\" INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (room, type, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX changes_by_rev ON changes (room, rev);
    CREATE INDEX changes_by_offset ON changes (\"offset\");
";
