"""Text of clients, escaped for terminals and mail. Pure; owns no state."""

import unicodedata

#: Right-to-left letters and numbers turn what stands beside them around on the screen.
_TURNING = frozenset(("R", "AL", "AN"))


def printable(text: str) -> str:
    r"""Return text with everything that could disturb a terminal or mislead a reader escaped.

    Control characters, invisible ones, those that change the direction of writing and those that
    are drawn over their neighbours become `\x1b` or `\u202e`.
    """
    return text if text.isascii() and text.isprintable() else _escape(text)


def blanked(text: str, by: str = " ") -> str:
    """Return text of one line: what cannot be printed, as an end of line, is replaced."""
    return text if text.isprintable() else "".join(c if c.isprintable() else by for c in text)


def _escape(text: str) -> str:
    return "".join(char if harmless(char) else _code(char) for char in text)


def harmless(char: str) -> bool:
    """Return whether a character can be shown as it is."""
    return (
        char.isprintable()
        and unicodedata.category(char)[0] != "M"
        and unicodedata.bidirectional(char) not in _TURNING
    )


def _code(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
