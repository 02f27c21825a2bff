"""From log bytes to lines: files that rotate, systemd's journal, and lines out of bytes."""
