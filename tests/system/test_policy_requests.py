"""Postfix asks, the daemon answers: mail of accounts and inside hosts is slowed and not lost."""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from lab.daemon.daemon import Daemon
from lab.mail import asking
from lab.mail.asking import (
    ACCOUNT,
    CLIENT,
    DEVICE,
    LIMIT,
    at_once,
    ban,
    decided,
    on_hold,
    send,
    throttle,
)
from lab.mail.postfix import Lab
from lab.network.netns import SERVER4, until
from throttled.model import Rate

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.usefixtures("emptied")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with asking.lab() as made:
        yield made


@pytest.fixture
def guard(guard: Daemon) -> Daemon:
    guard.configure(LIMIT)
    return guard


def unanswered(lab: Lab) -> tuple[int, int]:
    """Return how many requests got no answer, as the log says, and how many of them in time.

    After the first try of one Postfix waits for a second; to be late takes two seconds.
    """
    text = lab.mail.log.read_text("latin-1")
    lines = [line for line in text.splitlines() if "problem talking to server" in line]
    return len(lines), sum(line.endswith("Connection timed out") for line in lines)


def used(guard: Daemon, subject: str) -> tuple[int, int]:
    """Return messages and recipients of a sender today; the daemon is stopped."""
    guard.stop()
    rows = {row["subject"]: row for row in guard.ask("accounts")["rows"]}
    return (rows[subject]["messages"], rows[subject]["recipients"]) if subject in rows else (0, 0)


def test_who_is_not_throttled_notices_nothing(lab: Lab, guard: Daemon) -> None:
    guard.start()
    assert len(send(lab, 10)) == 10
    assert len(send(lab, 10, CLIENT, login=True)) == 10
    assert guard.status().events["policy_request"] == 20
    assert guard.status().answers == {"pass": 20}
    assert "to Postfix: 20 at once" in guard.command("status").stdout
    assert on_hold(lab) == 0


def test_a_message_is_counted_once(lab: Lab, guard: Daemon) -> None:
    """Though both its log lines and the request show it."""
    guard.start()
    send(lab, 7, CLIENT, login=True)
    send(lab, 5)
    until(lambda: guard.status().events.get("removed", 0) >= 12, "the log says it all")
    assert used(guard, ACCOUNT) == (7, 7)
    assert used(guard, DEVICE) == (5, 5)


@pytest.mark.parametrize("login", [False, True])
def test_the_rate_is_kept_and_nothing_lost(lab: Lab, guard: Daemon, *, login: bool) -> None:
    subject = ACCOUNT if login else DEVICE
    decided(guard.home / "throttled.db", throttle(subject, Rate(4, 1.0, 4)))
    guard.start()
    began = time.monotonic()
    assert len(send(lab, 60, CLIENT if login else DEVICE, login=login)) == 60
    assert time.monotonic() - began > 0.9 * (60 - 4) / 4  # later on a busy machine
    assert on_hold(lab) == 0


def test_what_may_not_wait_is_put_on_hold(lab: Lab, guard: Daemon) -> None:
    decided(guard.home / "throttled.db", throttle(DEVICE, Rate(2, 1.0, 2)))
    guard.start()
    accepted = at_once(10, lambda: send(lab, 6, sessions=True))
    assert len(accepted) == 60
    assert on_hold(lab) > 0
    until(lambda: "throttled" in lab.mail.log.read_text("latin-1"), "the log says why")


def test_what_may_not_wait_is_deferred(lab: Lab, guard: Daemon) -> None:
    guard.configure(f'{LIMIT}[accounts]\nover = "defer"\n')
    decided(guard.home / "throttled.db", throttle(ACCOUNT, Rate(1, 60.0, 2)))
    guard.start()
    assert len(send(lab, 5, CLIENT, login=True)) == 2
    until(lambda: "450 4.7.1" in lab.mail.log.read_text("latin-1"), "it is logged")
    assert on_hold(lab) == 0
    assert used(guard, ACCOUNT) == (2, 2)  # what was refused is not counted


@pytest.mark.parametrize("how", ["defer", "hold"])
def test_mail_of_a_banned_account(lab: Lab, guard: Daemon, how: str) -> None:
    guard.configure(f'{LIMIT}[accounts]\nban = "{how}"\n')
    decided(guard.home / "throttled.db", ban(ACCOUNT))
    guard.start()
    assert len(send(lab, 3, CLIENT, login=True)) == (3 if how == "hold" else 0)
    assert on_hold(lab) == (3 if how == "hold" else 0)
    assert len(send(lab, 3)) == 3  # the inside host is another sender


