-- A throttle may have a rate of its own, and a single address be exempt from what is in force
-- against its networks.

ALTER TABLE decision ADD COLUMN rate TEXT NOT NULL DEFAULT ''; -- JSON: [count, seconds, burst]
ALTER TABLE active ADD COLUMN rate TEXT NOT NULL DEFAULT ''; -- '' = the configured rate

INSERT INTO tally (name, rows) VALUES ('mx exempt', 0), ('submission exempt', 0);
