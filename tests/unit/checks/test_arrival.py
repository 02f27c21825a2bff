"""The visit, to a server of the test's own that writes its own log. Postfix: tests/system."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from throttled.checks.arrival import check
from throttled.model import Facts, Problem, Service

LINE = "{} mx postfix/smtpd[7]: connect from localhost[127.0.0.1]\n"


@contextmanager
def served(visited: Callable[[], None]) -> Iterator[Facts]:
    """Greet one visitor; `visited` is called as soon as it is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            client, _ = server.accept()
            with client:
                visited()
                client.sendall(b"220 mx ESMTP\r\n")
                client.recv(100)
                client.sendall(b"221 Bye\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        yield Facts(services=(Service("/x", "smtp", "smtpd", "postfix", port, "mx"),))
        thread.join()


def visit(tmp_path: Path, *lines: str) -> list[Problem]:
    log = tmp_path / "mail.log"
    log.write_text(LINE.format("2026-01-01T00:00:00Z"))  # an old one proves nothing

    def write() -> None:
        with log.open("a") as file:
            file.writelines(lines)

    with served(write) as facts:
        return list(check(facts, [str(log)], wait=0.5))


def now(later: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + later))


def test_a_line_that_arrives(tmp_path: Path) -> None:
    other = LINE.format(now()).replace("127.0.0.1", "198.51.100.7")
    arrived, clock = visit(tmp_path, other, LINE.format(now()))
    assert (arrived.state, clock.state) == ("ok", "ok")
    assert f"in {tmp_path}/mail.log" in arrived.what


def test_a_clock_that_is_an_hour_off(tmp_path: Path) -> None:
    arrived, clock = visit(tmp_path, LINE.format(now(-3600)))
    assert (arrived.state, clock.state) == ("ok", "fault")
    assert "-3600 s" in clock.what or "-3601 s" in clock.what


def test_a_line_that_does_not_arrive(tmp_path: Path) -> None:
    (problem,) = visit(tmp_path)
    assert problem.state == "fault"
    assert "within 0.5 s" in problem.what


def test_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "mail.log").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    facts = Facts(services=(Service("/x", "smtp", "smtpd", "postfix", port, "mx"),))
    (problem,) = check(facts, [str(tmp_path / "mail.log")])
    assert (problem.state, "nothing answers" in problem.what) == ("warning", True)


def test_without_a_service_there_is_nothing_to_try(tmp_path: Path) -> None:
    assert list(check(Facts(), [str(tmp_path)])) == []
