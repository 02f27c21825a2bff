"""The networks that Postfix's `mynetworks` trusts, as plain networks. Owns no state.

And those of other parameters with such lists of hosts (`smtpd_authorized_xclient_hosts`). Patterns,
files and tables are read as postconf(5) says of `mynetworks`: `198.51.100.0/24`,
`[2001:db8::]/32`, `!pattern`, `/file/name` (patterns again), `type:table` (its keys are addresses;
of `cidr:` networks). The first match decides, so what is excluded is cut out of what follows.

Limits: `_MOST` networks; a table that cannot be listed (SQL, LDAP, regular expressions) and an
`if` or `!` within a `cidr:` table are reported, not guessed at.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from throttled import address
from throttled.errors import HostError
from throttled.host.command import run
from throttled.host.postconf import Instance, split

Network = IPv4Network | IPv6Network

_MOST = 1024
_MOST_WARNINGS = 20
_DEEPEST = 5
_LARGEST = 4 << 20  # characters of a file
#: The shortest prefixes that a ban may have, and that are believed to be meant as trusted.
_FLOOR = {4: 16, 6: 32}
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "100.64.0.0/10", "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
#: Types that `postmap -s` lists (postmap(1)).
_SUFFIXES = ("cdb", "db", "dir", "lmdb")  # of the files that postmap makes
_LISTED = ("btree", "cdb", "dbm", "hash", "inline", "lmdb", "sdbm", "texthash")


def networks(instance: Instance, before: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Return the networks that an instance trusts, and warnings.

    Args:
        instance: as read from postconf.
        before: what was trusted so far; kept while a file or a table cannot be read.
    """
    value = instance.parameters.get("mynetworks", "")
    return _networks(instance, "mynetworks", value, before, given=instance.mynetworks_given)


def files(instance: Instance) -> Iterator[str]:
    """Yield the files and tables that an instance's `mynetworks` names, not those within these."""
    for item in split(instance.parameters.get("mynetworks", "")):
        kind, _, path = item.lstrip("!").removeprefix("proxy:").rpartition(":")
        if path.startswith("/"):
            yield path
            if kind in _LISTED:
                yield from (f"{path}.{suffix}" for suffix in _SUFFIXES)


