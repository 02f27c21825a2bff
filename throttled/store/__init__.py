"""What must survive: decisions, what is active, good evidence, log offsets. SQLite, only here."""
