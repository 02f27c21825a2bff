"""Sessions with a real Postfix are ended, but never between a message's final dot and its reply."""

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import V4, banned, no_sessions, sessions
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4
from throttled.enforce.sessions import Endings, Ports
from throttled.enforce.sockets import opened
from throttled.model import Decision

pytestmark = [pytest.mark.root, pytest.mark.postfix]

PORTS: Ports = {"mx": (25,), "submission": (587, 465)}


class Client:
    """A session with Postfix; each command waits for its reply."""

    def __init__(self, lab: Lab) -> None:
        self.sock = lab.client.connect(V4, SERVER4, 25, 10.0)
        self.file = self.sock.makefile("rb")
        self.reply()

    def say(self, command: str) -> str:
        self.sock.sendall(f"{command}\r\n".encode())
        return self.reply()

    def reply(self) -> str:
        line = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
        return line.decode()

    def up_to_data(self) -> None:
        """Begin a message that ends with the dot."""
        self.say("EHLO client.example")
        self.say("MAIL FROM:<sender@client.example>")
        assert self.say("RCPT TO:<alice@example.test>").startswith("250 ")
        assert self.say("DATA").startswith("354 ")

    def is_over(self) -> bool:
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def client(lab: Lab) -> Iterator[Client]:
    made = Client(lab)
    yield made
    made.file.close()
    made.sock.close()
    netns.until(partial(no_sessions, lab, V4), "its sessions are over")


def copies(lab: Lab, subject: str) -> int:
    """Return how many of alice's messages have a subject; other tests' may still arrive."""
    new = lab.mail.home / "mail" / "alice" / "new"
    return sum(f"Subject: {subject}\n" in path.read_text() for path in new.glob("*"))


def answered(client: Client) -> bool:
    """Let a client speak once more, and return whether the kernel shows that it was answered.

    It does not where question, answer and acknowledgement fall into one tick of the kernel. No
    NOOP, and no error before: under stress Postfix ends the session at the second one.
    """
    port = client.sock.getsockname()[1]
    assert client.say("HELO x.example").startswith("250 ")
    return any(found.waits for found in opened(PORTS["mx"]) if found.far_port == port)


def processes(lab: Lab, name: str) -> list[int]:
    found = []
    for pid in lab.mail.pids():
        with contextlib.suppress(OSError):  # it ended meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n":
                found.append(pid)
    return found


@contextlib.contextmanager
def slow_cleanup(lab: Lab) -> Iterator[None]:
    """Let the server take its time with a message whose dot it has read."""
    stopped = processes(lab, "cleanup")
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def throttle(pid: int = 0, port: int = 0) -> Decision:
    return Decision(0.0, "throttle", V4, "mx", "errors", 0, 600.0, "", pid=pid, port=port)


def test_a_ban_leaves_a_message_its_reply(lab: Lab, guard: Daemon, client: Client) -> None:
    """The client learns that its message was taken, once, though its own packets are dropped."""
    guard.start()
    subject = netns.unique("once")
    client.up_to_data()
    with slow_cleanup(lab):
        client.sock.sendall(f"Subject: {subject}\r\n\r\ntext\r\n.\r\n".encode())
        banned(lab, guard, [V4], "garbage", "mx")
        assert sessions(lab, V4)
    assert client.reply().startswith("250 2.0.0 Ok: queued")
    netns.until(partial(no_sessions, lab, V4), "its session is over")
    netns.until(lambda: copies(lab, subject), "the message is delivered")
    assert copies(lab, subject) == 1


def test_a_throttle_leaves_a_message_its_reply(lab: Lab, client: Client) -> None:
    subject = netns.unique("once")
    port = client.sock.getsockname()[1]
    endings = Endings()
    client.up_to_data()
    with slow_cleanup(lab), lab.server.entered():
        client.sock.sendall(f"Subject: {subject}\r\n\r\ntext\r\n.\r\n".encode())
        assert endings.end([throttle(port=port)], PORTS, 0.0) == 0
        assert endings.end([], PORTS, 1.0) == 0
        assert len(endings.pending) == 1
    assert client.reply().startswith("250 2.0.0 Ok: queued")
    with lab.server.entered():
        netns.until(lambda: endings.end([], PORTS, 1.0) == 1, "the session is ended")
    assert client.is_over()
    netns.until(lambda: copies(lab, subject), "the message is delivered")
    assert copies(lab, subject) == 1


def test_the_session_of_an_smtpd_is_ended_and_no_other(lab: Lab, client: Client) -> None:
    """Its pid, which is in Postfix's log, leads to it: ports are not logged by default."""
    other = Client(lab)
    with other.sock, other.file:
        port = f":{other.sock.getsockname()[1]}"
        shown = lab.server.run("ss", "-Htnp", "state", "established", "dport", "=", port).stdout
        pid = int(shown.partition(",pid=")[2].partition(",")[0])
        for each in (client, other):
            assert each.say("HELO x.example").startswith("250 ")
        endings = Endings()
        with lab.server.entered():
            netns.until(partial(answered, other), "the kernel shows that it was answered")
            endings.end([throttle(pid)], PORTS, 0.0)
            netns.until(lambda: not endings.pending or endings.end([], PORTS, 1.0), "it is ended")
        assert other.is_over()
        assert client.say("HELO x.example").startswith("250 ")
        assert client.say("QUIT").startswith("221 ")
