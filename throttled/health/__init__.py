"""What is wrong: of the running daemon, and what `check` finds out."""
