"""What the daemon says of a chain that does not work: each time a real one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from lab import netns
from lab.bots import Bot
from lab.daemon import Daemon
from lab.netns import SERVER4
from lab.postfix import Lab
from lab.watch import V4, has
from throttled.model import Problem

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def problem(guard: Daemon, key: str) -> Problem | None:
    return next((p for p in guard.status().health if p.key == key), None)


def test_a_banned_client_that_comes_by_an_unfiltered_port(lab: Lab, guard: Daemon) -> None:
    guard.configure("[firewall.ports]\nmx = [2525]\nsubmission = [465, 587]\n")
    guard.start()
    bot = Bot(lab.client, "garbage", 60.0, [V4])
    try:
        netns.until(partial(has, guard, V4, "ban", "mx"), "it is banned, for what that is worth")
        netns.until(lambda: problem(guard, "banned-but-seen"), "it is seen again", 30.0)
    finally:
        bot.end()
    found = problem(guard, "banned-but-seen")
    assert found
    assert found.what.startswith(f"{V4} is banned in mx, and yet began ")
    assert found.hint == "port 25 is not filtered for mx: add it to [firewall.ports]"
    assert V4 in guard.command("status").stdout


def test_a_log_that_is_not_where_postfix_writes(lab: Lab, guard: Daemon) -> None:
    elsewhere = guard.home / "elsewhere.log"
    elsewhere.touch()
    guard.configure(f'[log]\nfiles = ["{elsewhere}"]\n')
    guard.start()
    bot = Bot(lab.client, "flood", 60.0, [V4])
    try:
        netns.until(lambda: problem(guard, "log-silent"), "it is silent", 40.0)
    finally:
        bot.end()
    assert "nothing of Postfix was logged for" in guard.command("status").stdout
    with elsewhere.open("a") as log:
        log.write(lab.mail.log.read_text().splitlines()[-1] + "\n")
    netns.until(lambda: problem(guard, "log-silent") is None, "it speaks again")


@contextmanager
def service(lab: Lab, *lines: str) -> Iterator[None]:
    """Let the real Postfix have one more service, at port 2525, for a while."""
    master = lab.mail.config / "master.cf"
    before = master.read_text()
    with suppress(OSError), lab.client.connect(V4, SERVER4, 2525, 1.0):
        raise AssertionError("somebody listens at port 2525")
    master.write_text("\n".join((before.rstrip(), *lines)) + "\n")
    try:
        lab.mail.command("reload")
        netns.until(partial(_listens, lab), "the service listens")
        yield
    finally:
        master.write_text(before)
        lab.mail.command("reload")
        netns.until(lambda: not _listens(lab), "it listens no more")


def _listens(lab: Lab) -> bool:
    return ":2525 " in lab.server.run("ss", "-Hltn").stdout


def says(lab: Lab, source: str, *lines: str) -> bytes:
    """Talk to port 2525 and return the last answer."""
    with lab.client.connect(source, SERVER4, 2525, 5.0) as talk:
        for line in lines:
            talk.sendall(line.encode() + b"\r\n")
            answer = talk.recv(1000)
        return answer
