BEGIN TRANSACTION;
CREATE TABLE replacements(
        new TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
        old TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
        PRIMARY KEY (new, old)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE sessions(
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        username TEXT NOT NULL,
        issued_at INTEGER NOT NULL
    , sum INTEGER, superseded INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE store_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "store_state" VALUES('group','4c7de9fd7d9f2771');
CREATE INDEX sessions_by_user ON sessions(user, number);
CREATE INDEX sessions_by_age ON sessions(issued_at);
CREATE INDEX replacements_by_old ON replacements(old);
COMMIT;
PRAGMA user_version = 3;
