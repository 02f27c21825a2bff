"""`throttled migrate fail2ban` where something is missing; with fail2ban: tests/system."""

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("_without_fail2ban")


@pytest.fixture
def _without_fail2ban(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "fail2ban"
    (path / "jail.d").mkdir(parents=True)
    (path / "jail.conf").write_text("[DEFAULT]\nbantime = 10m\n[postfix]\n[sshd]\n")
    (path / "jail.d" / "z.conf").write_text("[sshd]\nenabled = true\nmaxretry = 9\n")
    (path / "jail.local").write_text("[postfix]\nenabled = true\nmaxretry = 3\n")
    (path / "jail.d" / "a.local").write_text("[postfix]\nmaxretry = 7\n")
    return path


def test_its_files_are_read_in_its_order(cli: "Cli", conf: Path) -> None:
    ended = cli("migrate", "fail2ban", "--directory", str(conf), "--json")
    found = ended.json()
    assert ended.code == 0
    assert set(found["jails"]) == {"postfix", "sshd"}
    assert "maxretry 7," in found["toml"]
    assert found["comparison"] is None
    assert any("no filter: 'postfix'; nothing is compared" in note for note in found["notes"])
    assert "fail2ban-client cannot be used" in found["notes"][0]


def test_what_is_printed(cli: "Cli", conf: Path, tmp_path: Path) -> None:
    words = ("migrate", "fail2ban", "--directory", str(conf), "--database", str(tmp_path / "no"))
    ended = cli(*words)
    assert "  postfix  replaced by [limits.errors]: disable it in fail2ban" in ended.out
    assert "Active bans of mail jails: not known" in ended.out
    assert ended.err.count("throttled: ") == 3
    ended = cli(*words, "--only", "bans")  # | throttled import -
    assert (ended.code, ended.out, "cannot read" in ended.err) == (1, "", True)
    assert cli(*words, "--json").json()["bans"] is None
    assert cli(*words, "--only", "toml").out.startswith("# From fail2ban's jails")
    (conf / "jail.local").unlink()
    ended = cli(*words)
    assert "  sshd  keep it: not about mail" in ended.out
    assert "No jail for Postfix's log is enabled" in ended.out


def test_what_cannot_be_read(cli: "Cli", conf: Path, tmp_path: Path) -> None:
    ended = cli("migrate", "fail2ban", "--directory", str(tmp_path / "none"))
    assert (ended.code, "is no directory" in ended.err) == (2, True)
    (conf / "jail.conf").write_text("nonsense")
    ended = cli("migrate", "fail2ban", "--directory", str(conf))
    assert (ended.code, "jail.conf: File contains no section headers" in ended.err) == (2, True)
    (conf / "jail.conf").write_text("[postfix]\nenabled = true\nbantime = soon\n")
    ended = cli("migrate", "fail2ban", "--directory", str(conf))
    assert (ended.code, "jail postfix: not a duration of fail2ban" in ended.err) == (2, True)


def test_without_fail2ban_its_filters_are_read(cli: "Cli", conf: Path, tmp_path: Path) -> None:
    for name in ("jail.conf", "paths-debian.conf", "paths-common.conf", "filter.d"):
        subprocess.run(["/bin/cp", "-r", f"/etc/fail2ban/{name}", conf], check=True)
    log = tmp_path / "mail.log"
    what = "NOQUEUE: reject: RCPT from unknown[203.0.113.7]: 454 4.7.1 <x>: Relay access denied"
    stamp = time.strftime("%b %e %H:%M")
    log.write_text("".join(f"{stamp}:{n:02} mx postfix/smtpd[7]: {what}\n" for n in range(9)))
    words = ("migrate", "fail2ban", "--directory", str(conf), str(log), "--json")
    found = cli(*words).json()
    assert found["comparison"]["fail2ban"] == {"banned": 1, "good": []}
    assert set(found["jails"]) == {"postfix", "sshd"}
    ended = cli("migrate", "fail2ban", "--directory", str(conf), "-")
    assert (ended.code, "the log is read twice" in ended.err) == (2, True)
