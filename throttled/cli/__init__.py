"""The command line: a module for each command, with its own help, and what they share.

Commands own no state: it is the daemon's, or without one the store's and the kernel's.
"""
