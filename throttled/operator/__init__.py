"""What operators ask of the daemon, and what they change."""
