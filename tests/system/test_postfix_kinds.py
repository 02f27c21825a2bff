"""`throttled postfix` where a port is not plain: postscreen, a proxy, several instances."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.mail import stock
from lab.mail.maincf import settle
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
    master = lab.mail.config / "master.cf"
    text = master.read_text()
    master.write_text(text + _MASTER.replace("-o", "\n  -o"))
    settle(master)
    lab.mail.command("reload")
    yield lab
    master.write_text(text)
    settle(master)
    lab.mail.command("reload")


def test_postscreen_tls_and_a_proxy_are_asked_in_their_own_way(kinds: Lab, guard: Daemon) -> None:
    before = (kinds.mail.config / "main.cf").read_bytes()
    done = guard.command("postfix", "set", "smtpd_soft_error_limit=12", "--yes")
    assert done.returncode == 0, done.stderr
    assert "smtp, submission, submissions, 2525, 2526 greet clients" in done.stdout
    assert guard.command("postfix", "undo", "--yes").returncode == 0
    assert (kinds.mail.config / "main.cf").read_bytes() == before


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
    change = ("set", "smtpd_soft_error_limit=12", "--yes", "--instance", "postfix-out")
    done = guard.command("postfix", *change)
    assert done.returncode == 0, done.stderr
    assert "2525 greets clients" in done.stdout
    assert "smtpd_soft_error_limit = 12" in host.run("postconf", "-c", "/etc/postfix-out", "-n")
    assert host.run("postconf", "-c", "/etc/postfix", "-n") == before
    undo = ("undo", "--yes", "--instance", "/etc/postfix-out")
    assert guard.command("postfix", *undo).returncode == 0
    log = host.path("var/log/mail.log").read_text()
    assert log.count("reload -- version 3.7.11, configuration /etc/postfix-out") == 2
    assert "configuration /etc/postfix\n" not in log.split("reload -- ", 1)[1].replace(",", "\n")
