-- Names under which this host's lines were found in its log, by the visit of `throttled check`.
CREATE TABLE host (
    name TEXT PRIMARY KEY,
    since REAL NOT NULL
) WITHOUT ROWID;

-- How far the logs that were there at the first start have been read for good evidence, back from
-- where they began to be followed. A database of before has that evidence already.
CREATE TABLE backlog (
    path TEXT PRIMARY KEY, -- of the log, as in the configuration
    state BLOB NOT NULL -- as the reader wrote it; empty: done
) WITHOUT ROWID;
INSERT INTO backlog (path, state) SELECT path, x'' FROM position;
