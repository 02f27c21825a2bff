-- Where a decision or an entry came from: log, operator, list:NAME, peer:NAME.
ALTER TABLE decision ADD COLUMN origin TEXT NOT NULL DEFAULT 'log';
ALTER TABLE active ADD COLUMN origin TEXT NOT NULL DEFAULT 'log';
ALTER TABLE allowed ADD COLUMN origin TEXT NOT NULL DEFAULT 'operator';
UPDATE decision SET origin = 'operator' WHERE "limit" = 'operator';
UPDATE active SET origin = 'operator' WHERE "limit" = 'operator';

-- What happened in each hour, for reports.
CREATE TABLE hourly (
    hour INTEGER NOT NULL, -- since the epoch
    scope TEXT NOT NULL, -- '' where it is not known
    what TEXT NOT NULL, -- session, delivery, login, decision, drop
    kind TEXT NOT NULL, -- of a decision its action, else ''
    "limit" TEXT NOT NULL, -- of a decision, else ''
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, scope, what, kind, "limit")
) WITHOUT ROWID;
