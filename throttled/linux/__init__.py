"""Interfaces of Linux that Python's standard library lacks."""
