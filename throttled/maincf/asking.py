"""Where Postfix asks the daemon: our check in lists of restrictions (access(5)). Pure.

Lists name a parameter of ours, `$throttled_check`, so that main.cf and a `-o` of master.cf, in
which postconf(1) accepts no white space, can hold the same. It is last in a list, but before what
may permit: smtpd(8) evaluates nothing after that. About recipients there is a parameter of its own,
which may come after permits of this host's own users and networks: these are not deferred.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from throttled.model import POLICY_RECIPIENT, POLICY_SOCKET


class Check(NamedTuple):
    """A parameter of ours that holds a check."""

    name: str
    value: str
    #: Restrictions that permit what would not be slowed anyway: they may come first.
    after: frozenset[str] = frozenset()

    @property
    def word(self) -> str:
        """What a list has of it."""
        return f"${self.name}"


#: Without default_action=DUNNO a stopped daemon makes Postfix refuse mail. No try_limit=1: after
#: one failure smtpd would not ask again within the session.
_SETTINGS = f"unix:{POLICY_SOCKET}, timeout=2s, default_action=DUNNO"
_CONTEXT = f"policy_context={POLICY_RECIPIENT}"
#: smtpd(8) looks recipients up after all restrictions (smtpd_check_rcpt). Before the check it does
#: so by a restriction, so that unknown users of a domain above its limit are refused for good; not
#: where the service has that off. smtpd expands texts before it sets what is yes or no by default:
#: the parameter is empty then. Conditions need Postfix 3.0.
_KNOWN = "${{$smtpd_reject_unlisted_recipient} != {no} ? {reject_unlisted_recipient}}"
CHECK = Check("throttled_check", f"check_policy_service {{ {_SETTINGS} }}")
RECIPIENTS = Check(
    "throttled_recipient_check",
    f"{_KNOWN} check_policy_service {{ {_SETTINGS}, {_CONTEXT} }}",
    frozenset(
        (
            "permit_mynetworks",
            "permit_sasl_authenticated",
            "permit_tls_clientcerts",
            "permit_tls_all_clientcerts",
            "permit_inet_interfaces",
        )
    ),
)
CHECKS = (CHECK, RECIPIENTS)
#: Parameters that hold a list, by what is asked there.
DATA, RECIPIENT, CLIENT = (
    "smtpd_data_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_client_restrictions",
)

_OURS = [text for c in CHECKS for text in (c.word, f"${{{c.name}}}", f"$({c.name})")]
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


def connected(value: str, lookup: Lookup, check: Check = CHECK) -> str:
    """Return a list with a check in its place, and no other of ours.

    Args:
        value: the list as written.
        lookup: other parameters, which `$name` and classes of restrictions refer to.
        check: which.
    """
    value = disconnected(value)
    before = _permitting(tokens(value), lookup, check)
    if before is not None:
        return f"{value[: before.start]}{check.word}, {value[before.start :]}"
    rest = value.rstrip(", \t")
    return f"{rest}, {check.word}" if rest else check.word


def disconnected(value: str) -> str:
    """Return a list without our checks, as a parameter's name or written out."""
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


def finding(value: str, lookup: Lookup, check: Check = CHECK) -> str:
    """Return why Postfix does not ask where this list counts; "" = it does.

    Args:
        value: the list as written.
        lookup: other parameters.
        check: which.
    """
    expanded = list(_expanded(tokens(value), lookup, _DEPTH))
    for at, word in enumerate(expanded):
        if word == _CHECK and at + 1 < len(expanded) and _asks(expanded[at + 1], check):
            return ""
        if _permits(word, check):
            return f"{word} comes before it" if _names(value) else "it does not name it"
    return "it does not name it"


def spares(value: str, lookup: Lookup, check: Check) -> bool:
    """Return whether a list permits clients of this host's own before the check."""
    return any(word in check.after for word in _expanded(tokens(value), lookup, _DEPTH))


def one_word(value: str) -> str | None:
    """Return a list without white space, as postconf(1) accepts it for master.cf; None: cannot."""
    found = words(value)
    return None if any(char.isspace() for word in found for char in word) else ",".join(found)


def _names(value: str) -> bool:
    return disconnected(value) != value


def _endpoint(word: str) -> bool:
    """Return whether the argument of a check_policy_service is our socket."""
    return f"unix:{POLICY_SOCKET}" in _settings(word)


def _asks(word: str, check: Check) -> bool:
    """Return whether the argument of a check_policy_service makes it this check."""
    return _endpoint(word) and (_CONTEXT in _settings(word)) == (check is RECIPIENTS)


def _settings(word: str) -> list[str]:
    return re.split(r"[{},\s]+", word)


def _permitting(found: list[Token], lookup: Lookup, check: Check) -> Token | None:
    """Return the first word that permits, itself or by what it stands for."""
    for at, token in enumerate(found):
        if any(_permits(word, check) for word in _expanded([token], lookup, _DEPTH)):
            warned = at > 0 and found[at - 1].text == "warn_if_reject"
            return found[at - 1] if warned else token
    return None


def _permits(word: str, check: Check) -> bool:
    return word not in check.after and re.fullmatch(r"permit(_[a-z_]+)?", word) is not None


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
