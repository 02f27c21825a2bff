"""What must survive: decisions, what is in force, good evidence, log offsets. SQLite, only here."""
