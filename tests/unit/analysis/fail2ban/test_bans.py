"""Bans in fail2ban's databases of both forms; one that fail2ban wrote is in tests/system."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from throttled.analysis.fail2ban import bans
from throttled.analysis.fail2ban.bans import OldBan
from throttled.errors import SourceError

NOW = 1_800_000_000.0


def database(path: Path, *statements: str) -> str:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return str(path)


def test_the_form_with_lengths(tmp_path: Path) -> None:
    rows = [
        ("198.51.100.7", "postfix", NOW - 60, 600),
        ("198.51.100.7", "postfix-sasl", NOW - 60, 900),
        ("198.51.100.8", "postfix", NOW - 600, 600),
        ("198.51.100.9", "postfix", NOW - 600, -1),
        ("198.51.100.9", "postfix-sasl", NOW, 60),
        ("198.51.100.10", "sshd", NOW, 600),
        ("bob", "postfix", NOW, 600),
        ("2001:db8::/64", "postfix", NOW, 600),
    ]
    path = database(
        tmp_path / "f.sqlite3",
        "CREATE TABLE bans (jail, ip, timeofban, bantime, bancount, data)",
        "CREATE TABLE bips (ip, jail, timeofban, bantime, bancount, data)",
        *(f"INSERT INTO bips VALUES ('{i}', '{j}', {t}, {b}, 1, '')" for i, j, t, b in rows),
    )
    assert bans.read(path, {"postfix", "postfix-sasl"}, {}, NOW) == [
        OldBan("198.51.100.9", "postfix", NOW - 600, None),
        OldBan("2001:db8::/64", "postfix", NOW, NOW + 600),
        OldBan("198.51.100.7", "postfix-sasl", NOW - 60, NOW + 840),
    ]


def test_bans_of_other_jails_leave_the_same_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "_MOST", 2)
    rows = [(f"198.51.100.{n}", "sshd" if n < 3 else "postfix") for n in range(5)]
    path = database(
        tmp_path / "f.sqlite3",
        "CREATE TABLE bips (ip, jail, timeofban, bantime, bancount, data)",
        *(f"INSERT INTO bips VALUES ('{ip}', '{jail}', {NOW}, 60, 1, '')" for ip, jail in rows),
    )
    assert len(bans.read(path, ["postfix"], {}, NOW)) == 2


def test_the_form_before_that(tmp_path: Path) -> None:
    path = database(
        tmp_path / "f.sqlite3",
        "CREATE TABLE bans (jail, ip, timeofban, data)",
        f"INSERT INTO bans VALUES ('postfix', '198.51.100.7', {NOW - 700}, '')",
        f"INSERT INTO bans VALUES ('postfix', '198.51.100.7', {NOW - 60}, '')",
        f"INSERT INTO bans VALUES ('postfix', '198.51.100.8', {NOW - 700}, '')",
    )
    found = bans.read(path, {"postfix"}, {"postfix": 600.0}, NOW)
    assert found == [OldBan("198.51.100.7", "postfix", NOW - 60, NOW + 540)]


def test_what_is_no_database_of_fail2ban(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        bans.read(str(tmp_path / "none"), (), {}, NOW)
    assert not (tmp_path / "none").exists()
    (tmp_path / "text").write_text("no database, but long enough for a header " * 9)
    with pytest.raises(SourceError, match="is not a database"):
        bans.read(str(tmp_path / "text"), (), {}, NOW)
    with pytest.raises(SourceError, match="is no database of fail2ban"):
        bans.read(database(tmp_path / "e", "CREATE TABLE x (y)"), (), {}, NOW)
