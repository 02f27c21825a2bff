"""What Postfix does not log: the real daemon before a real Postfix, and the kernel's word."""

import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.daemon.watch import V4, V6, answers, has
from lab.mail import postfix
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4
from lab.network.spoof import opened, spoof
from throttled.control.client import request
from throttled.control.requests import Explain
from throttled.control.results import ExplainResult

pytestmark = [pytest.mark.root, pytest.mark.postfix]

IDLE = "198.18.7.8"
OFF = "[sensor]\nhandshakes = false\n"
#: Closing sends a reset instead of a FIN.
_RESET = struct.pack("ii", 1, 0)


def values(guard: Daemon, source: str) -> tuple[int, int]:
    """Return how many connections the log and the kernel have counted, in mx."""
    explained = request(guard.socket, Explain(source))
    assert isinstance(explained, ExplainResult)
    rows = [m for m in explained.meters if (m.limit, m.scope) == ("connections", "mx")]
    logged, seen = (sum(m.value for m in rows if m.kernel is kernel) for kernel in (False, True))
    return logged, seen


def counted(guard: Daemon, source: str, count: int) -> bool:
    return values(guard, source) == (count, count)


def knock(lab: Lab, source: str, count: int) -> int:
    """Connect and reset at once; return how many of that were answered."""
    answered = 0
    for _ in range(count):
        try:
            sock = lab.client.connect(source, SERVER4, 25, 0.3)
        except TimeoutError:
            break
        except ConnectionResetError:  # completed, and ended at once: it crossed the threshold
            answered += 1
            continue
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
        answered += 1
    return answered


def cross(lab: Lab, source: str) -> None:
    """Connect once more than the limit allows: the session may be ended before the greeting."""
    answers(lab, source, 25)


def logged(lab: Lab, what: str) -> int:
    return lab.mail.log.read_text().count(what)


class Busy(NamedTuple):
    """A Postfix of its own with two smtpd for port 25, both with a client that says nothing."""

    lab: Lab
    guard: Daemon
    idle: list[socket.socket]


@pytest.fixture
def busy() -> Iterator[Busy]:
    with postfix.lab() as lab, daemon(lab.server, lab.mail.config) as guard:
        master = lab.mail.config / "master.cf"
        port_25 = "smtp      inet  n       -       y       -       {}       smtpd"
        text = master.read_text()
        assert port_25.format("-") in text
        master.write_text(text.replace(port_25.format("-"), port_25.format("2")))
        lab.mail.command("reload")
        netns.until(lambda: logged(lab, "reload -- version"), "master has read it again")
        with (
            lab.client.connect(IDLE, SERVER4, 25, 5.0) as one,
            lab.client.connect(IDLE, SERVER4, 25, 5.0) as other,
        ):
            assert all(sock.recv(100).startswith(b"220 ") for sock in (one, other))
            yield Busy(lab, guard, [one, other])


def test_a_flood_that_leaves_no_line_is_stopped(busy: Busy) -> None:
    lab, guard, _ = busy
    guard.start()
    assert knock(lab, V4, 61) == 61
    netns.until(lambda: has(guard, V4, "throttle", "mx"), "it is throttled")
    assert knock(lab, V4, 39) < 20
    (row,) = guard.rows()
    assert row.packets > 0
    assert row.why == "61 completed handshakes within 1m, soft limit 60"
    assert logged(lab, V4) == 0
    assert "connections (kernel) mx" in guard.command("explain", V4).stdout
    assert guard.status().events["handshake"] >= 61


def test_without_the_sensor_it_is_not(busy: Busy) -> None:
    lab, guard, idle = busy
    guard.configure(OFF)
    guard.start()
    assert knock(lab, V4, 90) == 90
    for sock in idle:
        sock.close()  # what waited gets its turn
    # Reset before Postfix asks who it is, a connection comes from nobody.
    line = "lost connection after CONNECT from unknown[unknown]"
    netns.until(lambda: logged(lab, line) == 90, "Postfix has seen them")
    netns.until(lambda: not any(tail.lag for tail in guard.status().tails), "the log is read")
    assert guard.rows() == []
    assert values(guard, V4) == (0, 0)
    assert "log alone" in guard.command("status").stdout


def test_those_that_wait_for_a_busy_postfix_count(busy: Busy) -> None:
    lab, guard, _ = busy
    guard.start()
    connections = [lab.client.connect(V4, SERVER4, 25) for _ in range(61)]
    netns.until(lambda: has(guard, V4, "throttle", "mx"), "it is throttled")
    assert values(guard, V4) == (0, 61)
    for sock in connections:
        sock.close()


def test_what_log_and_kernel_both_see_counts_once(lab: Lab, guard: Daemon) -> None:
    guard.configure("[limits.connections]\nsoft = 10\n")
    guard.start()
    for source in (V4, V6):
        for _ in range(10):
            assert answers(lab, source, 25)
    for source in (V4, V6):
        netns.until(partial(counted, guard, source, 10), "both have counted")
    assert guard.rows() == []
    for source in (V4, V6):
        cross(lab, source)
        netns.until(partial(has, guard, source, "throttle", "mx"), "it is throttled")
        netns.until(partial(counted, guard, source, 11), "both have counted")
        assert len(guard.decisions(source)) == 1


def test_forged_syns_throttle_and_ban_nobody(lab: Lab, guard: Daemon) -> None:
    guard.configure("[limits.connections]\nsoft = 1\nhard = 2\nsubmission = { soft = 1 }\n")
    guard.start()
    before = opened(lab.server)
    forged = [f"198.18.{n // 250}.{n % 250}" for n in range(10_000)]
    spoof(lab.client, forged, SERVER4, 25, each=4)
    assert opened(lab.server) - before > 10_000
    # Who does complete handshakes after that is counted, so what came before would have been.
    knock(lab, V4, 3)
    netns.until(lambda: has(guard, V4, "ban", "mx"), "it is banned")
    assert [row.subject for row in guard.rows()] == [V4]
    netns.until(lambda: guard.status().events.get("handshake") == 3, "the kernel has counted")


def test_a_sensor_that_fails_leaves_counting_to_the_log(lab: Lab, guard: Daemon) -> None:
    guard.configure("[sensor]\nhandshakes = true\n[limits.connections]\nsoft = 3\n")
    guard.program = ("setpriv", "--bounding-set=-bpf,-sys_admin", *guard.program)
    guard.start()
    status = guard.status()
    assert [finding.key for finding in status.health] == ["sensor"]
    assert "CAP_BPF" in guard.command("status").stdout
    for _ in range(3):
        assert answers(lab, V4, 25)
    cross(lab, V4)
    netns.until(lambda: has(guard, V4, "throttle", "mx"), "it is throttled")
    assert guard.rows()[0].why == "4 connections within 1m, soft limit 3"


def test_it_is_switched_by_a_reload(lab: Lab, guard: Daemon) -> None:
    guard.start()
    knock(lab, V4, 2)
    netns.until(lambda: values(guard, V4)[1] == 2, "the kernel has counted")
    guard.configure(OFF)
    guard.command("reload")
    assert answers(lab, V4, 25)
    netns.until(lambda: values(guard, V4)[0] >= 1, "the log has counted")
    guard.configure("")
    guard.command("reload")
    knock(lab, V4, 1)
    netns.until(lambda: values(guard, V4)[1] == 3, "the kernel has counted the third")
