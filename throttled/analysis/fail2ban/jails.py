"""What fail2ban's jails are configured to do. Pure; owns no state.

`dumped` reads what `fail2ban-client -d` prints (fail2ban 0.10 and later): its configuration as
fail2ban itself reads it, with all files, interpolations and filters, one Python list a line.
`configured` reads the files where fail2ban is not installed: `jail.conf`, `jail.d/*.conf`,
`jail.local`, `jail.d/*.local` in this order; the filters are in `files`.
"""

import ast
import configparser
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

#: fail2ban.server.utils, `Utils.str2seconds`: units, and what of a word is looked at.
_UNITS = {
    "s": 1, "sec": 1, "seconds": 1, "second": 1,
    "m": 60, "mi": 60, "min": 60, "minutes": 60, "minute": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "hr": 3600,
    "d": 86400, "da": 86400, "day": 86400, "days": 86400, "dd": 86400,
    "w": 604800, "week": 604800, "weeks": 604800, "we": 604800,
    "mo": 2629800, "mon": 2629800, "month": 2629800, "months": 2629800, "mm": 2629800,
    "y": 31557600, "year": 31557600, "years": 31557600, "yy": 31557600,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
#: Names of jails and filters of programs that take mail, or let users read it.
_MAIL = re.compile(
    r"postfix|sasl|dovecot|courier|cyrus|sendmail|exim|qmail|perdition|uwimap|sieve|roundcube"
    r"|squirrelmail|horde|sogo|solid-pop3d|kerio|rspamd|opensmtpd"
)
#: A log of mail, as its path or its systemd unit.
_MAIL_LOG = re.compile(r"\bmail|maillog|postfix")
_TRUE = frozenset({"true", "yes", "on", "1"})
_DATABASE = "/var/lib/fail2ban/fail2ban.sqlite3"
PERMANENT = -1.0


class Jail(Struct):
    """One jail that is enabled."""

    name: str
    maxretry: int = 5
    findtime: float = 600.0  # seconds
    bantime: float = 600.0  # seconds; PERMANENT
    ignore: list[str] = field(default_factory=list)  # addresses, networks, host names
    prefix: str = ""  # a regular expression, in fail2ban's words
    fails: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    filter: str = ""  # as the files name it
    logs: str = ""  # what it reads: paths, and matches in the journal

    @property
    def postfix(self) -> bool:
        """Whether it reads Postfix's lines."""
        source = self.prefix or self.filter or self.name
        return "postfix" in source or self.name.startswith("postfix")

    @property
    def of_program(self) -> bool:
        """Whether it is named after a program that takes mail, or lets users read it."""
        return bool(_MAIL.search(self.name) or _MAIL.search(self.filter) or self.postfix)

    @property
    def mail(self) -> bool:
        """Whether it is about mail."""
        return self.of_program or bool(_MAIL_LOG.search(self.logs))


class Fail2ban(Struct):
    """What fail2ban is configured to do."""

    jails: dict[str, Jail] = field(default_factory=dict)
    database: str = _DATABASE
    filters: bool = True  # those of jails for Postfix are known


def seconds(text: str | float) -> float:
    """Return a duration of fail2ban in seconds: 600, "10m", "1d 12h", "-1" (PERMANENT).

    Raises:
        ValueError: it is none.
    """
    written = str(text).strip().lower()
    if written.startswith("-"):
        return PERMANENT
    total, end = 0.0, 0
    for match in _DURATION.finditer(written):
        unit = match[2] or "s"
        if match.start() != end or unit not in _UNITS:
            break
        total, end = total + float(match[1]) * _UNITS[unit], match.end()
    if end != len(written) or not written:
        raise ValueError(f"not a duration of fail2ban: {text!r}")
    return total


def dumped(text: str) -> Fail2ban:
    """Read what `fail2ban-client -d` prints; lines that are no command are skipped."""
    found = Fail2ban()
    for line in text.splitlines():
        try:
            command = ast.literal_eval(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # a warning
            continue
        if isinstance(command, list) and len(command) > 1:
            _command(found, [*command])
    return found


def _command(found: Fail2ban, words: list[Any]) -> None:
    verb, name, *rest = words
    if verb == "add":
        found.jails[name] = Jail(name)
    elif words[:2] == ["set", "dbfile"] and rest and isinstance(rest[0], str):
        found.database = rest[0]
    elif verb in {"set", "multi-set"} and name in found.jails and len(rest) > 1:
        values = rest[1] if verb == "multi-set" else rest[1:]
        _set(found.jails[name], str(rest[0]), [str(value) for value in values])


def _set(jail: Jail, key: str, values: list[str]) -> None:
    match key:
        case "maxretry":
            jail.maxretry = int(values[0])
        case "findtime":
            jail.findtime = seconds(values[0])
        case "bantime":
            jail.bantime = seconds(values[0])
        case "addignoreip":
            jail.ignore += values
        case "addlogpath" | "addjournalmatch":
            jail.logs += f" {values[0]}"
        case "prefregex":
            jail.prefix = values[0]
        case "addfailregex":
            jail.fails += values
        case "addignoreregex":
            jail.ignored += values
        case _:
            pass


def read(texts: Iterable[str]) -> configparser.ConfigParser:
    """Read files of fail2ban, each over those before, without interpolation.

    Raises:
        ValueError: one is no configuration of fail2ban.
    """
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, inline_comment_prefixes=(";",)
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as fail2ban does
    for text in texts:
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise ValueError(str(error).replace("\n", " ")) from error
    return parser


def configured(texts: Iterable[str]) -> Fail2ban:
    """Read the files of jails, in fail2ban's order, without its filters.

    Raises:
        ValueError: one is no configuration of fail2ban.
    """
    parser = read(texts)
    found = Fail2ban()
    for name in parser.sections():
        if name == "INCLUDES":
            continue
        values = {key: value or "" for key, value in parser.items(name)} | {"__name__": name}
        if _value(values, "enabled").lower() in _TRUE:
            try:
                found.jails[name] = _jail(name, values)
            except ValueError as error:
                raise ValueError(f"jail {name}: {error}") from error
    return found


def _jail(name: str, values: Mapping[str, str]) -> Jail:
    return Jail(
        name,
        maxretry=int(_value(values, "maxretry") or 5),
        findtime=seconds(_value(values, "findtime") or 600),
        bantime=seconds(_value(values, "bantime") or 600),
        ignore=re.split(r"[\s,]+", _value(values, "ignoreip").strip()),
        filter=_value(values, "filter"),
        logs=_value(values, "logpath"),
    )


def _value(values: Mapping[str, str], key: str, depth: int = 0) -> str:
    """Return a value with what `%(name)s` stands for, as configparser and fail2ban do it."""
    text = values.get(key, "")
    if depth > 10:
        return text
    return re.sub(
        r"%\(([^)]+)\)s",
        lambda match: _value(values, match[1].removeprefix("known/"), depth + 1),
        text,
    )
