"""Sharing bans between hosts over a Redis server: entries, and the process that moves them."""
