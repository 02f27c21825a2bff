"""The visit, to a server of the test's own that writes its own log. Postfix: tests/system."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from throttled.errors import NotRunningError, ThrottledError
from throttled.facts import Facts, Service
from throttled.health.probes.arrival import check
from throttled.model import Finding

LINE = "{} mx postfix/smtpd[7]: connect from localhost[127.0.0.1]\n"


@contextmanager
def served(
    visited: Callable[[], None], said: Callable[[str], None] = lambda _: None
) -> Iterator[Facts]:
    """Greet visitors; `visited` is called as soon as one is there, `said` with what it says."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    client, _ = server.accept()
                    with client:
                        visited()
                        client.sendall(b"220 mx ESMTP\r\n")
                        said(client.recv(100).decode().strip())
                        client.sendall(b"221 Bye\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        yield Facts(services=(Service("/x", "smtp", "smtpd", "postfix", port, "mx"),))
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def visit(tmp_path: Path, *lines: str) -> list[Finding]:
    log = tmp_path / "mail.log"
    log.write_text(LINE.format("2026-01-01T00:00:00Z"))  # an old one proves nothing

    def write() -> None:
        with log.open("a") as file:
            file.writelines(lines)

    with served(write) as facts:
        return list(check(facts, [str(log)], wait=0.5))


class Visits:
    """A log that other hosts write too: each visit's line follows one of `other`."""

    def __init__(self, path: Path, *, forbidden: bool = True) -> None:
        self.log = path / "mail.log"
        self.log.touch()
        self.forbidden = forbidden  # what is no command of SMTP is logged
        self.learnt: list[str] = []
        self.refusal: ThrottledError | None = None

    def write(self, host: str, text: str) -> None:
        line = f"{now()} {host} postfix/smtpd[7]: {text}\n"
        with self.log.open("a") as file:
            file.write(line)

    def visited(self) -> None:
        for host in ("other.example.org", "mx.example.net"):
            self.write(host, "connect from localhost[127.0.0.1]")

    def said(self, line: str) -> None:
        if self.forbidden and line != "QUIT":
            self.write(
                "mx.example.net", f"warning: non-SMTP command from localhost[127.0.0.1]: {line}"
            )

    def learn(self, name: str) -> str:
        if self.refusal:
            raise self.refusal
        self.learnt.append(name)
        return "done"

    def check(self, *names: str) -> Finding:
        with served(self.visited, self.said) as found:
            facts = replace(found, hostnames=frozenset(names))
            return list(check(facts, [str(self.log)], wait=0.5, learn=self.learn))[-1]


def test_the_name_under_which_the_visit_arrived_is_recorded(tmp_path: Path) -> None:
    """Not that of another host, whose line about a visitor of its own came first."""
    visits = Visits(tmp_path)
    found = visits.check("renamed.example.net")
    assert (found.state, visits.learnt) == ("ok", ["mx.example.net"])
    assert "this host is mx.example.net" in found.what


def test_a_name_that_is_known_is_not_recorded_again(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    assert "clock" in visits.check("MX.example.net").what
    assert "clock" in visits.check("mx").what
    assert "clock" in visits.check().what
    assert visits.learnt == []


def test_a_name_that_cannot_be_proved_or_recorded(tmp_path: Path) -> None:
    visits = Visits(tmp_path, forbidden=False)
    found = visits.check("renamed")
    assert (found.state, visits.learnt) == ("fault", [])
    assert "hosts = [" in found.hint
    visits.forbidden, visits.refusal = True, NotRunningError("no daemon")
    found = visits.check("renamed")
    assert found.state == "fault"
    assert "not recorded: no daemon" in found.what


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
    (finding,) = visit(tmp_path)
    assert finding.state == "fault"
    assert "within 0.5 s" in finding.what


def test_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "mail.log").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    facts = Facts(services=(Service("/x", "smtp", "smtpd", "postfix", port, "mx"),))
    (finding,) = check(facts, [str(tmp_path / "mail.log")])
    assert (finding.state, "nothing answers" in finding.what) == ("warning", True)


def test_without_a_service_there_is_nothing_to_try(tmp_path: Path) -> None:
    assert list(check(Facts(), [str(tmp_path)])) == []
