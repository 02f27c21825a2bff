"""Thousands of clients that do nothing wrong, against a real Postfix: who is known good gets in."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.figures.overload import Attack, attack, known_good
from lab.mail.postfix import Lab
from lab.mail.session import LETTER, session
from lab.mail.swarm import Swarm
from lab.mail.visitors import KNOWN
from lab.network.netns import SERVER4, until
from lab.show.scene import attackers, judge, run, until_stopped
from throttled.control.overload import OverloadStatus

pytestmark = [pytest.mark.root, pytest.mark.postfix]

#: Beyond these a stranger has to wait.
FEW = '[overload]\ncap = 3\nidle = "2s"\n'


def mx(guard: Daemon) -> OverloadStatus:
    return next(row for row in guard.status().overload if row.scope == "mx")


def start(guard: Daemon, *options: str) -> None:
    known_good(guard, KNOWN[4])
    guard.start(*options)
    until(lambda: mx(guard).means, "strangers are counted")


def test_a_botnet_delays_no_mail_of_known_good_clients(lab: Lab, guard: Daemon) -> None:
    start(guard)
    found = attack(lab, guard, Attack("rcpt", rate=300.0, addresses=2_000, seconds=15.0))
    assert (found.known.others, found.user.others) == ([], [])
    row = next(row for row in found.status if row.scope == "mx")
    assert (row.cap, row.mode, row.means) == (80, "enforce", "bpf")
    assert row.since > 0
    assert row.over_cap + row.over_pace > 100
    assert row.delayed
    assert "strangers are delayed, more than 80 connections" in guard.log.read_text()
    shown = guard.command("status").stdout
    assert "strangers delayed since" in shown
    assert "warning" in shown
    assert guard.ask("explain", KNOWN[4])["known_good"] == ["mx", "submission"]
    assert guard.ask("explain", row.delayed[0].network)["known_good"] == []
    assert guard.ask("top")["status"]["overload"][0]["delayed"]


def test_few_clients_that_flood_are_banned_and_not_only_delayed(lab: Lab, guard: Daemon) -> None:
    """Connections dropped before Postfix sees them are counted by no limit.

    It begins while nobody is known good, so that all of Postfix's processes are there.
    """
    guard.start()
    sources = attackers()
    scene = run(lab, sources, 20.0, done=until_stopped(guard, sources))
    for kind, each in sources.items():
        verdict = judge(guard, kind, each, scene.reports[kind])
        assert verdict.stopped == verdict.sources, kind
    assert scene.delivered == scene.sent()


def connected(lab: Lab, stack: contextlib.ExitStack, number: int, seconds: float = 60.0) -> None:
    sock = stack.enter_context(
        lab.client.connect(f"198.18.{number}.1", SERVER4, 25, seconds=seconds)
    )
    assert sock.recv(3) == b"220"


@pytest.fixture
def three(lab: Lab, guard: Daemon) -> Iterator[contextlib.ExitStack]:
    """Let strangers have all places that they may have."""
    guard.configure(FEW.replace("2s", "1h"))
    start(guard)
    with contextlib.ExitStack() as stack:
        for number in range(3):
            connected(lab, stack, number)
        until(lambda: mx(guard).open == 3, "they are counted")
        yield stack


def refused(lab: Lab, number: int) -> bool:
    try:
        lab.client.connect(f"198.18.{number}.1", SERVER4, 25, seconds=0.5).close()
    except TimeoutError:
        return True
    return False


@pytest.mark.usefixtures("three")
def test_a_database_that_fails_admits_everybody(lab: Lab, guard: Daemon) -> None:
    assert refused(lab, 9)
    with contextlib.closing(sqlite3.connect(guard.home / "throttled.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        with contextlib.ExitStack() as stack:
            until(lambda: mx(guard).why, "it is noticed that the database is locked")
            connected(lab, stack, 10)


@pytest.mark.usefixtures("three")
def test_a_daemon_that_ends_admits_everybody(lab: Lab, guard: Daemon) -> None:
    assert refused(lab, 9)
    guard.kill()
    assert not refused(lab, 9)


def test_idle_sessions_make_room_and_a_slow_upload_goes_on(lab: Lab, guard: Daemon) -> None:
    guard.configure(FEW)
    start(guard)
    done = threading.Event()
    with lab.client.entered():
        upload = session("198.18.1.1")
    upload.mail("friend@slow.test")
    upload.rcpt("alice@example.test")
    upload.putcmd("data")
    assert upload.getreply()[0] == 354

    def send() -> None:
        while not done.wait(0.2):
            upload.send("x" * 200 + "\r\n")  # a modem's speed

    sender = threading.Thread(target=send)
    sender.start()
    swarm = Swarm(lab.client, "silent", 20.0, 60.0, 500)
    try:
        until(lambda: mx(guard).ended >= 10, "silent ones are ended")
    finally:
        swarm.end()
        done.set()
        sender.join()
    upload.send(f"\r\n{LETTER}.\r\n")
    assert upload.getreply()[0] == 250
    upload.quit()


def test_it_begins_in_the_middle_of_an_attack(lab: Lab, guard: Daemon) -> None:
    """All processes are taken and the queue is full: the strangers in that are ended first."""
    swarm = Swarm(lab.client, "silent", 100.0, 60.0, 2_000)
    try:
        until(lambda: lab.mail.connections() >= 190, "all places are taken")
        start(guard)
        until(lambda: mx(guard).ended >= 100, "those in the queue are ended")
        until(lambda: mx(guard).open <= 80, "strangers have no more than their share")
        with lab.client.entered():
            session(KNOWN[4]).quit()
    finally:
        swarm.end()


def test_a_noop_now_and_then_keeps_no_place(lab: Lab, guard: Daemon) -> None:
    guard.configure(FEW)
    start(guard)
    swarm = Swarm(lab.client, "noop", 20.0, 60.0, 500)
    try:
        until(lambda: mx(guard).ended >= 10, "they are ended")
    finally:
        swarm.end()


def edited(lab: Lab, *changes: str) -> contextlib.AbstractContextManager[None]:
    """Change services of master.cf; each argument is one of postconf's."""

    def edit(master: Path) -> None:
        for option, value in zip(changes[::2], changes[1::2], strict=True):
            lab.server.run("postconf", "-c", str(master.parent), option, value)

    return lab.mail.services(edit)


