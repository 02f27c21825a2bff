"""The programs for the kernel, looked at as bytes."""
