"""The daemon, run, disturbed, killed and watched."""