def test_who_waits_for_the_rest_of_postscreens_greeting_is_not_ended(
    lab: Lab, guard: Daemon
) -> None:
    """At its defaults it says the first line at once, and the last after six seconds."""
    screen = "smtp/inet=smtp inet n - n - 1 postscreen"
    with edited(lab, "-M", screen, "-M", "smtpd/pass=smtpd pass - - n - - smtpd"):
        guard.configure("[overload]\ncap = 1\n")
        start(guard)
        sock = lab.client.connect("198.18.1.1", SERVER4, 25, seconds=30.0)
        swarm = Swarm(lab.client, "silent", 20.0, 60.0, 500)
        try:
            with sock, sock.makefile("rwb") as lines:
                assert lines.readline().startswith(b"220-")
                assert lines.readline().startswith(b"220 ")
                lines.write(b"EHLO client.example.net\r\n")
                lines.flush()
                assert lines.readline().startswith(b"250-")
            assert mx(guard).over_cap > 0
        finally:
            swarm.end()


def test_time_that_postfix_takes_for_a_reply_is_not_the_clients(lab: Lab, guard: Daemon) -> None:
    """As a policy service does, or a call to the sender's server."""
    slow = "smtp/inet/smtpd_recipient_restrictions=sleep,5,reject_unauth_destination"
    with edited(lab, "-P", slow):
        guard.configure('[overload]\ncap = 1\nidle = "4s"\n')
        start(guard)
        with lab.client.entered():
            newcomer = session("198.18.1.1")
        swarm = Swarm(lab.client, "silent", 20.0, 60.0, 500)
        try:
            newcomer.mail("friend@slow.test")
            assert newcomer.rcpt("alice@example.test")[0] == 250
            dropped = mx(guard).over_cap
            until(lambda: mx(guard).over_cap > dropped + 20, "others wait")
            assert newcomer.data(LETTER)[0] == 250
            newcomer.quit()
        finally:
            swarm.end()


