"""What the daemon says of a chain that does not work: each time a real one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import BinaryIO

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import V4, banned, has
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4
from throttled.model import Finding

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def finding(guard: Daemon, key: str) -> Finding | None:
    return next((p for p in guard.status().health if p.key == key), None)


@pytest.mark.long
def test_a_banned_client_that_comes_by_an_unfiltered_port(lab: Lab, guard: Daemon) -> None:
    guard.configure("[firewall.ports]\nmx = [2525]\nsubmission = [465, 587]\n")
    guard.start()
    bot = Bot(lab.client, "garbage", 60.0, [V4])
    try:
        netns.until(partial(has, guard, V4, "ban", "mx"), "it is banned, for what that is worth")
        netns.until(lambda: finding(guard, "banned-but-seen"), "it is seen again")
    finally:
        bot.end()
    found = finding(guard, "banned-but-seen")
    assert found
    assert found.what.startswith(f"{V4} is banned in mx, but began ")
    assert found.hint == "port 25 is not filtered for mx: add it to [firewall.ports]"
    assert V4 in guard.command("status").stdout


@pytest.mark.long
def test_a_log_that_is_not_where_postfix_writes(lab: Lab, guard: Daemon) -> None:
    elsewhere = guard.home / "elsewhere.log"
    elsewhere.touch()
    # The sensor would throttle the flood without the log, and so end it.
    more = "[limits.connections]\nenabled = false\n"
    guard.configure(f'[log]\nfiles = ["{elsewhere}"]\n{more}')
    guard.start()
    bot = Bot(lab.client, "flood", 60.0, [V4])
    try:
        netns.until(lambda: finding(guard, "log-silent"), "it is silent")
    finally:
        bot.end()
    assert "Postfix logged nothing for" in guard.command("status").stdout
    with elsewhere.open("a") as log:
        log.write(lab.mail.log.read_text().splitlines()[-1] + "\n")
    netns.until(lambda: finding(guard, "log-silent") is None, "it speaks again")


@contextmanager
def service(lab: Lab, *lines: str) -> Iterator[None]:
    """Let the real Postfix have one more service, at port 2525, for a while."""
    more = "\n".join(lines) + "\n"
    with lab.mail.services(lambda master: master.write_text(master.read_text() + more)):
        netns.until(partial(lab.server.listens, 2525), "the service listens")
        yield
    netns.until(lambda: not lab.server.listens(2525), "it listens no more")


def offends(lab: Lab, source: str, *before: str, header: str = "") -> None:
    """Talk garbage at port 2525, after other words, in sessions that are worth a ban."""
    for _ in range(12):
        with lab.client.connect(source, SERVER4, 2525, 5.0) as talk, talk.makefile("rb") as answer:
            talk.sendall(header.encode())
            assert _reply(answer)[:3] == b"220"
            for line in before:
                talk.sendall(line.encode() + b"\r\n")
                assert _reply(answer)[:3] in {b"220", b"250"}
            talk.sendall(b"GET / HTTP/1.1\r\n")
            assert _reply(answer)[:3] == b"221"


def _reply(answer: BinaryIO) -> bytes:
    """Return the last line of a reply."""
    while (line := answer.readline())[3:4] == b"-":
        pass
    return line


NAMED, PROXY = "203.0.113.9", "198.18.9.9"
GARBAGE = "-o smtpd_forbidden_commands=GET -o smtpd_sasl_auth_enable=yes"


def assert_reported(guard: Daemon) -> None:
    """The client behind the proxy is what the daemon would act on, and nothing else."""
    rows = guard.ask("list", "--proxied")["rows"]
    assert {(row["subject"], row["origin"]) for row in rows} == {(NAMED, "proxy")}
    known = guard.ask("explain", NAMED)
    assert (known["active"], known["proxied"][0]["subject"]) == ([], NAMED)
    assert {meter["proxied"] for meter in known["meters"] if meter["value"]} == {True}
    lines = [
        line for line in guard.log.read_text().splitlines() if f"report {NAMED} scope=" in line
    ]
    assert lines
    assert all(" origin=proxy" in line for line in lines)


def test_clients_that_a_proxy_names_are_not_banned(lab: Lab, guard: Daemon) -> None:
    with service(
        lab,
        "2525 inet n - n - - smtpd -o syslog_name=postfix/proxied",
        f"  -o smtpd_upstream_proxy_protocol=haproxy {GARBAGE}",
    ):
        guard.start()
        offends(lab, PROXY, header=f"PROXY TCP4 {NAMED} {SERVER4} 40000 25\r\n")
        banned(lab, guard, [V4], "garbage", "mx")
        log = lab.mail.log.read_text()
        assert "postfix/proxied/smtpd" in log
        assert log.count(f"non-SMTP command from unknown[{NAMED}]") == 12
        assert {row.subject for row in guard.rows()} == {V4}
        assert_reported(guard)
        health = {p.key: p.what for p in guard.status().health}
        assert "2525 (port 2525) gets its clients from a proxy (haproxy)" in health["host"]
        assert f"not stopped here: {NAMED} would be " in health["proxied-clients"]


def test_clients_named_by_xclient_are_not_banned(lab: Lab, guard: Daemon) -> None:
    with service(
        lab,
        "2525 inet n - n - - smtpd -o syslog_name=postfix/xclient",
        f"  -o smtpd_authorized_xclient_hosts={PROXY} {GARBAGE}",
    ):
        guard.start()
        offends(lab, PROXY, "EHLO proxy", f"XCLIENT NAME=bad.test ADDR={NAMED}")
        offends(lab, PROXY)

        def banned() -> bool:
            # A throttle ends the session that earned it: it may take a second one.
            with suppress(OSError):  # banned or throttled before it is through
                offends(lab, V4)
            return has(guard, V4, "ban", "submission")

        netns.until(banned, "who talks for himself is banned")
        log = lab.mail.log.read_text()
        assert log.count(f"non-SMTP command from bad.test[{NAMED}]") == 12
        assert log.count(f"non-SMTP command from unknown[{PROXY}]") == 12
        assert {row.subject for row in guard.rows()} == {V4}
        assert guard.ask("explain", PROXY)["protected"] == "a host that may use XCLIENT"
        assert guard.ask("explain", NAMED)["protected"] == ""
        assert_reported(guard)
        (finding,) = [p.what for p in guard.status().health if p.key == "host"]
        assert finding.startswith(f"{PROXY} may name other clients")
