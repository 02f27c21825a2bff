-- Good senders in networks that are throttled or banned, found by the network that is no longer.
CREATE INDEX active_exempt ON active (subject) WHERE action = 'exempt';

-- What an imported list names and something else is active for: another list, the log, an operator.
CREATE TABLE listed (
    list TEXT NOT NULL,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    action TEXT NOT NULL,
    until REAL NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (subject, scope, list)
) WITHOUT ROWID;
CREATE INDEX listed_list ON listed (list);
CREATE INDEX listed_until ON listed (until);
CREATE TRIGGER active_origin BEFORE UPDATE OF origin ON active
WHEN old.origin >= 'list:' AND old.origin < 'list;' AND old.origin <> new.origin
    AND old.until > new.since
BEGIN
    -- An OR REPLACE here would give way to the ON CONFLICT of the statement that fires it.
    DELETE FROM listed WHERE subject = old.subject AND scope = old.scope
        AND list = substr(old.origin, 6);
    INSERT INTO listed (list, subject, scope, action, until, why)
        VALUES (substr(old.origin, 6), old.subject, old.scope, old.action, old.until, old.why);
END;
