"""The operator's TOML file: its schema, and loading it with errors that help."""
