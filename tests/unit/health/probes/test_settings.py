"""Postfix's own postconf, asked about configurations that stand in our way."""

from pathlib import Path

import pytest

from lab.mail.maincf import settle
from throttled.facts import Facts
from throttled.health.probes import settings
from throttled.model import Finding

STRICT = "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination"
STOCK = "4xx instead of 5xx by defer_unauth_destination in smtpd_relay_restrictions"
MASTER = "smtp inet n - {chroot} - - smtpd{more}\npickup unix n - y 60 1 pickup -v\n"


def check(path: Path, main: str, chroot: str = "n", more: str = "") -> list[Finding]:
    queue = f"queue_directory = {path}/queue\n"
    (path / "main.cf").write_text(f"compatibility_level = 3.6\n{queue}{main}\n")
    settle(path / "main.cf")
    (path / "master.cf").write_text(MASTER.format(chroot=chroot, more=more))
    found = settings.check(Facts(config_directories=(str(path),)))
    return [finding for finding in found if finding.what.startswith(str(path))]


def test_an_ordinary_configuration_is_not_in_the_way(tmp_path: Path) -> None:
    (finding,) = check(tmp_path, "soft_bounce = no\nmaillog_file = /var/log/x", chroot="y")
    assert finding == Finding("ok", f"{tmp_path}: {STOCK}: such refusals are counted too")


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ("debug_peer_list = example.com", "debug_peer_list"),
        ("syslog_facility = local5", "local5"),
    ],
)
def test_a_setting_that_hides_offences(tmp_path: Path, main: str, words: str) -> None:
    (finding,) = check(tmp_path, f"{STRICT}\n{main}")
    assert words in finding.what
    assert finding.state == "warning"
    assert finding.hint


@pytest.mark.parametrize(
    ("main", "more", "words"),
    [
        (f"{STRICT}\nsoft_bounce = yes", "", "soft_bounce = yes"),
        (
            "maps_rbl_reject_code = 451\nunknown_local_recipient_reject_code = 450",
            "",
            f"{STOCK}, maps_rbl_reject_code = 451, unknown_local_recipient_reject_code = 450",
        ),
        (
            (
                f"{STRICT}\nsmtpd_recipient_restrictions = mine\nsmtpd_restriction_classes = mine\n"
                "mine = permit_mynetworks, defer_unauth_destination"
            ),
            "",
            "4xx instead of 5xx by defer_unauth_destination in mine",
        ),
        (
            STRICT,
            " -o smtpd_relay_restrictions=defer_unauth_destination",
            "defer_unauth_destination in smtp/inet/smtpd_relay_restrictions",
        ),
    ],
)
def test_what_answers_a_permanent_refusal_with_4xx_is_named(
    tmp_path: Path, main: str, more: str, words: str
) -> None:
    (finding,) = check(tmp_path, main, more=more)
    assert finding.what.endswith(f"{words}: such refusals are counted too")
    assert (finding.state, finding.hint) == ("ok", "")


def test_restrictions_that_refuse_nothing_are_named(tmp_path: Path) -> None:
    recipients = "smtpd_recipient_restrictions = warn_if_reject reject_rbl_client x.example.com"
    (finding,) = check(tmp_path, f"{STRICT}\n{recipients}")
    assert (
        "warn_if_reject in smtpd_recipient_restrictions: requests that are not refused"
        in finding.what
    )
    assert finding.state == "ok"


def test_debug_lines(tmp_path: Path) -> None:
    (finding,) = check(tmp_path, STRICT, more=" -v")
    assert "runs with -v" in finding.what


def test_a_chroot_without_a_way_to_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_DEV_LOG", tmp_path / "log")  # syslogd's own, no link
    (finding,) = check(tmp_path, STRICT, chroot="y")
    assert f"{tmp_path}/queue/dev/log is not there" in finding.what
    (tmp_path / "queue/dev").mkdir(parents=True)
    (tmp_path / "queue/dev/log").touch()
    assert check(tmp_path, STRICT, chroot="y") == []


def test_a_broken_instance_is_left_to_the_facts(tmp_path: Path) -> None:
    assert list(settings.check(Facts(config_directories=(str(tmp_path),))))[-1].state == "fault"


def test_what_postconf_prints_is_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "postconf"
    program.write_text("#!/bin/sh\necho ok\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = list(settings.check(Facts(config_directories=(str(tmp_path),))))
    assert [finding.state for finding in found] == ["ok", "ok", "fault"]  # no service is known
