"""Admission control: a cap on the connections that strangers have open, by several means."""
