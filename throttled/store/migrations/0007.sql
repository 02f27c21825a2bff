-- Which threshold a report is about, and the messages that a domain received.
ALTER TABLE sender_report ADD COLUMN above TEXT NOT NULL DEFAULT 'soft';
ALTER TABLE sender_day ADD COLUMN received INTEGER NOT NULL DEFAULT 0;