def test_observing_slows_nobody(lab: Lab, guard: Daemon) -> None:
    decided(guard.home / "throttled.observe.db", ban(ACCOUNT), ban(DEVICE))
    guard.start("--mode", "observe")
    assert len(send(lab, 3, CLIENT, login=True)) == len(send(lab, 3)) == 3
    assert on_hold(lab) == 0


def test_a_daemon_that_is_killed_costs_a_second(lab: Lab, guard: Daemon) -> None:
    """Postfix's own floor: smtpd_policy_service_retry_delay."""
    guard.start()
    assert len(send(lab, 1)) == 1
    guard.kill()
    assert len(send(lab, 3)) == 3
    tries, timeouts = unanswered(lab)
    assert (tries, timeouts) in ((3, 0), (6, 0))  # once or twice each
    guard.start()
    send(lab, 1)  # finds out that the connection is dead
    before = unanswered(lab)
    assert len(send(lab, 3)) == 3
    assert unanswered(lab) == before


def test_a_daemon_that_hangs_costs_seconds_and_no_mail(lab: Lab, guard: Daemon) -> None:
    """Two times the timeout, and the delay between: until the watchdog ends the daemon."""
    guard.start()
    os.kill(guard.pid, signal.SIGSTOP)
    accepted = send(lab, 2)
    os.kill(guard.pid, signal.SIGCONT)
    assert len(accepted) == 2
    tries, timeouts = unanswered(lab)
    assert 2 <= tries == timeouts <= 4


def test_a_socket_that_was_removed_comes_back(lab: Lab, guard: Daemon) -> None:
    guard.start()
    path = lab.mail.home / "queue/throttled/policy"
    path.unlink()
    until(path.exists, "the socket is back")
    assert len(send(lab, 2)) == 2
    path.unlink()
    path.parent.joinpath("policy.lock").unlink()
    path.parent.rmdir()
    until(path.exists, "the directory is back")
    assert len(send(lab, 2)) == 2
    assert (path.parent.stat().st_mode & 0o7777, path.stat().st_mode & 0o777) == (0o710, 0o660)


@pytest.mark.parametrize("garbage", [b"", b"\n\n", b"garbage\n\n", b"action\n\n", b"\0" * 9000])
def test_garbage_for_an_answer_costs_no_mail(lab: Lab, garbage: bytes) -> None:
    """Not that we would say such things: Postfix does what its configuration says then."""
    with answering(lab, garbage):
        assert len(send(lab, 1)) == 1


@contextlib.contextmanager
def answering(lab: Lab, garbage: bytes) -> Iterator[None]:
    """Let a server that always says the same answer Postfix."""
    path = lab.mail.home / "queue/throttled/policy"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.parent.chmod(0o755)

    def serve() -> None:
        while True:
            end, _ = listener.accept()
            with end:
                if not end.recv(4096):  # this is not Postfix
                    return
                end.sendall(garbage)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


#: Hundreds of connections, and requests with any account's name as fast as they are answered.
_COMPROMISED = r"""
import socket, sys, itertools
def connect():
    end = socket.socket(socket.AF_UNIX); end.connect(sys.argv[1]); return end
many = [connect() for _ in range(100)]
for n in itertools.count():
    try:
        end = many[n % 8]
        end.sendall((
            "request=smtpd_access_policy\nprotocol_state=DATA\nqueue_id=ABC%05d\n"
            "sasl_username=user%d\nsender=x@example.net\nclient_address=203.0.113.9\n"
            "recipient_count=1\n\n" % (n % 99999, n)).encode())
        end.recv(100)
        if n % 100 == 0:
            other = connect(); other.sendall(b"\0" * 20000); other.close()
    except OSError:
        many[n % 8] = connect()
"""


def test_a_compromised_smtpd_slows_nobody_it_does_not_name(lab: Lab, guard: Daemon) -> None:
    guard.start()
    alone = statistics.median(send(lab, 20))
    with asking.as_postfix(lab, _COMPROMISED):
        until(lambda: guard.status().events.get("policy_request", 0) > 3000, "it asks and asks")
        accepted = [*send(lab, 20), *send(lab, 20, CLIENT, login=True)]
    assert len(accepted) == 40
    assert statistics.median(accepted) < 20 * alone  # one that waits for its turn: a second
    assert unanswered(lab) == (0, 0)
    assert on_hold(lab) == 0
    assert not guard.rows()


#: Forks that leave their parent, each with connections of its own: as many as there can be.
_FORKS = r"""
import os, socket, sys, time
held = []
for _ in range(300):
    if os.fork() == 0:
        if os.fork():
            os._exit(0)
        for _ in range(8):
            end = socket.socket(socket.AF_UNIX); end.connect(sys.argv[1]); held.append(end)
        os.read(0, 1)
        os._exit(0)
    os.wait()
print("forked", flush=True)
os.read(0, 1)
"""


