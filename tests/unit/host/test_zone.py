"""The zone of times that name none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from throttled.errors import UsageError
from throttled.host.zone import local_zone, zone

SUMMER = datetime(2026, 7, 1)  # noqa: DTZ001 - the zone is what is tested
WINTER = datetime(2026, 1, 1)  # noqa: DTZ001 - as above


def test_a_zone_by_its_name() -> None:
    assert zone("Europe/Berlin").utcoffset(SUMMER) == timedelta(hours=2)
    for name in ("Europe/Atlantis", "", "../etc/passwd", "/etc/passwd", "a\0b"):
        with pytest.raises(UsageError, match="no such time zone"):
            zone(name)


def test_this_hosts_zone_knows_its_summer_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Europe/Berlin", ":Europe/Berlin", "/usr/share/zoneinfo/Europe/Berlin"):
        monkeypatch.setenv("TZ", name)
        assert local_zone().utcoffset(SUMMER) == timedelta(hours=2)
        assert local_zone().utcoffset(WINTER) == timedelta(hours=1)


def test_without_tz_the_hosts_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    local = datetime.now().astimezone()
    if not Path("/etc/localtime").exists():
        assert local_zone() is UTC
    assert local_zone().utcoffset(local.replace(tzinfo=None)) == local.utcoffset()


def test_what_cannot_be_read_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CET-1CEST,M3.5.0,M10.5.0/3", "/nonexistent", "/etc/hostname"):
        monkeypatch.setenv("TZ", name)
        assert local_zone() is UTC