def authorised(
    instance: Instance, parameter: str, before: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the networks that a parameter names, for whichever smtpd of an instance; and warnings.

    Args:
        instance: as read from postconf.
        parameter: one whose value is a list of hosts as that of `mynetworks`.
        before: what it named so far; kept while a file or a table cannot be read.
    """
    found: dict[str, None] = {}
    warnings: dict[str, None] = {}
    smtpd = (entry.parameters for entry in instance.entries if entry.process == "smtpd")
    for value in dict.fromkeys(known.get(parameter, "") for known in smtpd):
        more, trouble = _networks(instance, parameter, value, before, given=True)
        found |= dict.fromkeys(more)
        warnings |= dict.fromkeys(trouble)
    return list(found), list(warnings)


def _networks(
    instance: Instance, parameter: str, value: str, before: Iterable[str], *, given: bool
) -> tuple[list[str], list[str]]:
    reader = _Reader(instance.directory, parameter)
    trusted: dict[str, None] = {}  # in order, each once
    excluded: list[Network] = []
    for positive, network in reader.patterns(value):
        if not positive:
            excluded.append(network)
        elif _too_wide(network, given=given):
            reader.warn(f"{network} is wider than plausible, and is not protected")
        else:
            if not given and _public(network) and network.num_addresses > 1:
                style = instance.parameters.get("mynetworks_style", "")
                reader.warn(
                    f"{network} comes from mynetworks_style={style}: other hosts may be in it"
                )
            trusted |= dict.fromkeys(map(_text, _without(network, excluded)))
        if len(trusted) + len(excluded) > _MOST:
            reader.warn(f"has more than {_MOST} networks; the rest is not protected")
            break
    if reader.failed:
        trusted |= dict.fromkeys(before)
    return list(trusted)[:_MOST], reader.warnings


class _Reader:
    """Reads patterns in Postfix's order; what cannot be read becomes a warning."""

    def __init__(self, directory: str, parameter: str) -> None:
        self.directory = directory
        self._parameter = parameter
        self.warnings: list[str] = []
        self.failed = False

    def warn(self, what: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(f"{self._parameter} of {self.directory}: {what}")

    def patterns(self, text: str, depth: int = 0) -> Iterator[tuple[bool, Network]]:
        """Yield (trusted or excluded, network), first match first."""
        for item in split(text):
            pattern = item.lstrip("!")
            negated = (len(item) - len(pattern)) % 2 == 1
            try:
                for positive, network in self._pattern(pattern, depth):
                    yield positive is not negated, network
            except ValueError as error:
                self.warn(f"{item}: {error}")
            except (OSError, HostError) as error:
                self.warn(f"{item}: {error}")
                self.failed = True

    def _pattern(self, pattern: str, depth: int) -> Iterator[tuple[bool, Network]]:
        kind, colon, rest = pattern.partition(":")
        if depth == _DEEPEST and (pattern.startswith("/") or kind == "proxy"):
            self.warn(f"{pattern}: files nested too deeply")
        elif pattern.startswith("/"):
            yield from self.patterns(" ".join(_lines(pattern)), depth + 1)
        elif not colon or pattern.startswith("["):
            yield True, _network(pattern)
        elif kind == "proxy":
            yield from self._pattern(rest, depth + 1)
        elif kind == "cidr" and rest.startswith("/"):
            yield from self._cidr(rest)
        elif kind in _LISTED:
            for line in run("postmap", "-c", self.directory, "-s", pattern).splitlines():
                with suppress(ValueError):  # never matches an address in Postfix either
                    yield True, ip_network(address.canonical(line.partition("\t")[0]))
        else:
            self.warn(f"{pattern}: cannot be listed; see [protect] networks")

    def _cidr(self, path: str) -> Iterator[tuple[bool, Network]]:
        """Yield the networks of a table as in cidr_table(5)."""
        for line in _lines(path):
            pattern = line.split()[0]
            if line[0].isspace():
                continue  # continues with the line before
            try:
                yield True, _network(pattern)
            except ValueError:  # also if, endif, !pattern
                self.warn(f"cidr:{path}: {line}: unreadable; see [protect] networks")


def _lines(path: str) -> list[str]:
    with Path(path).open(errors="replace") as file:
        lines = file.read(_LARGEST).splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _network(pattern: str) -> Network:
    """Read `a.b.c.d/n`, `[v6]/n`, and IPv4-mapped IPv6 as IPv4."""
    return ip_network(address.subject(pattern.replace("[", "").replace("]", "")))


def _text(network: Network) -> str:
    return address.subject(str(network))


def _without(network: Network, holes: list[Network]) -> list[Network]:
    """Return what is left of a network."""
    parts = [network]
    for hole in holes:
        parts = [left for part in parts for left in _cut(part, hole)]
    return parts


def _cut(part: Network, hole: Network) -> Iterator[Network]:
    if _within(part, hole):
        return
    if _within(hole, part):
        yield from part.address_exclude(hole)  # type: ignore[arg-type]  # same version: see _within
    else:
        yield part


def _within(inner: Network, outer: Network) -> bool:
    # The methods of each version take only their own.
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _public(network: Network) -> bool:
    return not any(_within(network, private) for private in _PRIVATE)


def too_wide(network: str) -> bool:
    """Return whether a network that is written somewhere is wider than is ever meant."""
    return _too_wide(ip_network(network, strict=False), given=True)


def _too_wide(network: Network, *, given: bool) -> bool:
    """Return whether a network is wider than is ever meant; what is written may be all of 10/8."""
    if network.prefixlen >= _FLOOR[network.version] or network.is_loopback:
        return False
    return _public(network) or not given
