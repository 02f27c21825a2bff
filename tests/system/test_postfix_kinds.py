"""`throttled postfix` where a port is not plain: postscreen, a proxy, several instances."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.mail import stock
from lab.mail.asking import BOMBED
from lab.mail.postfix import Lab
from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]

#: postscreen that lets nobody in at once, its smtpd, and a service behind a proxy.
_MASTER = """\
2525 inet n - n - 1 postscreen -o postscreen_access_list= \
-o postscreen_greet_wait=2s -o postscreen_greet_banner=wait
smtpd pass - - n - - smtpd
2526 inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
"""


@pytest.fixture
def kinds(lab: Lab) -> Iterator[Lab]:
    more = _MASTER.replace("-o", "\n  -o")
    with lab.mail.services(lambda master: master.write_text(master.read_text() + more)):
        yield lab


def test_postscreen_tls_and_a_proxy_are_asked_in_their_own_way(kinds: Lab, guard: Daemon) -> None:
    before = (kinds.mail.config / "main.cf").read_bytes()
    done = guard.command("postfix", "set", "smtpd_soft_error_limit=12", "--yes")
    assert done.returncode == 0, done.stderr
    assert "smtp, submission, submissions, 2525, 2526 greet clients" in done.stdout
    assert guard.command("postfix", "undo", "--yes").returncode == 0
    assert (kinds.mail.config / "main.cf").read_bytes() == before


def test_they_are_connected_each_in_its_way(kinds: Lab, guard: Daemon) -> None:
    """The proxied one asks about its clients too; all about recipients."""
    files = [kinds.mail.config / name for name in ("main.cf", "master.cf")]
    before = [path.read_bytes() for path in files]
    guard.configure(BOMBED)
    guard.start()
    done = guard.command("postfix", "connect", "--yes")
    assert done.returncode == 0, done.stderr
    assert "smtp, submission, submissions, 2525, 2526 greet clients" in done.stdout
    tried = [line for line in done.stdout.splitlines() if "was not tried" in line]
    assert [line.split()[0] for line in tried] == ["submission", "submissions"]  # want a login
    lists = guard.server.run("postconf", "-c", str(kinds.mail.config), "-n").stdout
    for name, word in (
        ("client", "$throttled_check"),
        ("data", "$throttled_check"),
        ("recipient", "$throttled_recipient_check"),
    ):
        assert f"smtpd_{name}_restrictions = {word}\n" in lists
    assert '"mailboxes' not in done.stdout
    assert guard.status().answers["pass"] >= 6
    done = guard.command("postfix", "disconnect", "--yes")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in files] == before


@pytest.fixture(scope="module")
def several() -> Iterator[tuple[stock.Host, Daemon]]:
    """Debian's Postfix with a second instance, as postmulti(1) makes one."""
    with (
        netns.pair() as (server, _client),
        stock.host(server, "rsyslog") as host,
        netns.directory("daemon") as home,
    ):
        host.run("postmulti", "-e", "init")
        host.run("postmulti", "-I", "postfix-out", "-G", "mta", "-e", "create")
        out = "/etc/postfix-out"
        host.run("postconf", "-c", out, "-e", "inet_interfaces = all", "authorized_submit_users =")
        host.run("postconf", "-c", out, "-e", "master_service_disable =")
        host.run("postconf", "-c", out, "-MX", "smtp/inet")
        host.run("postconf", "-c", out, "-Me", "2525/inet=2525 inet n - n - - smtpd")
        host.run("postmulti", "-i", "postfix-out", "-e", "enable")
        host.run("mkdir", "-p", "/etc/throttled", "/var/lib/throttled")
        host.path("etc/throttled/throttled.toml").write_text("")
        host.run("postmulti", "-i", "postfix-out", "-p", "start")
        guard = Daemon(server, home, Path("/etc/postfix"))
        guard.within, guard.config = host.within, Path("/etc/throttled/throttled.toml")
        yield host, guard
        host.run("postmulti", "-i", "postfix-out", "-p", "stop")


def test_several_instances_are_shown_and_set_apart(several: tuple[stock.Host, Daemon]) -> None:
    host, guard = several
    shown = guard.ask("postfix")["instances"]
    assert [one["directory"] for one in shown] == ["/etc/postfix", "/etc/postfix-out"]
    done = guard.command("postfix", "set", "smtpd_soft_error_limit=12", "--yes")
    assert done.returncode == 2
    assert "postfix-out (/etc/postfix-out)" in done.stderr
    before = host.run("postconf", "-c", "/etc/postfix", "-n")
    logged = len(host.path("var/log/mail.log").read_text())
    change = ("set", "smtpd_soft_error_limit=12", "--yes", "--instance", "postfix-out")
    done = guard.command("postfix", *change)
    assert done.returncode == 0, done.stderr
    assert "2525 greets clients" in done.stdout
    assert "smtpd_soft_error_limit = 12" in host.run("postconf", "-c", "/etc/postfix-out", "-n")
    assert host.run("postconf", "-c", "/etc/postfix", "-n") == before
    undo = ("undo", "--yes", "--instance", "/etc/postfix-out")
    assert guard.command("postfix", *undo).returncode == 0
    log = host.path("var/log/mail.log").read_text()[logged:]
    assert len(re.findall("reload -- version [0-9.]+, configuration /etc/postfix-out", log)) == 2
    assert "configuration /etc/postfix\n" not in log.split("reload -- ", 1)[1].replace(",", "\n")


def test_several_instances_are_connected(several: tuple[stock.Host, Daemon]) -> None:
    host, guard = several
    before = {d: host.run("postconf", "-c", d, "-n") for d in ("/etc/postfix", "/etc/postfix-out")}
    host.run("mkdir", "-p", "/run/throttled")
    host.path("etc/throttled/throttled.toml").write_text(BOMBED)
    guard.start()
    try:
        done = guard.command("postfix", "connect", "--yes")
        assert done.returncode == 0, done.stderr
        for directory in before:
            assert f"{directory}:\n" in done.stdout
            found = host.run("postconf", "-c", directory, "-n")
            assert "smtpd_data_restrictions = $throttled_check\n" in found
            assert "smtpd_recipient_restrictions = $throttled_recipient_check\n" in found
        again = guard.command("postfix", "connect", "--yes")
        assert again.stdout.count("nothing to change") == len(before)
        found = guard.command("check", "--no-visit").stdout
        assert found.count("Postfix asks about each message and each recipient") == len(before)
        one = guard.command("postfix", "disconnect", "--yes", "--instance", "postfix-out")
        assert one.returncode == 0, one.stderr
        now = {directory: host.run("postconf", "-c", directory, "-n") for directory in before}
        assert now["/etc/postfix-out"] == before["/etc/postfix-out"]
        assert now["/etc/postfix"] != before["/etc/postfix"]
        assert guard.command("postfix", "disconnect", "--yes").returncode == 0
        assert host.run("postconf", "-c", "/etc/postfix", "-n") == before["/etc/postfix"]
    finally:
        guard.stop()
        host.path("etc/throttled/throttled.toml").write_text("")
