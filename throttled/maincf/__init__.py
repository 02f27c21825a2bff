"""Postfix's own limits: parameters, their values, traps between them, advice. Pure."""
