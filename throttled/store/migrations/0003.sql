-- What was last known of Postfix: with a main.cf that cannot be read, the same ports are protected.
CREATE TABLE known (
    name TEXT PRIMARY KEY,
    time REAL NOT NULL,
    value BLOB NOT NULL -- JSON
) WITHOUT ROWID;

-- Addresses of the host names on the allowlist (`throttled allow --resolve NAME`).
CREATE TABLE resolved (
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    until REAL NOT NULL, -- of the name; 0 = no end
    note TEXT NOT NULL,
    since REAL NOT NULL,
    missing REAL NOT NULL, -- since when DNS no longer returns the address; 0 = it does
    PRIMARY KEY (name, address)
) WITHOUT ROWID;
