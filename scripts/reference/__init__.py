"""Writes the reference of the commands and the manual pages; `scripts/gen-docs` runs it."""
