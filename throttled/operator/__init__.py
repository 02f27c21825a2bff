"""What operators ask of the daemon, and what they change.

Commands own no state: a `Desk` lends them the daemon's, or without one the store and the kernel.
"""
