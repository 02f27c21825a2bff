"""Postfix that asks a policy server, and senders of mail whose waits are measured."""

import contextlib
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.mail import postfix
from lab.mail.maincf import settle
from lab.mail.postfix import USER, Lab
from lab.mail.session import LETTER, session
from lab.network.netns import until
from throttled.model import Decision, Rate
from throttled.store.store import Store

#: An application server inside mynetworks, and a client with a login.
DEVICE, CLIENT = "198.18.70.8", "198.18.70.7"
ACCOUNT = f"account:{USER}"
#: The limit that `throttle` and `ban` name: without one of inside hosts they would be unbanned.
LIMIT = """
[limits.test]
of = "inside"
count = "messages"
within = "1d"
soft = 1000000
"""
#: A limit of mailboxes that acts.
BOMBED = """
[limits.bombed]
of = "mailbox"
count = "messages"
within = "1h"
soft = 5
mode = "throttle"
"""


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Make a server whose Postfix asks."""
    with postfix.lab() as made:
        connect(made)
        yield made


def connect(lab: Lab, path: str = "throttled/policy", *more: str) -> None:
    """Let Postfix ask before each message's content, and know an inside host.

    Args:
        lab: whose Postfix.
        path: of the socket, below its queue directory.
        more: other parameters, as NAME=VALUE.
    """
    inside = f"mynetworks=127.0.0.0/8 {DEVICE}/32"
    parameters = (inside, f"smtpd_data_restrictions={check(path)}", *more)
    lab.server.run("postconf", "-c", str(lab.mail.config), "-e", *parameters)
    reload(lab)


def check(path: str = "throttled/policy") -> str:
    """Return the restriction that asks at a socket below the queue directory."""
    return f"check_policy_service {{ unix:{path}, timeout=2s, default_action=DUNNO }}"


def reload(lab: Lab) -> None:
    """Let Postfix read its configuration again, and wait until no smtpd has the old one."""
    old = lab.mail.smtpd_pids()
    settle(lab.mail.config / "main.cf")
    lab.mail.reread()
    until(lambda: not old & set(lab.mail.pids()), "no smtpd has the old configuration")


def send(  # noqa: PLR0913 - who, how many, how
    lab: Lab,
    count: int,
    source: str = DEVICE,
    *,
    login: bool = False,
    sessions: bool = False,
    seconds: float = 60.0,
) -> list[float]:
    """Send messages, each once; return the seconds that each accepted one lasted.

    Args:
        lab: to its server.
        count: of messages.
        source: of the client.
        login: whether it logs in, at port 587.
        sessions: whether each message is a session of its own.
        seconds: after which the client gives up a reply.
    """
    times: list[float] = []

    def deliver() -> None:
        client: smtplib.SMTP | None = None
        for _ in range(count):
            began = time.monotonic()
            with contextlib.suppress(smtplib.SMTPException, OSError):
                if client is None:
                    client = session(source, USER if login else "", seconds)
                client.sendmail("someone@example.net", ["alice@example.test"], LETTER)
                times.append(time.monotonic() - began)
            if sessions and client is not None:
                client.close()
                client = None
        if client is not None:
            client.close()

    lab.client.call(deliver)
    return times


def mail_flows(lab: Lab) -> None:
    """Send a message in through port 25, and see it in the mailbox."""
    before = lab.mail.delivered()
    assert len(send(lab, 1, CLIENT)) == 1
    until(lambda: lab.mail.delivered() > before, "the message is delivered")


def at_once(number: int, act: Callable[[], list[float]]) -> list[float]:
    """Do the same in so many threads; return what all of them return."""
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.extend(act())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def decided(path: Path, *decisions: Decision) -> None:
    """Record decisions in the database of a daemon that does not run."""
    store = Store.open(str(path))
    store.record(time.time(), decisions)
    store.close()


def throttle(subject: str, rate: Rate | None = None) -> Decision:
    """Return the decision to throttle a subject for an hour."""
    at = time.time()
    return Decision(at, "throttle", subject, "mx", "test", 0, at + 3600, "test", rate=rate)


def ban(subject: str) -> Decision:
    """Return the decision to ban a subject for an hour."""
    at = time.time()
    return Decision(at, "ban", subject, "mx", "test", 1, at + 3600, "test")


def on_hold(lab: Lab) -> int:
    """Return how many messages are on hold."""
    return len(lab.mail.queued("hold"))


@contextlib.contextmanager
def as_postfix(lab: Lab, code: str, stdin: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Run Python code as the user postfix, which has the path of the socket in `sys.argv[1]`."""
    path = str(lab.mail.home / "queue/throttled/policy")
    command = ("setpriv", "--reuid=postfix", "--regid=postfix", "--clear-groups", sys.executable)
    argv = [*command, "-c", code, path]
    process = lab.server.popen(argv, stdin=stdin, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
