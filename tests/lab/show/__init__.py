"""`make demo` and `make soak`."""