def test_a_small_site(lab: Lab, guard: Daemon) -> None:
    """Ten processes. Honest: twice as many messages at once; its evil twin says nothing."""

    def deliver(number: int) -> int:
        with lab.client.entered():
            newcomer = session(f"198.18.1.{number}")
        newcomer.mail("list@lists.test")
        newcomer.rcpt("alice@example.test")
        code, _ = newcomer.data(LETTER)
        newcomer.quit()
        return code

    with edited(lab, "-F", "smtp/inet/process_limit=10"):
        start(guard)
        assert mx(guard).cap == 8
        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(deliver, range(1, 21))) == [250] * 20
        assert mx(guard).ended == 0
        found = attack(lab, guard, Attack("silent", rate=20.0, addresses=500, seconds=8.0))
        assert found.known.others == []
        assert mx(guard).open <= 10


def test_observing_it_says_what_would_be(lab: Lab, guard: Daemon) -> None:
    guard.configure(FEW)
    start(guard, "--mode", "observe")
    with contextlib.ExitStack() as stack:
        for number in range(6):
            connected(lab, stack, number)
        until(lambda: mx(guard).since, "it is noticed")
        row = mx(guard)
    assert (row.mode, row.means, row.open, row.ended) == ("report", "memory", 6, 0)
    assert "strangers would be delayed" in guard.command("status").stdout


def test_a_service_without_a_free_process_keeps_nobody_out_of_the_others(
    lab: Lab, guard: Daemon
) -> None:
    """A few idle connections take both processes of 2525, and more wait there."""

    with edited(lab, "-M", "2525/inet=2525 inet n - n - 2 smtpd"), contextlib.ExitStack() as stack:
        start(guard)
        for number in range(12):
            source = f"198.18.{number}.1"
            stack.enter_context(lab.client.connect(source, SERVER4, 2525, seconds=20.0))
        until(lambda: mx(guard).open == 12, "they are counted")
        for number in range(20, 25):
            connected(lab, stack, number)


def test_silent_strangers_make_room_for_known_good_clients_below_the_cap(
    lab: Lab, guard: Daemon
) -> None:
    """Known good clients have more processes than their reserve, and all are taken."""
    with edited(lab, "-F", "smtp/inet/process_limit=10"), contextlib.ExitStack() as stack:
        start(guard)
        with lab.client.entered():
            for _ in range(5):
                stack.enter_context(session(KNOWN[4]))
        for number in range(5):
            connected(lab, stack, number)
        assert mx(guard).cap == 8
        with lab.client.entered(), session(KNOWN[4], seconds=30.0) as late:
            assert late.noop()[0] == 250
        row = mx(guard)
        assert (row.over_cap, row.ended) == (0, 1)


def test_one_known_good_client_does_not_keep_out_the_others(lab: Lab, guard: Daemon) -> None:
    """Two messages on two days are cheap; then it takes all processes and says nothing."""
    other = "198.18.10.9"
    with edited(lab, "-F", "smtp/inet/process_limit=10"), contextlib.ExitStack() as stack:
        known_good(guard, other)
        start(guard)
        for _ in range(12):
            stack.enter_context(lab.client.connect(other, SERVER4, 25, seconds=20.0))
        with lab.client.entered(), session(KNOWN[4], seconds=30.0) as late:
            assert late.noop()[0] == 250
        assert mx(guard).ended >= 3
