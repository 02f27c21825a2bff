"""From log bytes to lines: files that rotate, and lines out of bytes."""
