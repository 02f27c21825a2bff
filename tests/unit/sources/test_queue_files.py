"""Messages that were queued before what is known of the log."""

import asyncio
import errno
from pathlib import Path

import pytest

from throttled.decide.queue import Queue
from throttled.errors import HostError
from throttled.facts import Facts, Spool
from throttled.sources import queue_files

FACTS = Facts(mynetworks=("127.0.0.0/8", "198.51.100.0/24"))
SPOOL = Spool("/etc/postfix", "/var/spool/postfix", "postfix", 100)
AWAY = Spool("/away", "/var/spool/away", "postfix", 100)
LIST = "{}     213 Sun Nov 29 12:00:52  a@x.test\n"
FILES = {
    "3A5C01F21": "sender: a@x.test\nnamed_attribute: sasl_username=Alice\n",
    "3A5C01F22": "sender: a@x.test\nnamed_attribute: client_address=198.51.100.9\n",
    "3A5C01F23": "sender: a@x.test\nnamed_attribute: client_address=203.0.113.9\n",
    "3A5C01F24": "sender: a@x.test\nnamed_attribute: client_address=127.0.0.1\n",
    "3A5C01F25": "sender: a@x.test\n",
    "3A5C01F26": "sender: \nnamed_attribute: sasl_username=alice\n",
}


class Postfix:
    """Answers for postqueue and postcat."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, *argv: str, seconds: float) -> str:
        assert seconds > 0
        if argv[:3] == ("postqueue", "-c", "/away"):
            raise HostError("postqueue cannot be run")
        if argv[0] == "postqueue":
            return "".join(map(LIST.format, [*FILES, "3A5C01F27"]))
        self.asked.append(argv[-1])
        if argv[-1] not in FILES:
            raise HostError("No such file or directory")
        return FILES[argv[-1]]


def test_whose_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_files, "PAUSE", 0.0)
    monkeypatch.setattr(queue_files, "AGAIN", (0.0, 0.0))
    queue, postfix = Queue(FACTS), Postfix()
    known = asyncio.run(queue_files.learn(queue, [AWAY, SPOOL], postfix, lambda _: True))
    assert known == len(queue) == 2
    assert queue.subject("3A5C01F21") == "account:alice"
    assert queue.shown("account:alice") == "account:Alice"
    assert queue.subject("3A5C01F22") == "198.51.100.9"
    assert postfix.asked == [*FILES, "3A5C01F27"]


@pytest.mark.parametrize(("stopped", "known"), [(1, 2), (2, 0)])
def test_a_postfix_that_starts_later(
    stopped: int, known: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No command is run meanwhile: it would log that it fails."""
    monkeypatch.setattr(queue_files, "PAUSE", 0.0)
    monkeypatch.setattr(queue_files, "AGAIN", (0.0, 0.0))
    caplog.set_level("INFO")
    states = iter([*[False] * stopped, True])

    def bound(path: Path) -> bool:
        assert path == Path("/var/spool/postfix/public/showq")
        return next(states)

    postfix = Postfix()
    assert asyncio.run(queue_files.learn(Queue(FACTS), [SPOOL], postfix, bound)) == known
    assert bool(postfix.asked) == bool(known)
    assert ("not attributed: the Postfix of /etc/postfix" in caplog.text) == (known == 0)


def test_what_is_known_is_not_asked_and_never_more_than_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_files, "PAUSE", 0.0)
    monkeypatch.setattr(queue_files, "MESSAGES", 3)
    queue, postfix = Queue(FACTS), Postfix()
    for expected in (["3A5C01F21", "3A5C01F22", "3A5C01F23"], ["3A5C01F23"]):
        postfix.asked.clear()
        asyncio.run(queue_files.learn(queue, [SPOOL], postfix, lambda _: True))
        assert postfix.asked == expected


def test_no_descriptor_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_files, "AGAIN", (0.0,))
    caplog.set_level("INFO")

    def bound(_: Path) -> bool:
        raise OSError(errno.EMFILE, "Too many open files")

    assert asyncio.run(queue_files.learn(Queue(FACTS), [SPOOL], Postfix(), bound)) == 0
    assert "Too many open files" in caplog.text
