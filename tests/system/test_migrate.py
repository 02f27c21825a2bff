"""`throttled migrate fail2ban` with Debian's fail2ban: its configuration, database and filters."""

import json
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.mail.postfix import Lab
from lab.network.netns import until
from lab.programs import fail2ban

pytestmark = [pytest.mark.root, pytest.mark.postfix]

LOCAL = """
[DEFAULT]
banaction = test
banaction_allports = test
ignoreip = 127.0.0.1/8 ::1 198.51.100.0/24
maxretry = 5
bantime = 1h
backend = polling
[sshd]
enabled = true
logpath = {log}
[postfix]
enabled = true
mode = more
logpath = {log}
[postfix-sasl]
enabled = true
maxretry = 3
bantime = 1w
logpath = {log}
[dovecot]
enabled = true
bantime = -1
logpath = {log}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration of Debian's fail2ban below the test's own directory."""
    log = tmp_path / "empty.log"
    log.touch()
    conf = fail2ban.configured(tmp_path / "fail2ban", LOCAL.format(log=log))
    (conf / "action.d" / "test.conf").write_text("[Definition]\nactionban =\nactionunban =\n")
    (conf / "fail2ban.local").write_text(
        f"[DEFAULT]\nlogtarget = {tmp_path}/f.log\nsocket = {tmp_path}/f.sock\n"
        f"pidfile = {tmp_path}/f.pid\ndbfile = {tmp_path}/f.sqlite3\n"
    )
    return conf


@pytest.fixture
def banned(lab: Lab, conf: Path) -> Path:
    """The same, with bans that a running fail2ban made."""
    client = ("fail2ban-client", "-c", str(conf))
    server = lab.server.popen(["fail2ban-server", "-f", *client[1:], "start"])
    try:
        ping = partial(subprocess.run, [*client, "ping"], check=False, capture_output=True)
        until(lambda: server.poll() is not None or not ping().returncode, "fail2ban answers", 60)
        assert server.poll() is None
        for jail, ip in (
            ("postfix", "203.0.113.7"),
            ("postfix-sasl", "203.0.113.7"),
            ("postfix-sasl", "2001:db8::7"),
            ("dovecot", "203.0.113.9"),
            ("sshd", "203.0.113.10"),
        ):
            subprocess.run([*client, "set", jail, "banip", ip], check=True, capture_output=True)
    finally:
        subprocess.run([*client, "stop"], check=False, capture_output=True)
        server.wait(30)
    return conf


def log_of(path: Path) -> Path:
    """Write a log: a customer that mistypes its password, and an attacker."""
    stamp = time.strftime("%b %e %H:%M")
    lines = []

    def add(second: int, text: str, pid: int = 7) -> None:
        what = f"mx postfix/submission/smtpd[{pid}]: {text}\n"
        lines.append((second, f"{stamp}:{second:02} {what}"))

    for n in range(4):
        failed = "SASL LOGIN authentication failed: UGFzc3dvcmQ6"
        add(n, f"warning: unknown[203.0.113.50]: {failed}")
    add(5, "4F1A2B3C4D: client=unknown[203.0.113.50], sasl_method=LOGIN, sasl_username=bob")
    for n in range(10, 50):
        add(n, "warning: non-SMTP command from unknown[203.0.113.60]: GET /", pid=n)
    path.write_text("".join(line for _, line in sorted(lines)))
    return path


def test_jails_bans_and_both_on_the_same_log(guard: Daemon, banned: Path, tmp_path: Path) -> None:
    log = log_of(tmp_path / "mail.log")
    words = ("migrate", "fail2ban", "--directory", str(banned))
    done = guard.command(*words, str(log))
    assert done.returncode == 0, done.stderr
    assert "fail2ban would have banned 1 client, 1 of which delivered mail" in done.stdout
    found = guard.ask(*words, str(log))
    assert found["jails"]["sshd"] == "keep it: not about mail"
    assert "disable it" in found["jails"]["postfix"]
    rows = {(row["subject"], row["jail"]): row["until"] for row in found["bans"]}
    assert set(rows) == {
        ("203.0.113.7", "postfix-sasl"),
        ("2001:db8::7", "postfix-sasl"),
        ("203.0.113.9", "dovecot"),
    }
    assert rows["203.0.113.9", "dovecot"] is None
    both = found["comparison"]
    assert both["fail2ban"] == {"banned": 1, "good": ["203.0.113.50"]}
    assert both["throttled"] == {"banned": 1, "good": []}
    assert (both["both"], both["only_fail2ban"]) == (0, 1)
    listed = tmp_path / "bans.txt"
    listed.write_text(guard.command(*words, "--only", "bans").stdout)
    beside = guard.config.with_suffix(".d")
    beside.mkdir()
    (beside / "fail2ban.toml").write_text(guard.command(*words, "--only", "toml").stdout)
    guard.start()
    settings = json.loads(guard.command("config", "--json").stdout)
    assert settings["limits"]["auth"]["soft"] == 2
    assert settings["protect"]["networks"] == ["198.51.100.0/24"]
    done = guard.command("import", str(listed))
    assert (done.returncode, done.stdout) == (0, "3 done, 0 skipped\n")
    (row, *_) = guard.ask("list", "203.0.113.9")["rows"]
    assert row["why"] == "fail2ban dovecot (permanent)"
