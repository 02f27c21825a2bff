import errno
import multiprocessing
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC
from itertools import count
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.model import Event
from throttled.parse.parser import Parser
from throttled.skipped import Skipped
from throttled.sources import parsing
from throttled.sources.parsing import Parsed, parse

REFERENCE = 1_795_600_000.0
#: Of these it is not known how long they are: a process parses them.
PIPE = "-"


def log(sessions: int) -> list[str]:
    """Return lines of which some are no events, and some repeat the event before."""
    lines = []
    for number in range(sessions):
        head = f"Nov 21 09:{number // 60 % 60:02}:{number % 60:02} mx"
        client = f"unknown[198.51.100.{number % 250}]"
        lines += [
            f"{head} postfix/smtpd[{number}]: connect from {client}",
            f"{head} postfix/smtpd[{number}]: lost connection after AUTH from {client}",
            f"{head} last message repeated {1 + number % 3} times",
            f"{head} last message repeated 2 times",
            f"{head} cron[7]: nothing",
        ]
    return lines


def batches(lines: list[str], size: int) -> Iterator[tuple[list[str], int]]:
    for start in range(0, len(lines), size):
        yield lines[start : start + size], start + size


def parsed(lines: list[str], size: int, path: str = PIPE) -> list[Parsed]:
    return list(parse(path, batches(lines, size), Parser(UTC, REFERENCE)))


def endless(path: str = PIPE) -> Generator[Parsed, None, None]:
    """Yield more than the pipe between the processes takes, so that the other one does not end."""
    yield from parse(path, ((log(100), n) for n in count()), Parser(UTC, REFERENCE))


def expected(lines: list[str]) -> list[Event]:
    parser = Parser(UTC, REFERENCE)
    return [event for line in lines if (event := parser.event(line)) is not None]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that there are two processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_what_comes_out_is_what_one_parser_gives(
    processors: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever line a batch ends at: a repetition is that of the line before."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    lines = log(40)
    parts = parsed(lines, size)
    assert [event for part in parts for event in part.events] == expected(lines)
    assert [part.kinds for part in parts] == [Counter(e.kind for e in p.events) for p in parts]
    assert [part.lines for part in parts] == [len(some) for some, _ in batches(lines, size)]
    assert [part.consumed for part in parts] == [end for _, end in batches(lines, size)]
    assert not any(part.failed for part in parts)


@pytest.mark.usefixtures("two")
def test_only_a_long_log_is_worth_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "_WORTH", 10)
    path = tmp_path / "mail.log"
    for text, worth in (("123456789", 0), ("1234567890", 1)):
        path.write_text(text)
        with closing(endless(str(path))) as parts:
            next(parts)
            assert len(multiprocessing.active_children()) == worth
    path.unlink()
    assert len(parsed(log(3), 2, str(path))) == 8


@pytest.mark.parametrize("path", [PIPE, "/nonexistent"])
@pytest.mark.usefixtures("two")
def test_a_line_that_raises_is_named_and_those_after_it_are_parsed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, after = log(3), expected(log(3))[4:]  # of the sessions after the first
    real = Parser.event

    def event(self: Parser, line: str) -> object:
        if line in lines[1:4:2]:
            raise RuntimeError
        return real(self, line)

    monkeypatch.setattr(Parser, "event", event)
    parts = parsed(lines, 4, path)
    assert [line for part in parts for line in part.failed] == [lines[1], lines[3]]
    found = [event for part in parts for event in part.events]
    assert [event.kind for event in found[:2]] == ["connect", "connect"]  # and its repetition
    assert found[2:] == after
    skipped = Skipped()
    for part in parts:
        part.report(skipped)
    assert skipped.counts == {"line": 2}


@pytest.mark.parametrize("error", [SourceError("it is damaged", "test it"), RuntimeError("new")])
@pytest.mark.usefixtures("two")
def test_what_reading_raises_is_raised_after_the_lines_before_it(error: Exception) -> None:
    def read() -> Iterator[tuple[list[str], int]]:
        yield log(1), 1
        raise error

    parts = parse(PIPE, read(), Parser(UTC, REFERENCE))
    assert next(parts).lines == 5
    with pytest.raises(type(error), match=str(error)) as raised:
        next(parts)
    assert vars(raised.value) == vars(error)  # with the hint
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("two")
def test_a_process_that_is_killed_is_an_error() -> None:
    parts = endless()
    next(parts)
    (process,) = multiprocessing.active_children()
    process.kill()
    with pytest.raises(SourceError, match="killed"):
        list(parts)


@pytest.mark.usefixtures("two")
def test_nobody_waits_for_what_is_not_asked_for() -> None:
    with closing(endless()) as parts:  # as a loop does that is left
        next(parts)
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("two")
def test_without_another_process_it_is_parsed_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", fork)
    lines = log(3)
    assert [e for part in parsed(lines, 4) for e in part.events] == expected(lines)


@pytest.mark.usefixtures("two")
def test_a_process_whose_parent_receives_no_more_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    items = parse("/nonexistent", batches(log(3), 4), Parser(UTC, REFERENCE))
    process = multiprocessing.get_context("fork").Process(target=parsing._run, args=(items, sender))
    receiver.close()
    process.start()
    sender.close()
    process.join(30)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""


_PARENT = """
import multiprocessing, os, signal
from datetime import UTC
from throttled.parse.parser import Parser
from throttled.sources.parsing import parse
os.sched_getaffinity = lambda _pid: {0, 1}
wait, more = os.pipe()
def batches():
    yield [""], 1
    os.read(wait, 1)
    yield [""], 2
    os.read(wait, 1)
parts = parse("-", batches(), Parser(UTC, 0.0))
next(parts)
(child,) = multiprocessing.active_children()
os.kill(child.pid, signal.SIGINT)
os.write(more, b"x")
assert next(parts).consumed == 2
print(child.pid, flush=True)
signal.pause()
"""


def test_a_process_ignores_interrupts_and_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()  # no clean-up runs
    ended = select.poll()
    ended.register(child)
    assert ended.poll(30_000)
    os.close(child)
