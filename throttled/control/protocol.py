"""Requests and answers on the control socket. Pure."""
