"""The configuration of rsyslog and journald, in a root of the test's own."""

from pathlib import Path

import pytest

from throttled.errors import HostError
from throttled.health.probes import loggers
from throttled.log_paths import JOURNAL, container_journal


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_repeated_lines_suppressed(tmp_path: Path) -> None:
    _write(tmp_path, "etc/rsyslog.conf", "# $RepeatedMsgReduction on\n")
    assert list(loggers.check(["/var/log/mail.log"], tmp_path)) == []
    _write(tmp_path, "etc/rsyslog.d/50.conf", "x\n $repeatedmsgreduction ON\n")
    (finding,) = loggers.check(["/var/log/mail.log"], tmp_path)
    assert "50.conf" in finding.what
    assert next(loggers.check([JOURNAL], tmp_path)).what.startswith("journald")
    (finding,) = loggers.check([container_journal("mail")], tmp_path)
    assert "systemctl edit docker.service" in finding.hint


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "10000 lines in 30s"),
        ({"etc/systemd/journald.conf": "[Journal]\n#RateLimitBurst=0\n"}, "10000 lines in 30s"),
        ({"etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=500\n"}, "500 lines in 30s"),
        ({"etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=0\n"}, ""),
        ({"etc/systemd/journald.conf": "[Journal]\nRateLimitIntervalSec=0s\n"}, ""),
        (
            {
                "usr/lib/systemd/journald.conf.d/a.conf": "RateLimitIntervalSec=0\n",
                "etc/systemd/journald.conf.d/a.conf": "RateLimitIntervalSec=10s\n",
            },
            "10000 lines in 10s",
        ),
    ],
)
def test_what_journald_drops(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        _write(tmp_path, name, text)
    findings = list(loggers.check([JOURNAL], tmp_path))
    assert [expected in finding.what for finding in findings] == ([True] if expected else [])


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("LogRateLimitIntervalUSec=0\nLogRateLimitBurst=0\n", 1),
        ("LogRateLimitIntervalUSec=1s\nLogRateLimitBurst=1000000\n", 0),
        ("LogRateLimitIntervalUSec=1s\nLogRateLimitBurst=10\n", 1),
    ],
)
def test_a_limit_of_the_units_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, expected: int
) -> None:
    """systemd is not the init here: its answer is put in its place."""
    monkeypatch.setattr(loggers, "run", lambda *_command: shown)
    assert len(list(loggers.check([JOURNAL], tmp_path))) == expected


@pytest.mark.parametrize(
    ("shown", "unit"),
    [
        ("LoadState=loaded\nType=forking\n", "postfix.service"),  # Debian 13
        ("LoadState=loaded\nType=oneshot\n", "postfix@-.service"),  # Debian 12
        ("LoadState=not-found\nType=simple\n", "postfix@-.service"),
    ],
)
def test_the_unit_of_this_release_is_named_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, unit: str
) -> None:
    limited = {unit: "LogRateLimitIntervalUSec=1s\nLogRateLimitBurst=10\n"}

    def systemctl(*command: str) -> str:
        return shown if "LoadState" in command[4] else limited[command[2]]

    monkeypatch.setattr(loggers, "run", systemctl)
    (finding,) = loggers.check([JOURNAL], tmp_path)
    assert f"systemctl edit {unit}:" in finding.hint
    limited[unit] = "LogRateLimitIntervalUSec=1s\nLogRateLimitBurst=1000000\n"
    assert list(loggers.check([JOURNAL], tmp_path)) == []


def test_without_systemd_debians_older_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_command: str) -> str:
        raise HostError("systemctl cannot be run")

    monkeypatch.setattr(loggers, "run", missing)
    (finding,) = loggers.check([JOURNAL], tmp_path)
    assert "postfix@-.service" in finding.hint
