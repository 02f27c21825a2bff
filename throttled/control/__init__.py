"""The control socket between the daemon and the commands."""
