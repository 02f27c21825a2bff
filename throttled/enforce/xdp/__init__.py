"""The XDP backend: a program of our own at each interface, its maps pinned in the kernel."""
