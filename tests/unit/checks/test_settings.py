"""Postfix's own postconf, asked about configurations that stand in our way."""

from pathlib import Path

import pytest

from lab.maincf import settle
from throttled.checks import settings
from throttled.model import Facts, Problem

MASTER = "smtp inet n - {chroot} - - smtpd{more}\npickup unix n - y 60 1 pickup -v\n"


def check(path: Path, main: str, chroot: str = "n", more: str = "") -> list[Problem]:
    queue = f"queue_directory = {path}/queue\n"
    (path / "main.cf").write_text(f"compatibility_level = 3.6\n{queue}{main}\n")
    settle(path / "main.cf")
    (path / "master.cf").write_text(MASTER.format(chroot=chroot, more=more))
    found = settings.check(Facts(config_directories=(str(path),)))
    return [problem for problem in found if problem.what.startswith(str(path))]


def test_an_ordinary_configuration_is_not_in_the_way(tmp_path: Path) -> None:
    assert check(tmp_path, "soft_bounce = no\nmaillog_file = /var/log/x", chroot="y") == []


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ("soft_bounce = yes", "soft_bounce"),
        (
            "unknown_local_recipient_reject_code = 450",
            "unknown_local_recipient_reject_code are 4xx",
        ),
        (
            "maps_rbl_reject_code = 451\naccess_map_reject_code = 450",
            "access_map_reject_code, maps",
        ),
        ("debug_peer_list = example.com", "debug_peer_list"),
        ("syslog_facility = local5", "local5"),
    ],
)
def test_a_setting_that_hides_offences(tmp_path: Path, main: str, words: str) -> None:
    (problem,) = check(tmp_path, main)
    assert words in problem.what
    assert problem.state == "warning"
    assert problem.hint


def test_debug_lines(tmp_path: Path) -> None:
    (problem,) = check(tmp_path, "", more=" -v")
    assert "runs with -v" in problem.what


def test_a_chroot_without_a_way_to_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_DEV_LOG", tmp_path / "log")  # syslogd's own, no link
    (problem,) = check(tmp_path, "", chroot="y")
    assert f"{tmp_path}/queue/dev/log is not there" in problem.what
    (tmp_path / "queue/dev").mkdir(parents=True)
    (tmp_path / "queue/dev/log").touch()
    assert check(tmp_path, "", chroot="y") == []


def test_a_broken_instance_is_left_to_the_facts(tmp_path: Path) -> None:
    assert list(settings.check(Facts(config_directories=(str(tmp_path),))))[-1].state == "fault"
