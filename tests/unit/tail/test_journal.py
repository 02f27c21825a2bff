"""Following a real systemd-journald, run manually in a mount namespace of its own.

The tests run in one thread, which alone is in that namespace: what it opens and what it starts
sees the private journal, everybody else the host's.
"""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from pwd import getpwnam
from typing import Self

import pytest

from lab.mail.journald import PROGRAM, SOCKET, Journald, private_mounts
from lab.network import netns
from throttled.analysis.limits import Reader
from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.log_paths import JOURNAL, container_journal
from throttled.operator.fatal import Watch
from throttled.parse.parser import Parser
from throttled.sources import history
from throttled.tail import journal, sdjournal
from throttled.tail.behind import before
from throttled.tail.journal import JournalTail
from throttled.tail.lines import MAX_LINE
from throttled.tail.past import Place, pieces
from throttled.tail.position import Position
from throttled.tail.readback import lines_at

BOUND = netns.DEADMAN  # seconds to wait for anything

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="systemd-journald is not installed"),
]


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, initializer=private_mounts) as executor:
        yield executor


@pytest.fixture
def inside(
    thread: ThreadPoolExecutor, tmp_path: Path
) -> Iterator[Callable[[Callable[[Journald], None]], None]]:
    """What runs a function in the namespace, with a new journald."""
    journald = Journald(tmp_path)

    def run(test: Callable[[Journald], None]) -> None:
        journald.start("RateLimitIntervalSec=0")
        test(journald)

    yield lambda test: thread.submit(run, test).result(60)
    journald.stop()
    journald.notify.close()
    thread.submit(shutil.rmtree, "/run/log/journal").result(BOUND)