def test_forks_of_a_compromised_smtpd_leave_room_for_others(lab: Lab, guard: Daemon) -> None:
    """2,400 connections are more than there may be."""
    guard.start()
    reading, writing = os.pipe()  # the processes end when it is closed
    try:
        with asking.as_postfix(lab, _FORKS, reading) as process:
            assert process.stdout
            assert process.stdout.readline() == "forked\n"
            asking.reload(lab)  # each smtpd makes a new connection
            accepted = [*send(lab, 10), *send(lab, 10, CLIENT, login=True)]
    finally:
        os.close(writing)
        os.close(reading)
    assert len(accepted) == 20
    assert unanswered(lab) == (0, 0)


PROXY = "198.18.70.9"


@pytest.fixture
def proxied(lab: Lab) -> Iterator[None]:
    """Let port 25 learn its clients from a proxy, and ask about each of them."""
    config = ("postconf", "-c", str(lab.mail.config))
    check = f"smtpd_client_restrictions={asking.check()}"
    lab.server.run(*config, "-e", check, "smtpd_upstream_proxy_protocol=haproxy")
    asking.reload(lab)
    yield
    lab.server.run(*config, "-X", "smtpd_client_restrictions", "smtpd_upstream_proxy_protocol")
    asking.reload(lab)


def through_proxy(
    lab: Lab, client: str, recipients: int = 1, port: int = 40000, mailbox: str = "alice"
) -> str:
    """Return the reply to the last recipient of a client, which a proxy names."""
    with lab.client.connect(PROXY, SERVER4, 25, 30.0) as end, end.makefile("rb") as lines:
        end.sendall(f"PROXY TCP4 {client} {SERVER4} {port} 25\r\n".encode())
        reply = b""
        for command in (
            "",
            "HELO client.example",
            "MAIL FROM:<a@client.example>",
            *[f"RCPT TO:<{mailbox}@example.test>"] * recipients,
        ):
            end.sendall(f"{command}\r\n".encode() if command else b"")
            reply = lines.readline()
            if reply.startswith(b"421 "):  # Postfix hangs up
                break
    return reply.decode()


@pytest.mark.usefixtures("proxied")
def test_a_client_behind_a_proxy_is_refused(lab: Lab, guard: Daemon) -> None:
    """No firewall here can tell it from the others: Postfix is answered 421."""
    banned, slow, network = "203.0.113.50", "203.0.113.60", "198.18.80.0/24"
    decisions = (ban(banned), ban(network), throttle(slow, Rate(1, 60.0, 2)))
    decided(guard.home / "throttled.db", *decisions)
    guard.start()
    assert through_proxy(lab, "203.0.113.51").startswith("250 ")
    assert through_proxy(lab, banned).startswith("421 4.7.0 ")
    assert through_proxy(lab, "198.18.80.9").startswith("421 4.7.0 ")
    replies = [through_proxy(lab, slow, 3, port)[:3] for port in (1025, 1026, 1027)]
    assert replies == ["250", "250", "421"]
    assert guard.command("unban", banned).returncode == 0
    assert through_proxy(lab, banned).startswith("250 ")
    guard.ask("ban", "203.0.113.51")
    assert through_proxy(lab, "203.0.113.51").startswith("421 4.7.0 ")


@pytest.mark.usefixtures("proxied")
def test_what_a_client_behind_a_proxy_did_leads_to_421(lab: Lab, guard: Daemon) -> None:
    guard.configure("[limits.errors]\nsoft = 2\nhard = 4\n")
    guard.start()
    source = "203.0.113.77"
    until(
        lambda: "(throttled)" in through_proxy(lab, source, 8, mailbox="nobody-here"),
        "what it guessed led to a ban",
    )
    assert through_proxy(lab, "203.0.113.78").startswith("250 ")
    assert guard.rows() == []  # the kernel has nothing of it
    assert guard.command("unban", source).returncode == 0
    assert through_proxy(lab, source).startswith("250 ")


@pytest.mark.usefixtures("proxied")
def test_bans_of_clients_behind_a_proxy_outlast_a_restart(lab: Lab, guard: Daemon) -> None:
    """The kernel has the bans still: the answers have to be filled from the store."""
    guard.start()
    guard.ask("ban", "203.0.113.51")
    guard.stop()
    guard.start()
    until(lambda: through_proxy(lab, "203.0.113.51").startswith("421 "), "the ban is back")


