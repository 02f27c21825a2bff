"""Values of Postfix's parameters: are they what the daemons that read them accept? Pure.

`postconf -e` and `postfix check` accept any word; the daemon that reads it ends with "fatal: bad
numerical configuration", and its port is dead until the value is corrected (Postfix 3.7.11).
"""

import re
from typing import Literal

#: count, bytes: a number; time: a number with a unit; code: an SMTP reply code; words: one of some;
#: text: a list or an expression, checked only for what would break the file.
Kind = Literal["count", "bytes", "time", "code", "words", "text"]

#: What Postfix reads an integer into (get_mail_conf_int, get_mail_conf_long).
INT = (1 << 31) - 1
LONG = (1 << 63) - 1

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"([0-9]{1,10})([smhdw]?)", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_CODE = re.compile(r"[245][0-9]{2}", re.ASCII)
#: What an unprintable character would do to the file: end the line, or hide something on a screen.
_LONGEST = 2000


def number(kind: Kind, text: str) -> int | None:
    """Return a value as a number (times in seconds), or None if it is none."""
    if kind == "time":
        match = _TIME.fullmatch(text)
        return None if match is None else int(match[1]) * _UNITS[match[2]]
    if kind in ("count", "bytes"):
        return int(text) if _NUMBER.fullmatch(text) else None
    if kind == "code":
        return int(text) if _CODE.fullmatch(text) else None
    return None


def unwritable(text: str) -> str:
    """Return why a value cannot stand in a main.cf as it is; "" if it can."""
    if not text.isprintable():
        return "it has a character that cannot be printed"
    if text != text.strip():
        return "it begins or ends with a blank"
    if len(text) > _LONGEST:
        return f"it has more than {_LONGEST} characters"
    return ""


def wrong(kind: Kind, text: str, words: tuple[str, ...] = ()) -> str:
    """Return why the daemons would not accept a value, its `$` expanded; "" if they do."""
    if kind == "words":
        return "" if text in words else f"it is none of {', '.join(words)}"
    if kind == "text" or number(kind, text) is not None:
        return ""
    expected = {
        "count": "a whole number",
        "bytes": "a whole number of bytes",
        "time": "a time such as 30s, 5m or 1h",
        "code": "an SMTP reply code such as 550",
    }
    return f"it is not {expected[kind]}"