def send(text: str, *, user: str = "root", tag: str = "postfix/smtpd", priority: int = 22) -> None:
    """Log as a process of that user; the kernel lets root say who it is."""
    credentials = struct.pack("iII", os.getpid(), getpwnam(user).pw_uid, 0)
    entry = f"<{priority}>Nov 22 16:12:00 {tag}[123]: {text}".encode("latin-1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
        sender.sendmsg([entry], ancillary, 0, SOCKET)


def send_contained(text: str, *, container: str = "mail", user: str = "root") -> None:
    """Log as dockerd and conmon do what a container wrote: a tag, but no facility."""
    credentials = struct.pack("iII", os.getpid(), getpwnam(user).pw_uid, 0)
    fields = {
        "MESSAGE": text,
        "PRIORITY": "6",
        "CONTAINER_ID": "0123456789ab",
        "CONTAINER_NAME": container,
        "CONTAINER_TAG": "0123456789ab",
        "SYSLOG_IDENTIFIER": "0123456789ab",
    }
    entry = "".join(f"{name}={value}\n" for name, value in fields.items()).encode("latin-1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
        sender.sendmsg([entry], ancillary, 0, "/run/systemd/journal/socket")


def texts(lines: list[str]) -> list[str]:
    """What follows the header."""
    return [line.partition("]: ")[2] for line in lines]


class Follower:
    """Reads like the daemon: when the descriptor is readable."""

    def __init__(
        self, position: Position | None = None, *, from_start: bool = False, path: str = JOURNAL
    ) -> None:
        self.tail = JournalTail(position, from_start=from_start, path=path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tail.close()

    def until(self, last: str) -> list[str]:
        """The texts up to one that must come."""
        got: list[str] = []
        deadline = time.monotonic() + BOUND
        while last not in got:
            left = deadline - time.monotonic()
            assert left > 0, got
            select.select([self.tail], [], [], left)
            if batch := self.tail.read():
                assert len(batch.lines) == len(batch.offsets)
                got += texts(batch.lines)
        return got


Inside = Callable[[Callable[[Journald], None]], None]


def test_lines_as_in_a_log_file(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            before_it = time.time()
            send("connect from unknown[198.51.100.7]\xff")
            while not (batch := follower.tail.read()):
                select.select([follower.tail], [], [], BOUND)
        stamp, host, rest = batch.lines[0].split(" ", 2)
        assert rest == "postfix/smtpd[123]: connect from unknown[198.51.100.7]\xff"
        assert host == socket.gethostname()
        assert stamp[19] == "."
        assert stamp.endswith("+00:00")
        at = batch.offsets[0] / 1e6
        assert stamp.startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)))
        assert abs(at - before_it) < BOUND
        assert (batch.path, batch.device, batch.inode, batch.done) == (JOURNAL, 0, 0, True)

    inside(test)


def test_forged_lines_are_not_seen(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            for user in ("nobody", "www-data", "games"):
                send(f"forged by {user}", user=user)
            send("of another facility", priority=3 << 3 | 6)
            send("by postfix", user="postfix")
            send("by root")
            assert follower.until("by root") == ["by postfix", "by root"]

    inside(test)


def test_newline_makes_no_second_line(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            fields = b"SYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=postfix/smtpd\nMESSAGE\n"
            message = b"one\nNov 22 16:12:00 host postfix/smtpd[1]: two"
            entry = fields + struct.pack("<Q", len(message)) + message + b"\n"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(entry, "/run/systemd/journal/socket")
            send("end")
            lines = follower.until("end")
            assert lines[0] == "one?Nov 22 16:12:00 host postfix/smtpd[1]: two"
            assert len(lines) == 2

    inside(test)


def test_over_long_line(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            send("x" * 20_000)
            send("end")
            long, _end = follower.until("end")
            assert MAX_LINE - 200 < len(long) < MAX_LINE
            assert follower.tail.state().over_long == 1

    inside(test)


def test_begins_with_what_comes(inside: Inside) -> None:
    def test(_: Journald) -> None:
        send("before")
        with Follower(from_start=True) as first:
            assert first.until("before") == ["before"]
        with Follower() as second:
            assert second.tail.position == first.tail.position
            send("after")
            assert second.until("after") == ["after"]

    inside(test)


def test_begins_in_an_empty_journal(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            assert follower.tail.read() is None
            assert follower.tail.position is None
            send("first")
            assert follower.until("first") == ["first"]

    inside(test)


def test_restart_goes_on_at_the_cursor(inside: Inside) -> None:
    def test(journald: Journald) -> None:
        with Follower() as first:
            send("one")
            first.until("one")
        send("two")
        journald.rotate()
        send("three")
        with Follower(first.tail.position) as second:
            assert second.until("three") == ["two", "three"]
            assert second.tail.state().gaps == 0
            send("four")
            assert second.until("four") == ["four"]

    inside(test)


def test_rotation_while_following(inside: Inside) -> None:
    def test(journald: Journald) -> None:
        with Follower() as follower:
            got = []
            for number in range(40):
                send(f"{number}")
                if number % 10 == 5:
                    journald.rotate()
            got = follower.until("39")
            assert got == [str(number) for number in range(40)]

    inside(test)


def test_position_was_vacuumed(inside: Inside) -> None:
    def test(journald: Journald) -> None:
        with Follower() as first:
            send("one")
            first.until("one")
        journald.rotate()
        send("two")
        subprocess.run(["journalctl", "--vacuum-files=1"], check=True, capture_output=True)
        with Follower(first.tail.position) as second:
            assert second.until("two") == ["two"]
            assert second.tail.state().gaps == 1

    inside(test)


def test_vacuum_while_following(inside: Inside) -> None:
    def test(journald: Journald) -> None:
        with Follower() as follower:
            send("one")
            follower.until("one")
            journald.rotate()
            subprocess.run(["journalctl", "--vacuum-files=1"], check=True, capture_output=True)
            send("two")
            assert follower.until("two") == ["two"]
            assert follower.tail.position
            with Follower(follower.tail.position) as again:
                assert again.tail.state().gaps == 0

    inside(test)


def test_journald_restarted_while_following(inside: Inside) -> None:
    def test(journald: Journald) -> None:
        with Follower() as follower:
            send("one")
            follower.until("one")
            journald.process.send_signal(signal.SIGKILL)
            journald.process.wait(BOUND)
            journald.start("RateLimitIntervalSec=0")
            send("two")
            assert follower.until("two") == ["two"]

    inside(test)


def test_suppressed_lines_are_reported(inside: Inside, tmp_path: Path) -> None:
    """Journald limits the rate of units only: here, it sees us as a process of Postfix's."""
    unit = tmp_path / "cgroup"
    unit.write_text("1:name=systemd:/system.slice/x.service\n0::/system.slice/x.service\n")
    cgroup = f"/proc/{os.getpid()}/cgroup"

    def test(journald: Journald) -> None:
        journald.stop()
        journald.start("RateLimitIntervalSec=1s", "RateLimitBurst=1")
        subprocess.run(["mount", "--bind", unit, cgroup], check=True)
        suppressed: list[str] = []
        try:
            with Follower() as follower:
                deadline = time.monotonic() + BOUND
                while not suppressed and time.monotonic() < deadline:  # until the interval is over
                    send("again")
                    select.select([follower.tail], [], [], 0.1)
                    if batch := follower.tail.read():
                        suppressed = [line for line in batch.lines if "Suppressed" in line]
        finally:
            subprocess.run(["umount", cgroup], check=True)
        assert " systemd-journald[" in suppressed[0]
        assert texts(suppressed)[0].endswith(" messages from x.service")

    inside(test)


def test_batches_are_bounded(inside: Inside) -> None:
    def test(_: Journald) -> None:
        for number in range(1200):
            send(f"{number:04}")
        with Follower(from_start=True) as follower:
            follower.until("1199")
        position = follower.tail.position
        with Follower(from_start=True) as follower:
            first = follower.tail.read()
            assert first
            assert len(first.lines) == journal.MAX_LINES
            assert not first.done
            few = follower.tail.read(100)
            assert few
            assert (len(few.lines), few.done) == (2, False)
            rest = follower.until("1199")
            assert texts(first.lines + few.lines) + rest == [f"{n:04}" for n in range(1200)]
            assert follower.tail.position == position
            state = follower.tail.state()
            assert (state.lines, state.path) == (1200, JOURNAL)
            assert abs(state.last_line - time.time()) < BOUND

    inside(test)


def test_latency(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower, Follower() as beside:
            timer = Path(f"/proc/self/fdinfo/{follower.tail._timer.fileno()}").read_text()
            assert f"it_interval: (0, {journal.INTERVAL * 1e9:.0f})" in timer
            for number in range(50):
                send(f"{number}")
                beside.until(f"{number}")  # it is there for all who look
                select.select([follower.tail], [], [], BOUND)
                batch = follower.tail.read()
                assert batch
                assert texts(batch.lines) == [f"{number}"]

    inside(test)


def test_nothing_new_is_cheap(inside: Inside) -> None:
    def test(_: Journald) -> None:
        send("one")
        with Follower(from_start=True) as follower:
            follower.until("one")
            least = [1.0, 1.0]
            for _round in range(20):  # the least of many, in CPU time: this machine may be busy
                times = [time.thread_time()]
                for _number in range(50):
                    assert follower.tail.read() is None
                times.append(time.thread_time())
                for _number in range(50):
                    Path("/run/log").stat()
                times.append(time.thread_time())
                least = list(map(min, least, [times[1] - times[0], times[2] - times[1]]))
            assert least[0] < 2 * least[1], least  # a quarter today

    inside(test)


def test_looks_less_often_when_it_is_quiet(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower, monkeypatch.context() as patch:
            patch.setattr(journal, "QUIET", -1.0)
            assert follower.tail.read() is None
            assert follower.tail._timer.interval == journal.IDLE_INTERVAL
            patch.undo()
            send("one")
            follower.until("one")
            assert follower.tail.read() is None
            assert follower.tail._timer.interval == journal.INTERVAL

    inside(test)


def test_failure_after_some_lines(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: a journal that is damaged at the right place cannot be had here."""

    def test(_: Journald) -> None:
        for number in range(3):
            send(f"{number}")
        with Follower(from_start=True) as follower:
            follower.until("2")
        with Follower(from_start=True) as follower, monkeypatch.context() as patch:
            real = follower.tail._reader.next
            answers = iter([True, True])

            def fail() -> bool:
                if next(answers, False):
                    return real()
                raise SourceError("damaged")

            patch.setattr(follower.tail._reader, "next", fail)
            batch = follower.tail.read()
            assert batch
            assert texts(batch.lines) == ["0", "1"]
            with pytest.raises(SourceError, match="damaged"):
                follower.tail.read()
            patch.undo()
            assert follower.until("2") == ["2"]

    inside(test)


def test_before(inside: Inside) -> None:
    def test(_: Journald) -> None:
        for number in range(600):
            send(f"{number:04}")
        with Follower(from_start=True) as follower:
            follower.until("0599")
            send("later")
            follower.until("later")
            send("not read yet")
            assert follower.tail.position
            batches = list(before(follower.tail.position, 1_000_000))
            lines = [line for batch in batches for line in batch.lines]
            assert texts(lines) == [*(f"{n:04}" for n in range(600)), "later"]
            assert [len(batch.lines) for batch in batches] == [512, 89]
            size = len(lines[-2]) + len(lines[-1])
            (batch,) = before(follower.tail.position, size)
            assert batch.lines == lines[-2:]
            assert batch.position == follower.tail.position
            assert list(before(follower.tail.position, 10)) == []

    inside(test)


def test_backwards(inside: Inside) -> None:
    """The latest first, in chunks in order; each chunk says where to go on after a restart."""

    def test(_: Journald) -> None:
        for number in range(1200):
            send(f"{number:04}")
        with Follower(from_start=True) as follower:
            follower.until("1199")
            begin = follower.tail.position
            assert begin
            send("later")
            follower.until("later")
        place = Place(begin)
        found = [(texts(p.lines), p.place) for p in pieces(place, 0.0, 1)]
        every = [f"{n:04}" for n in range(1200)]
        assert [len(lines) for lines, _ in found] == [512, 512, 176]
        assert [text for lines, _ in reversed(found) for text in lines] == every
        again = list(pieces(found[0][1], 0.0, 1))
        assert [text for p in reversed(again) for text in texts(p.lines)] == every[:688]
        assert len(list(pieces(place, time.time() + 60, 1))) == 1  # all is older

    inside(test)


def test_before_a_position_that_is_gone(inside: Inside) -> None:
    def test(_: Journald) -> None:
        send("one")
        with Follower(from_start=True) as follower:
            follower.until("one")
            position = follower.tail.position
            assert position
            parts = position.fingerprint.split(b";")
            parts = [b"i=fffff" if part.startswith(b"i=") else part for part in parts]
            gone = Position(JOURNAL, 0, 0, 0, b";".join(parts))
            assert [texts(batch.lines) for batch in before(gone, 1000)] == [["one"]]

    inside(test)


def test_lines_read_back(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with Follower() as follower:
            send("one")
            send("two")
            lines: list[str] = []
            times: list[int] = []
            while len(lines) < 2:
                select.select([follower.tail], [], [], BOUND)
                if batch := follower.tail.read():
                    lines += batch.lines
                    times += batch.offsets
        wanted = [times[1], 5, times[0], 2**62]
        assert lines_at(JOURNAL, 0, 0, b"", wanted) == [lines[1], None, lines[0], None]

    inside(test)


def test_garbage_for_a_cursor(inside: Inside) -> None:
    def test(_: Journald) -> None:
        with pytest.raises(SourceError, match="seek_cursor: Invalid argument") as caught:
            JournalTail(Position(JOURNAL, 0, 0, 0, b"garbage"))
        assert caught.value.hint

    inside(test)


def test_a_container_that_logs_to_the_journal(inside: Inside) -> None:
    """Its own lines only, each read by the parser as it stands in `docker logs`."""
    mail = container_journal("mail")
    front = "connect from unknown[198.51.100."

    def test(_: Journald) -> None:
        with Follower(path=mail) as follower:
            send(f"{front}1]")  # the host's Postfix
            send_contained(f"postfix/smtpd[7]: {front}2]", container="web")
            send_contained(f"postfix/smtpd[7]: {front}3]", user="nobody")
            send_contained(f"postfix/smtpd[7]: {front}4]")
            send_contained(f"Nov 22 10:00:00 mx postfix/smtpd[7]: {front}5]\r")
            send_contained(f"INFO    postfix/smtpd[7]: {front}6]")
            lines: list[str] = []
            while len(lines) < 3:
                select.select([follower.tail], [], [], BOUND)
                batch = follower.tail.read()
                lines += batch.lines if batch else []
            assert batch
            assert batch.path == batch.position.path == follower.tail.state().path == mail
            parse = Parser(UTC, time.time()).event
            events = [event for line in lines if (event := parse(line))]
            assert [event.client for event in events] == [f"198.51.100.{n}" for n in (4, 5, 6)]
            assert abs(events[0].time - time.time()) < BOUND
            found = [line for batch in before(batch.position, 10_000) for line in batch.lines]
            assert found == lines
            assert lines_at(mail, 0, 0, b"", batch.offsets[-1:]) == lines[-1:]
            place = Place(batch.position)
            assert [p.name for p in pieces(place, 0.0, 10_000)] == [mail]
            send_contained("postfix/smtpd[7]: after")
        with Follower(batch.position, path=mail) as follower:
            assert follower.until("after") == ["after"]

    inside(test)


def test_who_reads_logs_for_a_command_reads_a_container_too(inside: Inside) -> None:
    mail = container_journal("mail")

    def test(_: Journald) -> None:
        with Follower(path=mail) as follower:
            send_contained("postfix/smtpd[7]: too many errors after RCPT from x[198.51.100.7]")
            send_contained("postfix/smtpd[7]: last")
            follower.until("last")
        limits = Reader({"/etc/postfix": ["postfix"]}, Facts(), UTC, 0.0)
        limits.read([mail])
        assert limits.unread == []
        assert limits.found["/etc/postfix"].hits["smtpd_hard_error_limit"].count == 1
        with Watch([mail], ["postfix"]) as watch, Follower(path=mail) as follower:
            send_contained("postfix/smtpd[7]: fatal: no such map")
            follower.until("fatal: no such map")
            assert watch.read() == "smtpd: fatal: no such map"

    inside(test)


def test_no_journal(thread: ThreadPoolExecutor) -> None:
    def test() -> None:
        with pytest.raises(SourceError, match="no journal file") as caught:
            JournalTail(None)
        assert "systemd-journal" in caught.value.hint

    thread.submit(test).result(BOUND)


def test_no_libsystemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: the library is there."""

    def missing(name: str) -> None:
        raise OSError(name)

    sdjournal._library.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sdjournal, "CDLL", missing)
        with pytest.raises(SourceError, match="no libsystemd"):
            JournalTail(None)
    sdjournal._library.cache_clear()


def test_no_postfix_user(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: the user is there."""

    def unknown(name: str) -> None:
        raise KeyError(name)

    def test(_: Journald) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(journal, "getpwnam", unknown)
            follower = Follower()
        with follower:
            send("by postfix", user="postfix")
            send("by root")
            assert follower.until("by root") == ["by root"]

    inside(test)


def test_nothing_is_left_open(inside: Inside) -> None:
    def test(_: Journald) -> None:
        descriptors = Path("/proc/self/fd")
        open_before = len(list(descriptors.iterdir()))
        send("one")
        with Follower(from_start=True) as follower:
            follower.until("one")
            assert follower.tail.position
            list(before(follower.tail.position, 1000))
            lines_at(JOURNAL, 0, 0, b"", [1])
        with pytest.raises(SourceError):
            JournalTail(Position(JOURNAL, 0, 0, 0, b"garbage"))
        assert len(list(descriptors.iterdir())) == open_before

    inside(test)


def test_what_the_journal_holds_from_its_beginning(inside: Inside) -> None:
    """As `throttled suggest` and `replay` read it: to its end, then no further."""

    def test(_: Journald) -> None:
        for number in range(700):  # more than a batch holds
            send(f"connect from unknown[198.51.100.{number % 250}]")
        expected = [f"connect from unknown[198.51.100.{number % 250}]" for number in range(700)]
        deadline = time.monotonic() + BOUND
        found: list[str] = []
        while found != expected and time.monotonic() < deadline:  # journald takes its time
            found = [text for lines, _ in history.read(JOURNAL) for text in texts(lines)]
        assert found == expected

    inside(test)
