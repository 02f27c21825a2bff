"""Notifications of decisions and health: journal lines, commands, webhooks, mail."""
