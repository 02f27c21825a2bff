"""What rsyslog and journald may do to Postfix's lines before these are written."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from throttled.errors import HostError
from throttled.host.command import run
from throttled.log_paths import JOURNAL, is_journal
from throttled.model import Finding

_RSYSLOG = ("rsyslog.conf", "rsyslog.d/*.conf")
#: Later ones win (journald.conf(5)).
_JOURNALD = (
    "usr/lib/systemd/journald.conf",
    "usr/lib/systemd/journald.conf.d/*.conf",
    "etc/systemd/journald.conf",
    "etc/systemd/journald.conf.d/*.conf",
    "run/systemd/journald.conf.d/*.conf",
)
_REDUCTION = re.compile(r"(?im)^\s*\$RepeatedMsgReduction\s+on\b")
_SETTING = re.compile(r"(?m)^\s*(RateLimitIntervalSec|RateLimitBurst)\s*=\s*(\S*)")
_PLENTY = 100_000
#: Debian 12's instance of postfix@.service that its postfix.service starts; see `_unit`.
_INSTANCE = "postfix@-.service"
#: Logs what containers write, under docker; under podman it is each container's own unit.
_CONTAINERS = "docker.service"


def check(sources: Sequence[str], root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what is in the way.

    Args:
        sources: the logs that are followed.
        root: below which the configuration of the host is.
    """
    if any(not is_journal(source) for source in sources):
        for path in _files(root / "etc", _RSYSLOG):
            if _REDUCTION.search(_read(path)):
                what = f"rsyslog: {path} delays repeated lines ($RepeatedMsgReduction on)"
                hint = "they are counted late: set it to off, then: systemctl restart rsyslog"
                yield Finding("warning", what, hint)
    if any(map(is_journal, sources)) and (limit := _journald_limit(root)):
        what = f"journald drops what a service logs above {limit}, which a flood exceeds"
        unit = _unit() if JOURNAL in sources else _CONTAINERS
        hint = (
            "write [Journal] RateLimitBurst=0 to a new /etc/systemd/journald.conf.d/mail.conf, "
            f"then: systemctl restart systemd-journald; or systemctl edit {unit}: [Service] "
            "LogRateLimitIntervalSec=1s LogRateLimitBurst=1000000, then restart it"
        )
        yield Finding("warning", what, hint)


def _journald_limit(root: Path) -> str:
    """Return the rate above which journald drops Postfix's lines; "" for none."""
    known = {"RateLimitIntervalSec": "30s", "RateLimitBurst": "10000"}  # journald.conf(5)
    for path in _files(root, _JOURNALD):
        known.update({name: value for name, value in _SETTING.findall(_read(path)) if value})
    interval, burst = known["RateLimitIntervalSec"], known["RateLimitBurst"]
    if re.fullmatch(r"0[a-z]*", interval) or burst == "0" or _unit_unlimited():
        return ""
    return f"{burst} lines in {interval}"


def _unit() -> str:
    """Return the unit that Postfix's processes run in, and log as.

    Debian 13 has postfix.service. In Debian 12 that is an empty one-shot unit, which starts the
    instances' units.
    """
    shown = _show("postfix.service", "LoadState", "Type")
    real = shown.get("LoadState") == "loaded" and shown.get("Type") != "oneshot"
    return "postfix.service" if real else _INSTANCE


def _unit_unlimited() -> bool:
    """Return whether the unit that is Postfix has a limit of its own that no flood reaches.

    An interval of 0 there means that there is none of its own (systemd.exec(5)).
    """
    words = _show(_unit(), "LogRateLimitIntervalUSec", "LogRateLimitBurst")
    own = words.get("LogRateLimitIntervalUSec", "0") != "0"
    return own and int(words.get("LogRateLimitBurst", "0")) >= _PLENTY


def _show(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit; none without systemd."""
    try:
        shown = run("systemctl", "show", unit, "-p", ",".join(names))
    except HostError:
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _files(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(root.glob(pattern))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
