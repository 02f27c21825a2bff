-- The client's forward-confirmed host name, as the log had it when it was decided; '' = none.
ALTER TABLE decision ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE active ADD COLUMN name TEXT NOT NULL DEFAULT '';
