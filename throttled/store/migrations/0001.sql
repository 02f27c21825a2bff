-- All that survives a restart. Times are wall-clock seconds since the epoch; a day is a UTC day,
-- counted from the epoch. Subjects are canonical text. docs/reference/database.md explains.

PRAGMA application_id = 1953002095;

-- Log files by identity: what a line number of a decision refers to. The fingerprint of a file's
-- first bytes tells files apart that had the same inode, and finds one that was compressed since.
CREATE TABLE source (
    number INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    mark BLOB NOT NULL, -- as the tail wrote it
    UNIQUE (path, device, inode, mark)
);

-- How far each log has been read.
CREATE TABLE position (
    path TEXT PRIMARY KEY,
    state BLOB NOT NULL -- as the tail wrote it
) WITHOUT ROWID;

-- History, in the order of recording.
CREATE TABLE decision (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    "limit" TEXT NOT NULL,
    level INTEGER NOT NULL,
    until REAL NOT NULL,
    why TEXT NOT NULL,
    value INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    lines TEXT NOT NULL, -- JSON: [source, offset, source, offset, ...]
    alert TEXT NOT NULL
);
CREATE INDEX decision_subject ON decision (subject);

-- What should be in force. The number is that of the decision, so the latest come last.
CREATE TABLE active (
    number INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    action TEXT NOT NULL,
    "limit" TEXT NOT NULL,
    level INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    why TEXT NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0, -- dropped before the kernel's counter last began at zero
    counter INTEGER NOT NULL DEFAULT 0, -- the kernel's counter when it was last read
    UNIQUE (subject, scope)
);
CREATE INDEX active_until ON active (until);

-- Bans so far. The number is that of the latest ban, so the longest ago come first.
CREATE TABLE offence (
    number INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    network TEXT NOT NULL, -- '' where the subject is never grouped
    bans INTEGER NOT NULL,
    banned REAL NOT NULL, -- begin of the latest ban
    ended REAL NOT NULL, -- its end
    UNIQUE (subject, scope)
);
CREATE INDEX offence_network ON offence (network, scope, banned);

-- Good evidence of an address; throttled/store/good.py says how it is counted and fades.
CREATE TABLE good (
    address TEXT PRIMARY KEY,
    network TEXT NOT NULL,
    seen INTEGER NOT NULL, -- latest day with a delivery or a login
    day INTEGER NOT NULL, -- latest day with a delivery
    days INTEGER NOT NULL, -- bit n: delivered on `day` - n
    deliveries INTEGER NOT NULL,
    logins INTEGER NOT NULL,
    last_login REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX good_network ON good (network, seen);
CREATE INDEX good_seen ON good (seen);

-- The highest that a client reached within the window of a limit, for `throttled suggest --store`.
CREATE TABLE peak (
    client TEXT NOT NULL,
    scope TEXT NOT NULL,
    "limit" TEXT NOT NULL,
    count TEXT NOT NULL, -- what the limit counts
    within REAL NOT NULL, -- its window, in seconds
    value INTEGER NOT NULL,
    at REAL NOT NULL, -- when it was reached latest, within a day
    PRIMARY KEY (client, scope, "limit", count, within)
) WITHOUT ROWID;
CREATE INDEX peak_at ON peak (at);
-- From when until when a daemon noted them.
CREATE TABLE watched (
    scope TEXT NOT NULL,
    "limit" TEXT NOT NULL,
    count TEXT NOT NULL,
    within REAL NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (scope, "limit", count, within)
) WITHOUT ROWID;

-- The operator's: unbans, from when on a subject counts again, and the allowlist.
CREATE TABLE pardon (
    subject TEXT NOT NULL, -- '' = everybody
    scope TEXT NOT NULL,
    at REAL NOT NULL, -- what was before is forgotten
    until REAL NOT NULL, -- not acted on before then; not later than `at` = no exemption
    PRIMARY KEY (subject, scope)
) WITHOUT ROWID;
CREATE INDEX pardon_at ON pardon (at);
CREATE TABLE allowed (
    what TEXT PRIMARY KEY,
    until REAL NOT NULL, -- 0 = for ever
    note TEXT NOT NULL,
    since REAL NOT NULL
) WITHOUT ROWID;

-- What operators changed, and who it was: docs/security.md.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    uid INTEGER NOT NULL,
    user TEXT NOT NULL,
    pid INTEGER NOT NULL,
    program TEXT NOT NULL,
    op TEXT NOT NULL,
    subject TEXT NOT NULL, -- '' where it is about none, or about many
    request TEXT NOT NULL, -- JSON, as it was asked
    outcome TEXT NOT NULL,
    ok INTEGER NOT NULL,
    offline INTEGER NOT NULL
);
CREATE INDEX audit_time ON audit (time);

-- Numbers of rows: counting a million takes too long for `status`.
CREATE TABLE tally (
    name TEXT PRIMARY KEY,
    rows INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tally (name, rows) VALUES
    ('mx throttle', 0), ('mx ban', 0), ('submission throttle', 0), ('submission ban', 0),
    ('good', 0), ('peak', 0);

CREATE TRIGGER active_insert AFTER INSERT ON active BEGIN
    UPDATE tally SET rows = rows + 1 WHERE name = new.scope || ' ' || new.action;
END;
CREATE TRIGGER active_delete AFTER DELETE ON active BEGIN
    UPDATE tally SET rows = rows - 1 WHERE name = old.scope || ' ' || old.action;
END;
CREATE TRIGGER active_action AFTER UPDATE OF action ON active WHEN old.action <> new.action BEGIN
    UPDATE tally SET rows = rows - 1 WHERE name = old.scope || ' ' || old.action;
    UPDATE tally SET rows = rows + 1 WHERE name = new.scope || ' ' || new.action;
END;
CREATE TRIGGER good_insert AFTER INSERT ON good BEGIN
    UPDATE tally SET rows = rows + 1 WHERE name = 'good';
END;
CREATE TRIGGER good_delete AFTER DELETE ON good BEGIN
    UPDATE tally SET rows = rows - 1 WHERE name = 'good';
END;
CREATE TRIGGER peak_insert AFTER INSERT ON peak BEGIN
    UPDATE tally SET rows = rows + 1 WHERE name = 'peak';
END;
CREATE TRIGGER peak_delete AFTER DELETE ON peak BEGIN
    UPDATE tally SET rows = rows - 1 WHERE name = 'peak';
END;
