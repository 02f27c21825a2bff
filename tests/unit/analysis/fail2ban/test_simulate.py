"""Whom fail2ban would ban."""

from datetime import UTC
from pathlib import Path

import pytest

from throttled.analysis.fail2ban import simulate
from throttled.analysis.fail2ban.jails import PERMANENT, Jail
from throttled.analysis.fail2ban.simulate import Banned, Simulation
from throttled.facts import Facts

FAIL = r"^ mx postfix/smtpd\[\d+\]: fail <HOST>"
A, B = "198.51.100.7", "203.0.113.9"


def run(path: Path, jail: Jail, *rows: tuple[int, str], facts: Facts | None = None) -> Simulation:
    log = path / "mail.log"
    log.write_text(
        "".join(
            f"2026-11-22T10:{second // 60:02}:{second % 60:02}+00:00 mx postfix/smtpd[7]: {text}\n"
            for second, text in rows
        )
    )
    made = Simulation([jail], facts or Facts(), UTC)
    seen: list[int] = []
    made.run([str(log)], lambda _path, consumed: seen.append(consumed))
    assert seen
    return made


def test_a_ban_at_maxretry_within_findtime(tmp_path: Path) -> None:
    jail = Jail("postfix", 3, 60.0, 300.0, fails=[FAIL])
    slow = [(n * 60, f"fail {B}") for n in range(5)]
    quick = [(n, f"fail {A}") for n in range(3)]
    during = [(n + 10, f"fail {A}") for n in range(3)]
    after = [(n + 400, f"fail {A}") for n in range(3)]
    rows = sorted([*slow, *quick, *during, *after, (1, f"ok {B}")])
    assert run(tmp_path, jail, *rows).banned == {A: Banned(2, ["postfix"])}


def test_a_permanent_ban(tmp_path: Path) -> None:
    jail = Jail("postfix", 1, 60.0, PERMANENT, fails=[FAIL])
    assert run(tmp_path, jail, (1, f"fail {A}"), (900, f"fail {A}")).banned[A].bans == 1


def test_whom_it_ignores(tmp_path: Path) -> None:
    jail = Jail("postfix", 1, 60.0, 60.0, ["198.51.100.0/24", "host.example.com"], fails=[FAIL])
    rows = [(1, f"fail {A}"), (1, f"fail {B}"), (1, "fail 192.0.2.1")]
    facts = Facts(own=frozenset({"192.0.2.1"}), hostnames=frozenset({"mx"}))
    assert list(run(tmp_path, jail, *rows, facts=facts).banned) == [B]


def test_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_CLIENTS", 1)
    jail = Jail("postfix", 1, 60.0, 60.0, fails=[FAIL])
    assert list(run(tmp_path, jail, (1, f"fail {A}"), (1, f"fail {B}")).banned) == [A]
