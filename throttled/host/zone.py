"""The zone of times that name none. Owns no state."""

import os
from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from throttled.errors import UsageError


def zone(name: str) -> tzinfo:
    """Return a time zone by its name, such as Europe/Berlin.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        hint = "write it as in /usr/share/zoneinfo: Europe/Berlin, UTC"
        raise UsageError(f"no such time zone: {name}", hint) from error


class _Local(ZoneInfo):
    """This host's zone; another process reads it again."""

    def __reduce__(self) -> tuple[Callable[[], tzinfo], tuple[()]]:
        return local_zone, ()


def local_zone() -> tzinfo:
    """Return this host's zone, with its summer time: `TZ`, else /etc/localtime (tzset(3))."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name and not name.startswith("/"):
        try:
            return zone(name)
        except UsageError:  # a rule such as CET-1CEST, which zoneinfo does not read
            return UTC
    try:
        with Path(name or "/etc/localtime").open("rb") as file:
            return _Local.from_file(file)
    except (OSError, ValueError):
        return UTC