def test_ten_thousand_bans_meanwhile_hold_no_mail_up(lab: Lab, guard: Daemon) -> None:
    guard.start()
    many = guard.home / "many.txt"
    many.write_text("".join(f"100.64.{n // 250}.{n % 250 + 1}\n" for n in range(10_000)))
    thread = threading.Thread(target=lambda: guard.command("import", "--as", "ban", str(many)))
    thread.start()
    accepted: list[float] = []
    while thread.is_alive():
        accepted += send(lab, 5)
    thread.join()
    assert len(guard.rows()) >= 1000
    assert accepted
    assert unanswered(lab) == (0, 0)


def test_a_restart_in_the_middle_of_a_session(lab: Lab, guard: Daemon) -> None:
    """As an upgrade does it: nothing is lost, and few messages are late."""
    guard.start()
    accepted: list[float] = []
    thread = threading.Thread(target=lambda: accepted.extend(send(lab, 300)))
    thread.start()
    until(lambda: guard.status().events.get("policy_request", 0) > 20, "the session is under way")
    guard.stop()
    guard.start()
    thread.join()
    assert len(accepted) == 300
    assert unanswered(lab)[1] == 0  # a second each while there is no daemon
    assert guard.status().events["policy_request"] > 0


def test_a_full_disk_stops_no_answer(lab: Lab, guard: Daemon) -> None:
    small = guard.home / "small"
    small.mkdir()
    run = partial(subprocess.run, check=True)
    run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)])
    try:
        guard.configure(f'{LIMIT}[accounts]\nover = "defer"\n')
        text = guard.config.read_text().replace("/throttled.db", "/small/throttled.db")
        guard.config.write_text(text)
        decided(small / "throttled.db", throttle(ACCOUNT, Rate(1, 60.0, 2)))
        guard.start()
        run(["dd", "if=/dev/zero", f"of={small}/ballast"], check=False, capture_output=True)
        accepted = send(lab, 20)
        assert len(accepted) == 20
        assert unanswered(lab) == (0, 0)
        assert len(send(lab, 5, CLIENT, login=True)) == 2
    finally:
        guard.kill()
        run(["umount", str(small)])


def test_observing_begins_and_ends_while_mail_flows(lab: Lab, guard: Daemon) -> None:
    guard.configure(f'{LIMIT}[accounts]\nover = "defer"\n')
    decided(guard.home / "throttled.db", throttle(ACCOUNT, Rate(1, 60.0, 1)))
    guard.start()
    assert len(send(lab, 4, CLIENT, login=True)) < 3
    enforcing = guard.config.read_text()
    guard.config.write_text(f'mode = "observe"\n{enforcing}')
    assert guard.command("reload").returncode == 0
    assert len(send(lab, 4, CLIENT, login=True)) == 4
    guard.config.write_text(enforcing)
    assert guard.command("reload").returncode == 0
    assert len(send(lab, 4, CLIENT, login=True)) < 3


MINE = """
[limits.slow]
of = "{of}"
count = "messages"
within = "1h"
soft = 10
mode = "throttle"
throttle = {{ rate = 2, per = "1s", burst = 1 }}
"""


@pytest.mark.parametrize("login", [False, True])
def test_a_limit_slows_who_is_above_it(lab: Lab, guard: Daemon, *, login: bool) -> None:
    """From the request to the decision, its record and its answer."""
    guard.configure(MINE.format(of="account" if login else "inside"))
    guard.start()
    accepted = send(lab, 30, CLIENT if login else DEVICE, login=login)
    assert len(accepted) == 30
    assert statistics.median(accepted[:10]) < statistics.median(accepted[13:]) / 2
    assert sum(accepted[11:]) > len(accepted[13:]) / 2 - 2.0  # later on a busy machine
    (row,) = guard.rows()
    assert (row.subject, row.limit) == (ACCOUNT if login else DEVICE, "slow")
    guard.stop()
    guard.start()  # adopts it from the store
    began = time.monotonic()
    assert len(send(lab, 10, CLIENT if login else DEVICE, login=login)) == 10
    assert time.monotonic() - began > 3.0


def test_a_limit_bans_who_is_far_above_it(lab: Lab, guard: Daemon) -> None:
    """The account's mail is deferred, an inside host's is not touched; an unban lets it send."""
    hard = MINE.format(of="account").replace('mode = "throttle"', 'hard = 20\nmode = "enforce"')
    guard.configure(hard.replace("rate = 2", "rate = 100"))
    guard.start()
    accepted = send(lab, 40, CLIENT, login=True)
    assert 20 < len(accepted) < 30
    (row,) = guard.rows()
    assert (row.subject, row.action) == (ACCOUNT, "ban")
    assert "skipped" not in guard.log.read_text()
    assert len(send(lab, 3)) == 3
    assert guard.command("unban", ACCOUNT).returncode == 0
    assert len(send(lab, 3, CLIENT, login=True)) == 3
