"""Sees in the kernel what Postfix cannot log: connections that it has not accepted yet."""
