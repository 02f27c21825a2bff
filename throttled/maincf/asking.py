"""Where Postfix asks the daemon: our check in lists of restrictions (access(5)). Pure.

Lists name one parameter of ours, `$throttled_check`, so that main.cf and a `-o` of master.cf, in
which postconf(1) accepts no white space, can hold the same. It is last in a list, but before what
may permit: smtpd(8) evaluates nothing after that.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from throttled.model import POLICY_SOCKET

#: The parameter, and its value. Without default_action=DUNNO a stopped daemon makes Postfix refuse
#: mail. No try_limit=1: after one failure smtpd would not ask again within the session.
NAME = "throttled_check"
VALUE = f"check_policy_service {{ unix:{POLICY_SOCKET}, timeout=2s, default_action=DUNNO }}"
#: Parameters that hold a list, by what is asked there.
DATA, RECIPIENT, CLIENT = (
    "smtpd_data_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_client_restrictions",
)

_OURS = (f"${NAME}", f"${{{NAME}}}", f"$({NAME})")
_CHECK = "check_policy_service"
_REFERENCE = re.compile(r"\$[({]?([A-Za-z0-9_]+)[)}]?")
#: A class of restrictions may name another, which may name the first.
_DEPTH = 10

#: Returns the value of a parameter as written; "" where it is not set.
Lookup = Callable[[str], str]


class Token(NamedTuple):
    """A word of a list, and where it is."""

    text: str
    start: int
    end: int


def tokens(value: str) -> list[Token]:
    """Cut a list at commas and white space, but not within braces."""
    found: list[Token] = []
    depth, start = 0, -1
    for at, character in enumerate(f"{value} "):
        depth += (character == "{") - (character == "}" and depth > 0)
        between = depth == 0 and (character == "," or character.isspace())
        if between and start >= 0:
            found.append(Token(value[start:at], start, at))
            start = -1
        elif not between and start < 0:
            start = at
    if start >= 0:  # a brace without its end
        found.append(Token(value[start:], start, len(value)))
    return found


def words(value: str) -> list[str]:
    """Return the words of a list: lists with the same words are the same to Postfix."""
    return [token.text for token in tokens(value)]


def connected(value: str, lookup: Lookup) -> str:
    """Return a list with our check in its place, and nowhere else.

    Args:
        value: the list as written.
        lookup: other parameters, which `$name` and classes of restrictions refer to.
    """
    value = disconnected(value)
    before = _permitting(tokens(value), lookup)
    if before is not None:
        return f"{value[: before.start]}{_OURS[0]}, {value[before.start :]}"
    rest = value.rstrip(", \t")
    return f"{rest}, {_OURS[0]}" if rest else _OURS[0]


def disconnected(value: str) -> str:
    """Return a list without our check, as a parameter's name or written out."""
    found = tokens(value)
    for at in reversed(range(len(found))):
        start, end = found[at].start, found[at].end
        if found[at].text == _CHECK and at + 1 < len(found) and _endpoint(found[at + 1].text):
            end = found[at + 1].end
        elif found[at].text not in _OURS:
            continue
        head, tail = value[:start], value[end:]
        value = f"{head}{tail.lstrip(', ')}" if tail.strip(", ") else head.rstrip(", ")
    return value


def finding(value: str, lookup: Lookup) -> str:
    """Return why Postfix does not ask where this list counts; "" = it does.

    Args:
        value: the list as written.
        lookup: other parameters.
    """
    expanded = list(_expanded(tokens(value), lookup, _DEPTH))
    for at, word in enumerate(expanded):
        if word == _CHECK and at + 1 < len(expanded) and _endpoint(expanded[at + 1]):
            return ""
        if _permits(word):
            return f"{word} comes before it" if _names(value) else "it does not name it"
    return "it does not name it"


def one_word(value: str) -> str | None:
    """Return a list without white space, as postconf(1) accepts it for master.cf; None: cannot."""
    found = words(value)
    return None if any(char.isspace() for word in found for char in word) else ",".join(found)


def _names(value: str) -> bool:
    return disconnected(value) != value


def _endpoint(word: str) -> bool:
    """Return whether the argument of a check_policy_service is our socket."""
    return f"unix:{POLICY_SOCKET}" in re.split(r"[{},\s]+", word)


def _permitting(found: list[Token], lookup: Lookup) -> Token | None:
    """Return the first word that permits, itself or by what it stands for."""
    for at, token in enumerate(found):
        if any(map(_permits, _expanded([token], lookup, _DEPTH))):
            warned = at > 0 and found[at - 1].text == "warn_if_reject"
            return found[at - 1] if warned else token
    return None


def _permits(word: str) -> bool:
    return re.fullmatch(r"permit(_[a-z_]+)?", word) is not None


def _expanded(found: list[Token], lookup: Lookup, depth: int) -> Iterator[str]:
    """Yield the words of a list, with those that `$name` and classes of restrictions stand for."""
    classes = lookup("smtpd_restriction_classes") if depth else ""
    named = set(words(classes))
    for token in found:
        match = _REFERENCE.fullmatch(token.text)
        name = match[1] if match else token.text if token.text in named else ""
        if name and depth:
            yield from _expanded(tokens(lookup(name)), lookup, depth - 1)
        else:
            yield token.text
