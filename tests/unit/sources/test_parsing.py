import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC
from itertools import islice

import pytest

from throttled.host.zone import local_zone
from throttled.parse.parser import Parser
from throttled.sources import parsing
from throttled.sources.parsing import Parsing

REFERENCE = 1_795_600_000.0


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


def expected(lines: list[str]) -> list[object]:
    parser = Parser(UTC, REFERENCE)
    return [parser.event(line) for line in lines]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_WORTH", 0)
    monkeypatch.setattr(parsing, "_PIECE", 3)


def ready(reader: Parsing) -> None:
    """Start the processes, and wait for them."""
    list(reader.parse([(["x"], 1)], REFERENCE))
    assert isinstance(reader._ready, Future)
    reader._ready.result()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_comes_out_is_what_one_parser_gives(count: int) -> None:
    """Whatever line a piece ends at: a repetition is that of the line before."""
    lines = log(40)
    with closing(Parsing(UTC)) as reader:
        reader._count = count
        if count:
            ready(reader)
        for size in (1, 2, 3, 7):
            parsed = list(reader.parse(batches(lines, size), REFERENCE))
            assert [event for part in parsed for event in part.events] == expected(lines)
            assert [line for part in parsed for line in part.lines] == lines
            assert not any(part.failed for part in parsed)
            consumed = [part.consumed for part in parsed]
            assert consumed == sorted(consumed)
            assert consumed[-1] >= len(lines)


def test_another_log_does_not_continue_the_one_before() -> None:
    lines = log(1)
    with closing(Parsing(local_zone())) as reader:
        reader._count = 1
        ready(reader)
        list(reader.parse([(lines[:3], 1)], REFERENCE))
        (part,) = reader.parse([(lines[2:3], 1)], REFERENCE)
        assert part.events == [None]


def test_lines_that_look_like_repetitions_are_not_read_again_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client wrote that into each of its lines."""
    lines = [
        f"Nov 21 09:00:{number:02} mx postfix/smtpd[7]: warning: non-SMTP command from "
        f"unknown[198.51.100.7]: last message repeated {number} times"
        for number in range(60)
    ]
    parsed = 0
    real = Parser.event

    def event(self: Parser, line: str) -> object:
        nonlocal parsed
        parsed += 1
        return real(self, line)

    monkeypatch.setattr(Parser, "event", event)
    with closing(Parsing(UTC)) as reader:
        reader._count = 0
        found = [e for part in reader.parse(batches(lines, 3), REFERENCE) for e in part.events]
    assert parsed <= 4 * len(lines)
    assert found == expected(lines)
    assert None not in found


def test_a_line_that_raises_is_named_and_those_after_it_are_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, after = log(2), expected(log(2))[5:7]
    real = Parser.event

    def event(self: Parser, line: str) -> object:
        if line == lines[1]:
            raise RuntimeError
        return real(self, line)

    monkeypatch.setattr(Parser, "event", event)
    with closing(Parsing(UTC)) as reader:
        reader._count = 0
        parsed = list(reader.parse(batches(lines, 1), REFERENCE))
    assert [part.lines[i] for part in parsed for i in part.failed] == [lines[1]]
    found = [event for part in parsed for event in part.events]
    assert found[0] is not None
    assert found[1] is None
    assert found[5:7] == after


def test_pieces_of_processes_that_were_killed_are_parsed_here() -> None:
    lines = log(100)
    with closing(Parsing(UTC)) as reader:
        reader._count = 1
        ready(reader)
        assert reader._pool is not None
        parts = reader.parse(batches(lines, 3), REFERENCE)
        begun = list(islice(parts, 2))
        for pid in reader._pool._processes:
            os.kill(pid, signal.SIGKILL)
        assert [e for part in [*begun, *parts] for e in part.events] == expected(lines)


_PARENT = """
import os, signal
from datetime import UTC
from throttled.sources import parsing
parsing._WORTH = 0
reader = parsing.Parsing(UTC)
reader._count = 1
list(reader.parse([(["x"], 1)], 0.0))
reader._ready.result()
(child,) = reader._pool._processes
os.kill(child, signal.SIGINT)
assert reader._pool.submit(abs, -1).result() == 1
print(child, flush=True)
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
