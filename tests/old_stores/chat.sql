BEGIN TRANSACTION;
CREATE TABLE departures (
        room TEXT NOT NULL,
        user TEXT NOT NULL COLLATE NOCASE,
        adder TEXT NOT NULL COLLATE NOCASE,
        at INTEGER NOT NULL, sum INTEGER,
        PRIMARY KEY (user, room)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE members (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL REFERENCES rooms (name),
        user TEXT NOT NULL COLLATE NOCASE,
        owner INTEGER NOT NULL, added_by TEXT COLLATE NOCASE, sum INTEGER,
        UNIQUE (room, user)
    ) STRICT;
INSERT INTO "members" VALUES(1,'tea','alice',1,NULL,5958291030031027008);
INSERT INTO "members" VALUES(2,'den','alice',1,NULL,-6357266102013681583);
INSERT INTO "members" VALUES(3,'short','alice',1,NULL,5930236815404278674);
INSERT INTO "members" VALUES(4,'tea','bob',0,'alice',-2377903097216208311);
INSERT INTO "members" VALUES(5,'den','carol',0,'alice',3921862282492957937);
CREATE TABLE messages (
        "offset" INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        seq INTEGER NOT NULL,
        id TEXT NOT NULL,
        author TEXT NOT NULL COLLATE NOCASE,
        client_id TEXT,
        text TEXT NOT NULL,
        timestamp INTEGER NOT NULL, origin TEXT, sum INTEGER,
        UNIQUE (room, seq),
        UNIQUE (room, author, client_id)
    ) STRICT;
INSERT INTO "messages" VALUES(1,'lobby',1,'a576bdf61bb5bb5c5f59f71639ef97e9','alice',NULL,'hello',1796064323304,NULL,6928725351064146068);
INSERT INTO "messages" VALUES(2,'tea',1,'a0788787e667f6ee63b56e268285e228','alice','k1','tea? \u{1F375}',1796064323661,NULL,-2365250496218544753);
INSERT INTO "messages" VALUES(3,'tea',2,'61e18f6fa269128bf0046133a1d9bc20','bob',NULL,'yes',1796064323973,NULL,-8186575443913159756);
INSERT INTO "messages" VALUES(4,'den',1,'b3e848a0bc5f9549828650329da5b7b2','alice',NULL,'secret',1796064324356,NULL,8633937141562579679);
INSERT INTO "messages" VALUES(5,'lobby',2,'7538b07c95a9c2848b359b9ac2816fe0','bob',NULL,'bye',1796064325061,NULL,-4335842021027354891);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch','e94138a46e4a92e3',8290423589942675277);
CREATE TABLE rooms (
        name TEXT PRIMARY KEY,
        private INTEGER NOT NULL,
        ephemeral INTEGER NOT NULL,
        archived INTEGER NOT NULL DEFAULT 0
    , trimmed INTEGER NOT NULL DEFAULT 0, base INTEGER NOT NULL DEFAULT 0, sum INTEGER) STRICT;
INSERT INTO "rooms" VALUES('lobby',0,0,0,0,0,-3419195171978988363);
INSERT INTO "rooms" VALUES('tea',0,0,0,0,0,-3338298230762139782);
INSERT INTO "rooms" VALUES('den',1,0,0,0,0,-7120239801802320192);
INSERT INTO "rooms" VALUES('short',0,1,1,0,0,1093542326959346067);
CREATE TABLE store_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "store_state" VALUES('group','4c7de9fd7d9f2771');
CREATE TABLE tickets (
        pid TEXT PRIMARY KEY,
        sid TEXT NOT NULL,
        user TEXT NOT NULL,
        since INTEGER NOT NULL,
        issued INTEGER NOT NULL
    , sum INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user);
CREATE INDEX tickets_by_age ON tickets (issued);
CREATE INDEX members_by_adder ON members (added_by) WHERE added_by IS NOT NULL;
CREATE INDEX departures_by_age ON departures (at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('members',5);
INSERT INTO "sqlite_sequence" VALUES('messages',5);
COMMIT;
PRAGMA user_version = 5;
