-- What senders (accounts, local users, inside hosts, domains, mailboxes) did in a day.
CREATE TABLE sender_day (
    subject TEXT NOT NULL, -- account:alice, uid:33, 198.51.100.7
    day INTEGER NOT NULL, -- since the epoch, UTC
    messages INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bounces INTEGER NOT NULL,
    deferrals INTEGER NOT NULL,
    PRIMARY KEY (subject, day)
) WITHOUT ROWID;
CREATE INDEX sender_day_day ON sender_day (day);

-- Senders that crossed a limit; nothing was done about them.
CREATE TABLE sender_report (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    subject TEXT NOT NULL,
    "limit" TEXT NOT NULL,
    count TEXT NOT NULL,
    value INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    within REAL NOT NULL, -- seconds
    shown TEXT NOT NULL -- the subject as its name was first written
);
CREATE INDEX sender_report_time ON sender_report (time);
