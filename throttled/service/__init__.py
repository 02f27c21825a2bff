"""The daemon: start, stop, and everything that it runs."""
