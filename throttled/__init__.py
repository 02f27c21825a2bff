"""Throttles and bans abusive SMTP clients in the kernel, from what Postfix logs."""

__version__ = "0.1.0"
