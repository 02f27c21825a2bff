"""Decisions into the kernel: one `Backend` protocol, a folder per backend."""
