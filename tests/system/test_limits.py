"""The daemon where the system refuses it descriptors."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import V4, answers
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.errors import ThrottledError

pytestmark = [pytest.mark.root, pytest.mark.postfix]


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def works(guard: Daemon) -> bool:
    try:
        return guard.status().pid == guard.pid
    except ThrottledError:
        return False


def test_more_control_connections_than_descriptors(
    lab: Lab, guard: Daemon, crowd: ExitStack
) -> None:
    guard.program = ("prlimit", "--nofile=32", *guard.program)
    guard.configure('[metrics]\nlisten = "' + str(guard.home / "metrics.sock") + '"\n')
    guard.start()
    for _ in range(200):
        connection = crowd.enter_context(socket.socket(socket.AF_UNIX))
        connection.setblocking(False)
        connection.connect_ex(str(guard.socket))
    netns.until(lambda: "wait to be accepted" in guard.log.read_text(), "it says so")
    bot = Bot(lab.client, "guess", 15.0, [V4])
    try:
        netns.until(lambda: not answers(lab, V4, 587), "it is throttled or banned")
    finally:
        bot.end()
    crowd.close()
    netns.until(lambda: works(guard), "it answers again")
    log = guard.log.read_text()
    assert "Traceback" not in log
    assert log.count("wait to be accepted") == 1
