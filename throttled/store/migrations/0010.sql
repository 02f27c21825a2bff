-- A few decisions, before the tables that they concern are written: throttled/store/ahead.py.
CREATE TABLE write_ahead (
    number INTEGER PRIMARY KEY,
    state BLOB NOT NULL
);
