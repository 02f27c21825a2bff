"""`throttled postfix connect` and `disconnect` on a real Postfix, while mail flows."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.mail.asking import mail_flows, send
from lab.mail.maincf import settle
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.maincf.asking import CHECK

pytestmark = [pytest.mark.root, pytest.mark.postfix]


#: The command, killed after main.cf and before master.cf.
_KILLED = """\
import os, signal, sys
import throttled.cli.main
from throttled.host import reverting
from throttled.operator import maincf
def killed(*_):
    for pid in ({who},):
        os.kill(pid, signal.SIGKILL)
original, reverting.replace = reverting.replace, killed
recover = maincf.recover
def recovering(target):
    reverting.replace = original
    return recover(target)
maincf.recover = recovering
sys.argv = ["throttled", "--config", {toml!r}, "postfix", "connect", "--yes"]
throttled.cli.main.main()
"""


class Site:
    """A Postfix, a daemon, and the command."""

    def __init__(self, lab: Lab, guard: Daemon) -> None:
        self.lab, self.guard = lab, guard
        self.main, self.master = (lab.mail.config / name for name in ("main.cf", "master.cf"))

    def run(self, *argv: str) -> tuple[int, str]:
        done = self.guard.command("postfix", *argv, "--yes")
        return done.returncode, done.stdout + done.stderr

    def postconf(self, *argv: str) -> str:
        directory = str(self.lab.mail.config)
        text = self.lab.server.run("postconf", "-c", directory, *argv).stdout.strip()
        for path in (self.main, self.master):
            settle(path)
        return text

    def files(self) -> tuple[bytes, bytes]:
        return self.main.read_bytes(), self.master.read_bytes()

    def asks(self) -> str:
        """Return what `check` finds of it."""
        findings = json.loads(self.guard.command("check", "--no-visit", "--json").stdout)
        lines = [f["state"] + ": " + f["what"] for f in findings["problems"]]
        return "\n".join(line for line in lines if "ask" in line or "throttled_check" in line)

    def working(self) -> bool:
        """Return whether a process of a command is left."""
        lines = [Path(f"/proc/{pid}/cmdline") for pid in self.lab.server.pids()]
        texts = [path.read_bytes() for path in lines if path.exists()]
        return any(b"-c\0" in text and str(self.guard.config).encode() in text for text in texts)

    def reload(self) -> None:
        self.lab.mail.command("reload")


@pytest.fixture
def site(lab: Lab, guard: Daemon) -> Iterator[Site]:
    guard.start()
    with lab.mail.restored():
        yield Site(lab, guard)
        mail_flows(lab)


def test_connected_postfix_asks_and_disconnected_is_as_before(site: Site) -> None:
    before = site.files()
    code, said = site.run("connect")
    assert code == 0, said
    assert site.postconf("-h", "throttled_check") == CHECK.value
    assert site.postconf("-xh", "smtpd_data_restrictions").endswith(CHECK.value)
    assert "ok: " in site.asks()
    text = site.files()
    code, said = site.run("connect")
    assert (code, "nothing to change" in said) == (0, True)
    assert site.files() == text
    mail_flows(site.lab)
    assert site.guard.command("ban", "account:alice").returncode == 0
    code, said = site.run("disconnect")
    assert code == 0, said
    assert site.files() == before
    netns.until(
        lambda: site.guard.command("ban", "account:bob").returncode == 1, "it cannot be banned"
    )
    assert site.guard.command("unban", "account:alice").returncode == 0
    code, said = site.run("disconnect")
    assert (code, "nothing to change" in said) == (0, True)


def test_undo_of_a_limit_leaves_it_connected(site: Site) -> None:
    assert site.run("connect")[0] == 0
    code, said = site.run("undo")
    assert (code, "nothing to undo" in said) == (1, True)


@pytest.mark.parametrize("who", ["os.getpid()", "os.getppid(), os.getpid()"])
def test_a_kill_between_the_two_files(site: Site, who: str) -> None:
    site.postconf("-P", "smtp/inet/smtpd_data_restrictions=")
    site.reload()
    before = site.files()
    script = _KILLED.format(who=who, toml=str(site.guard.config))
    site.lab.server.run(sys.executable, "-c", script, check=False)
    netns.until(lambda: not site.working(), "the command has ended")
    mail_flows(site.lab)
    code, said = site.run("disconnect")
    assert code == 0, said
    assert site.files() == before


def test_no_mail_is_lost_meanwhile(site: Site) -> None:
    accepted: list[float] = []
    sender = threading.Thread(target=lambda: accepted.extend(send(site.lab, 200, sessions=True)))
    sender.start()
    codes = [site.run(action)[0] for action in ("connect", "disconnect", "connect")]
    sender.join()
    assert codes == [0, 0, 0]
    assert len(accepted) == 200


def test_a_service_that_overrides_the_list_asks_too(site: Site) -> None:
    """In master.cf, and before what permits; `check` finds those that hide it."""
    site.postconf("-P", "smtp/inet/smtpd_data_restrictions=reject_unauth_pipelining,permit")
    site.postconf("-P", "submission/inet/smtpd_data_restrictions=")
    site.postconf("-e", "smtpd_data_restrictions = permit_mynetworks, reject_unauth_pipelining")
    site.reload()
    before = site.files()
    code, said = site.run("connect")
    assert code == 0, said
    found = site.postconf("-P")
    assert "= reject_unauth_pipelining,$throttled_check,permit" in found
    assert "submission/inet/smtpd_data_restrictions = $throttled_check" in found
    assert site.postconf("-h", "smtpd_data_restrictions").startswith("$throttled_check, permit_")
    assert "ok: " in site.asks()
    assert site.run("connect")[1].startswith("nothing to change")
    for value in ("permit,$throttled_check", ""):
        site.postconf("-P", f"smtp/inet/smtpd_data_restrictions={value}")
        assert "smtp does not ask: its -o smtpd_data_restrictions hides the check" in site.asks()
    code, said = site.run("connect")
    assert code == 0, said
    assert "smtp/inet/smtpd_data_restrictions = $throttled_check" in site.postconf("-P")
    code, said = site.run("disconnect")
    assert code == 0, said
    assert "throttled" not in site.main.read_text() + site.master.read_text()
    assert before != site.files()  # another program's change stays


def test_what_does_not_ask_is_reverted(site: Site) -> None:
    """A table that permits hides the check from every message."""
    table = site.lab.mail.config / "everybody"
    table.write_text("/^/ OK\n")
    value = f"smtpd_data_restrictions = check_client_access regexp:{table}"
    site.postconf("-e", value)
    site.reload()
    before = site.files()
    code, said = site.run("connect")
    assert (code, "took a message without asking" in said) == (1, True)
    assert site.files() == before


def test_it_is_refused_without_a_daemon(site: Site) -> None:
    before = site.files()
    site.guard.stop()
    code, said = site.run("connect")
    assert (code, "the daemon does not answer" in said) == (1, True)
    assert site.files() == before


def test_disconnect_works_without_daemon_and_postfix(site: Site) -> None:
    before = site.files()
    assert site.run("connect")[0] == 0
    site.guard.stop()
    with site.lab.mail.stopped():
        code, said = site.run("disconnect")
    assert code == 0, said
    assert site.files() == before


def test_a_value_that_was_changed_is_set_again(site: Site) -> None:
    """Also a check that was written out where it stands."""
    trap = "check_policy_service { unix:throttled/policy, try_limit=1 }"
    site.postconf("-e", f"throttled_check = {trap}", f"smtpd_data_restrictions = {trap}")
    assert "throttled_check is not as throttled sets it" in site.asks()
    code, said = site.run("connect")
    assert code == 0, said
    assert site.postconf("-h", "smtpd_data_restrictions") == "$throttled_check"
    assert site.postconf("-h", "throttled_check") == CHECK.value


def test_a_symbolic_link_is_refused(site: Site, tmp_path: Path) -> None:
    real = tmp_path / "main.cf"
    site.main.rename(real)
    site.main.symlink_to(real)
    code, said = site.run("connect")
    assert (code, "is a symbolic link" in said) == (1, True)
