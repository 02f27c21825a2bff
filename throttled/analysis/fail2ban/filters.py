"""fail2ban's filters: its regular expressions as Python's. Pure.

The tags are those of fail2ban.server.failregex (1.0): `<HOST>`, `<ADDR>`, `<F-USER>` … What is
matched is a line without its time, as there. Filters that look at several lines (`<SKIPLINES>`,
`<F-MLFID>`) count each line by itself.
"""

import re
from collections.abc import Sequence

from throttled import address
from throttled.analysis.fail2ban.jails import Jail

_IP4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_IP6 = r"(?:[0-9a-fA-F]{1,4}::?|:){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)"
_ADDRESS = rf"\[?(?:(?:::f{{4,6}}:)?(?P<ip4>{_IP4})|(?P<ip6>{_IP6}))\]?"
_HOST = rf"(?:{_ADDRESS}|(?P<dns>[\w\-.^_]*\w))"
_TAGS = {
    "HOST": _HOST,
    "ADDR": rf"(?:{_ADDRESS})",
    "IP4": rf"(?P<ip4>{_IP4})",
    "IP6": rf"(?P<ip6>{_IP6})",
    "DNS": r"(?P<dns>[\w\-.^_]*\w)",
    "SUBNET": rf"(?:{_ADDRESS}(?:/\d+)?)",
    "CIDR": r"\d+",
    "SKIPLINES": "",
    "F-CONTENT": "(?P<content>",
    "/F-CONTENT": ")",
    "F-NOFAIL": "(?P<nofail>",
    "/F-NOFAIL": ")",
}
_TAG = re.compile(r"<(/?[A-Z][A-Z0-9-]*(?:_[A-Z0-9]+)?)(/?)>")
#: fail2ban.server.failregex, R_GLOB2LOCFLAGS: flags in the middle, which Python 3.11 refuses.
_FLAGS = re.compile(r"(?<!\\)\((?:\?:)?(\(\?[a-z]+)\)")


def translated(expression: str) -> str:
    """Return a regular expression of fail2ban as one of Python."""

    def tag(match: re.Match[str]) -> str:
        name, empty = match[1], match[2]
        if name in _TAGS:
            return _TAGS[name]
        if name.startswith("F-"):
            return "(?:\\S+)" if empty else "(?:"
        return ")" if name.startswith("/F-") else match[0]

    return _once(_FLAGS.sub(r"\1:", _TAG.sub(tag, expression)))


def _once(expression: str) -> str:
    """Let each name of a group stand for its first one only, as Python allows no more."""
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        again = match[1] in seen
        seen.add(match[1])
        return "(?:" if again else match[0]

    return re.sub(r"\(\?P<(\w+)>", group, expression)


class Filter:
    """The filter of one jail."""

    def __init__(self, jail: Jail) -> None:
        """Compile it.

        Raises:
            ValueError: an expression is none of Python's.
        """
        try:
            self._prefix = re.compile(translated(jail.prefix)) if jail.prefix else None
            self._fails = _compiled(jail.fails)
            self._ignored = _compiled(jail.ignored)
        except re.error as error:
            raise ValueError(f"filter of {jail.name}: {error}") from error

    def client(self, line: str) -> str:
        """Return the client whose failure a line is; "" where it is none, or names no address.

        Args:
            line: without its time.
        """
        if self._prefix is not None:
            found = self._prefix.search(line)
            if found is None:
                return ""
            line = found.groupdict().get("content") or line
        match = next((m for each in self._fails if (m := each.search(line))), None)
        if match is None or any(each.search(line) for each in self._ignored):
            return ""
        groups = match.groupdict()
        written = groups.get("ip4") or groups.get("ip6") or ""
        if groups.get("nofail") or not written:
            return ""
        try:
            return address.canonical(written)
        except ValueError:
            return ""


def _compiled(expressions: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(translated(each)) for each in expressions]
