"""What `check` says of real configurations, asked of the real postconf."""

from pathlib import Path

import pytest

from lab.mail.maincf import configure
from throttled.facts import Facts
from throttled.health.probes.limits import check
from throttled.host.changes import Change, Setting, journal
from throttled.model import Finding

SOUND = "smtpd_forbid_bare_newline = normalize\nsmtpd_forbid_unauth_pipelining = yes\n"
SMTPD = "smtp inet n - n - - smtpd"


def found(path: Path, main: str, master: str = SMTPD) -> list[Finding]:
    directory = configure(path / "config", SOUND + main, master)
    return list(check(Facts(config_directories=(directory,)), str(path / "throttled.db")))


def test_a_sound_one(tmp_path: Path) -> None:
    (one,) = found(tmp_path, "")
    assert one.state == "ok"


@pytest.mark.parametrize(
    ("main", "what", "hint"),
    [
        ("soft_bounce = yes", "soft_bounce", "throttled postfix set soft_bounce=no"),
        (
            "smtpd_relay_restrictions = permit",
            "open relay: smtp/inet",
            "throttled postfix set smtpd_relay_restrictions=permit_mynetworks,",
        ),
        ("mynetworks = 0.0.0.0/0", "everybody", "take such networks out"),
        (
            "smtpd_client_message_rate_limit = 9\nsmtpd_client_event_limit_exceptions =",
            "webmail",
            "throttled postfix set 'smtpd_client_event_limit_exceptions=$mynetworks'",
        ),
    ],
)
def test_a_warning_with_its_command(tmp_path: Path, main: str, what: str, hint: str) -> None:
    (one,) = found(tmp_path, main)
    assert (one.state, what in one.what, hint in one.hint) == ("warning", True, True), one


def test_of_several_the_instance_is_named(tmp_path: Path) -> None:
    one = configure(tmp_path / "a", SOUND + "soft_bounce = yes", SMTPD)
    two = configure(tmp_path / "b", SOUND + "multi_instance_name = postfix-b", SMTPD)
    broken = str(tmp_path / "none")
    findings = list(check(Facts(config_directories=(one, two, broken))))
    assert [finding.state for finding in findings] == ["warning", "ok"]
    assert findings[0].hint.endswith(f"--instance {one}")


def test_an_unfinished_change(tmp_path: Path) -> None:
    directory = configure(tmp_path / "config", SOUND, SMTPD)
    setting = Setting("smtpd_timeout", None, "9s")
    store = str(tmp_path / "throttled.db")
    journal(store, directory).add(Change(0, 1.0, "root", "begun", [setting], b"", b""))
    findings = list(check(Facts(config_directories=(directory,)), store))
    assert [finding.state for finding in findings] == ["warning", "ok"]
    assert "a change of smtpd_timeout by root is unfinished" in findings[0].what
