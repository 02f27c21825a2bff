"""Findings about overload."""

import time

import pytest
from msgspec.structs import replace

from throttled.control.overload import NOBODY, READING, OverloadStatus
from throttled.health.overload import findings
from throttled.settings import OverloadMode

CALM = OverloadStatus("mx", "enforce", "bpf", 80, 3, 500, 0.0, 0.0, 9, 9, 0, 0, 0, 0)
SINCE = time.mktime((2026, 11, 29, 15, 0, 0, 0, 0, -1))


def test_calm_is_no_finding() -> None:
    assert list(findings([CALM, replace(CALM, scope="submission", mode="report")])) == []


_WAIT = "wait behind them for a process of Postfix"


@pytest.mark.parametrize(
    ("mode", "why", "verb", "others", "hint"),
    [
        ("enforce", "", "are", "are not", "nothing needs to be done"),
        ("report", "", "would be", _WAIT, 'to delay them: [overload] mx = "enforce"'),
        ("enforce", NOBODY, "would be", _WAIT, "everybody is admitted: no client is known good"),
    ],
)
def test_who_is_delayed_and_since_when(
    mode: OverloadMode, why: str, verb: str, others: str, hint: str
) -> None:
    (found,) = findings([replace(CALM, mode=mode, since=SINCE, why=why)])
    assert found.hint.startswith(hint)
    assert found.key == "overload-mx"
    assert found.what == (
        f"strangers {verb} delayed in mx since 2026-11-29 15:00:00: more than 80 connections; "
        f"known good clients {others}"
    )


def test_that_nothing_can_delay_them() -> None:
    (found,) = findings([replace(CALM, means="", why="no BPF here")])
    assert (found.key, found.state) == ("admission-mx", "warning")
    assert "everybody is admitted: no BPF here" in found.what


@pytest.mark.parametrize(
    "row",
    [
        replace(CALM, why=READING),
        replace(CALM, why=NOBODY),
        replace(CALM, cap=0, why="Postfix has no process limit here"),
        replace(CALM, mode="report", why="no BPF here"),
    ],
)
def test_what_is_no_finding(row: OverloadStatus) -> None:
    assert list(findings([row])) == []
