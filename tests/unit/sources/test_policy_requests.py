"""The socket where Postfix asks: real connections, answers and limits, in a loop of its own."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.decide.protect import Protection
from throttled.duration import duration
from throttled.enforce.backend import Answers, Ruleset
from throttled.enforce.dispatch import Dispatch
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts, Service, Spool
from throttled.limits import Limit
from throttled.model import Decision, Entry, Report
from throttled.settings import Policy
from throttled.sources import policy_requests, policy_sockets
from throttled.sources.policy_requests import PolicyRequests

INSIDE = "198.51.100.0/24"
RULES = Ruleset({}, (), 1, 60.0, 1, 1000, answers=Answers("defer", inside=(INSIDE,), proxied=True))
DUNNO = b"action=DUNNO\n\n"


def text(**attributes: object) -> bytes:
    values = {"request": "smtpd_access_policy", "protocol_state": "DATA", **attributes}
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode() + b"\n"


def of(user: str, queue_id: str = "3A5C01F2B") -> bytes:
    return text(sasl_username=user, queue_id=queue_id, sender="a@x.test", recipient_count=2)


class Place:
    """A server, the answers behind it, and what it reported."""

    def __init__(self, pipeline: Pipeline, directory: Path) -> None:
        self.pipeline = pipeline
        self.directory = directory
        self.path = directory / "throttled/policy"
        self.both = Dispatch(DryRun())
        self.both.setup(RULES)
        self.reports: list[Report] = []
        self.decisions: list[Decision] = []
        self.connected: list[set[str]] = []
        self.server = PolicyRequests(
            pipeline,
            self.both,
            self.decisions.extend,
            self.reports.extend,
            lambda asked: self.connected.append(set(asked)),
        )
        self.spool = Spool("/etc/postfix", str(directory), getpass.getuser(), 100)

    def facts(self, *spools: Spool) -> Facts:
        services = (Service("/etc/postfix", "smtp", "smtpd", "postfix", 25, "mx", "haproxy"),)
        return Facts(services=services, spools=spools, mynetworks=(INSIDE, "127.0.0.0/8"))

    def put(self, *entries: Entry) -> None:
        assert not self.both.apply(entries).failed


class Asking:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def __call__(self, data: bytes) -> bytes:
        """Return the answer; what there is until the end where there is none."""
        self.writer.write(data)
        try:
            return await asyncio.wait_for(self.reader.readuntil(b"\n\n"), 60.0)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def connection(path: Path) -> AsyncIterator[Asking]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Asking(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def happened(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)


Run = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture
def run(pipeline: Pipeline, tmp_path: Path) -> Run:
    """Return what runs a test in a loop with a server that listens."""

    async def listening(test: Callable[[Place], Awaitable[None]]) -> None:
        place = Place(pipeline, tmp_path)
        place.server.follow(place.facts(place.spool))
        try:
            await test(place)
        finally:
            place.server.close()

    return lambda test: asyncio.run(listening(test))


def test_whose_mail_is_in_no_way_limited_passes(run: Run) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as ask:
            assert await ask(of("alice")) == DUNNO
            assert await ask(text(client_address="203.0.113.9", queue_id="3A5C01F2C")) == DUNNO
            for state in ("RCPT", "END-OF-MESSAGE", "ETRN", "x"):
                assert await ask(text(protocol_state=state)) == DUNNO
        assert place.pipeline.counts.events == {"policy_request": 1}

    run(test)


def test_the_directory_and_the_socket(run: Run) -> None:
    async def test(place: Place) -> None:
        directory = place.path.parent.stat()
        assert (directory.st_mode & 0o7777, directory.st_uid) == (0o710, os.geteuid())
        assert place.path.stat().st_mode & 0o777 == 0o660
        place.server.follow(place.facts())
        assert not place.path.exists()

    run(test)


def test_who_is_throttled_or_banned(run: Run) -> None:
    async def test(place: Place) -> None:
        place.put(
            Entry("account:alice", "submission", "throttle", 60.0),
            Entry("198.51.100.9", "mx", "ban", 60.0),
            Entry("domain:x.test", "submission", "ban", 60.0),
        )
        async with connection(place.path) as ask:
            found = [await ask(text(sasl_username="Alice", queue_id="A1B2C3D4")) for _ in range(4)]
            assert found[0] == DUNNO
            assert b"action=450 4.7.1 " in found[3]
            assert b"action=450 4.7.1 " in await ask(text(client_address="198.51.100.9"))
            assert b"action=450 4.7.1 " in await ask(of("bob"))  # by the domain of its sender
            assert await ask(text(sender="a@x.test")) == DUNNO  # which alone may be forged
        # What was refused is not counted.
        assert place.pipeline.counts.events == {"policy_request": 1}

    run(test)


def test_clients_behind_a_proxy(run: Run) -> None:
    async def test(place: Place) -> None:
        place.put(Entry("203.0.113.9", "mx", "ban", 60.0))
        place.put(Entry("203.0.113.8", "mx", "throttle", 60.0))

        def client(address: str, port: int) -> bytes:
            state = {"protocol_state": "RCPT", "client_port": port, "server_port": 25}
            return text(client_address=address, **state)

        async with connection(place.path) as ask:
            assert (await ask(client("203.0.113.9", 1))).startswith(b"action=421 ")
            assert await ask(client("203.0.113.7", 1)) == DUNNO
            found = [await ask(client("203.0.113.8", port)) for port in (1, 1, 1, 2, 3)]
            assert found[:3] == [DUNNO] * 3  # three recipients of one session
            assert all(each.startswith(b"action=421 ") for each in found[3:])

    run(test)


def test_recipients(run: Run) -> None:
    def rcpt(address: str, **more: object) -> bytes:
        asked = {"protocol_state": "RCPT", "policy_context": "recipient", "recipient": address}
        return text(**{"client_address": "203.0.113.9", "client_port": 7, **asked, **more})

    async def test(place: Place) -> None:
        place.put(Entry("mailbox:bob@a.test", "mx", "ban", 60.0))
        async with connection(place.path) as ask:
            assert b"action=450 4.2.1 " in await ask(rcpt("Bob@a.test"))
            assert await ask(rcpt("alice@a.test")) == DUNNO
            assert await ask(rcpt("bob@a.test", client_address="198.51.100.9")) == DUNNO
            assert await ask(rcpt("bob@a.test", sasl_username="alice")) == DUNNO
            assert not place.server.asked_about("127.0.0.1", 7, "recipient")
            assert await ask(rcpt("bob@a.test", client_address="127.0.0.1")) == DUNNO
        assert place.server.asked_about("127.0.0.1", 7, "recipient")
        assert not place.server.asked_about("127.0.0.1", 7, "data")
        assert place.connected == [{"recipient"}]
        assert place.pipeline.counts.answers == {"defer": 1, "pass": 4}
        assert place.pipeline.counts.events == {}

    run(test)


def test_whether_postfix_asks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as ask:
            await ask(text(protocol_state="RCPT"))  # before there is a message
            assert place.connected == []
            await ask(text(client_address="203.0.113.9"))  # anybody's mail
            assert place.connected == [{"data"}]
            for _ in range(2):
                await ask(of("alice"))
        place.server.tick()
        assert place.connected == [{"data"}]
        monkeypatch.setattr(policy_requests, "_SILENT", -1.0)
        for _ in range(2):
            place.server.tick()
        assert place.connected == [{"data"}, set()]

    run(test)


def test_what_the_configuration_no_longer_asks_about_is_not_asked_from_then_on(run: Run) -> None:
    async def test(place: Place) -> None:
        facts = place.facts(place.spool)
        place.server.follow(replace(facts, asked=frozenset(("data", "recipient"))))
        async with connection(place.path) as ask:
            await ask(text())
        assert place.connected == [{"data"}]
        place.server.follow(replace(facts, asked=frozenset(("data",))))
        assert place.connected == [{"data"}]
        place.server.follow(facts)
        assert place.connected == [{"data"}, set()]

    run(test)


def test_a_limit_is_reported(run: Run) -> None:
    async def test(place: Place) -> None:
        limit = Limit(of="account", count="messages", within=duration("1h"), soft=3)
        place.pipeline.reconfigure(Policy(limits={"mine": limit}), Protection(Facts()))
        async with connection(place.path) as ask:
            for n in range(5):
                assert await ask(of("alice", f"3A5C01F2{n}")) == DUNNO
        await happened(lambda: bool(place.reports))
        (report,) = place.reports
        assert (report.subject, report.value) == ("account:alice", 4)

    run(test)


@pytest.mark.parametrize(
    "data", [b"\n\n", b"GET / HTTP/1.0\r\n\r\n\n\n", of("a") + of("b"), b"x" * 20_000]
)
def test_what_is_no_request_is_answered_and_hung_up(run: Run, data: bytes) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as ask:
            assert await ask(data) == DUNNO
            assert await ask(b"") == b""
        assert place.server.sockets.unreadable == 1
        async with connection(place.path) as ask:
            assert await ask(of("a")) == DUNNO

    run(test)


def test_a_process_has_so_many_connections(run: Run) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as first, connection(place.path) as second:
            assert await first(of("a")) == await second(of("a")) == DUNNO
            async with connection(place.path) as third:
                assert await third(of("a")) == b""
            assert await first(of("a")) == DUNNO
        assert place.server.sockets.refused == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_sockets, "_EACH", 2)
        run(test)


def test_processes_of_another_namespace_are_not_one(run: Run) -> None:
    """Postfix in a container of its own: pid_namespaces(7) shows each of its processes as 0."""

    async def test(place: Place) -> None:
        async with connection(place.path) as first, connection(place.path) as second:
            assert await first(of("a")) == await second(of("a")) == DUNNO

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_sockets, "_EACH", 1)
        patch.setattr(policy_sockets, "credentials", lambda _sock: (0, 0, 0))
        run(test)


def test_a_process_asks_so_often_in_a_second(run: Run) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as ask:
            for _ in range(50):
                assert await ask(of("a")) == DUNNO
            began = now().boot
            assert await ask(of("a")) == DUNNO  # the last before it is read no more
            while now().boot - began < 0.5:
                assert await ask(of("a")) == DUNNO

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_sockets, "_RATE", 10)
        patch.setattr(policy_sockets, "_PAUSE", 0.001)
        run(test)


def test_another_user_is_hung_up(run: Run) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as ask:
            assert await ask(of("a")) == b""
        assert place.server.sockets.refused == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_sockets, "credentials", lambda _sock: (7, 65534, 65534))
        run(test)


def test_a_socket_that_was_removed_is_made_again(run: Run) -> None:
    async def test(place: Place) -> None:
        async with connection(place.path) as before:
            assert await before(of("a")) == DUNNO
            place.path.unlink()
            place.server.tick()
            assert await before(of("a")) == DUNNO
            async with connection(place.path) as after:
                assert await after(of("a")) == DUNNO

    run(test)


def test_where_no_directory_can_be_nobody_asks(run: Run) -> None:
    """As in the sandbox, of queues that it cannot write to: Postfix cannot ask there either."""

    async def test(place: Place) -> None:
        none = Spool("/etc/postfix", f"{place.directory}/none", getpass.getuser(), 100)
        place.server.follow(place.facts(none))
        assert place.server.findings() == []

    run(test)


def test_a_directory_that_cannot_be_made_again_is_reported(run: Run) -> None:
    """As in the sandbox, which may not write to the queue directory."""

    async def test(place: Place) -> None:
        moved = place.directory.rename(f"{place.directory}.moved")
        place.server.tick()
        (finding,) = place.server.findings()
        assert f"no socket {place.path}" in finding.what
        moved.rename(place.directory)
        place.server.tick()
        assert place.server.findings() == []

    run(test)


@pytest.mark.parametrize("spoil", ["no user", "a file", "not ours"])
def test_where_no_socket_can_be(run: Run, spoil: str) -> None:
    async def test(place: Place) -> None:
        place.server.follow(place.facts())
        directory, user = str(place.directory), getpass.getuser()
        if spoil != "no user":
            place.path.parent.rmdir()
        if spoil == "no user":
            user = "nobody-of-that-name"
        elif spoil == "a file":
            place.path.parent.write_text("")
        else:
            place.path.parent.symlink_to("/")
        place.server.follow(place.facts(Spool("/etc/postfix", directory, user, 100)))
        (finding,) = place.server.findings()
        assert finding.state == "warning"
        assert directory in finding.what
        if spoil != "no user":
            place.path.parent.unlink()
        place.server.follow(place.facts(place.spool))
        assert place.server.findings() == []

    run(test)


def test_while_observing_all_pass(pipeline: Pipeline, tmp_path: Path) -> None:
    async def test() -> None:
        place = Place(pipeline, tmp_path)
        place.put(Entry("account:a", "mx", "ban", 60.0), Entry("203.0.113.9", "mx", "ban", 60.0))
        reported: list[Sequence[object]] = []
        server = PolicyRequests(pipeline, None, reported.append, reported.append)
        server.follow(place.facts(place.spool))
        async with connection(place.path) as ask:
            assert await ask(of("a")) == DUNNO
            asked = text(client_address="203.0.113.9", protocol_state="CONNECT")
            assert await ask(asked) == DUNNO
        server.close()

    asyncio.run(test())


def test_an_error_in_counting_costs_no_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("unforeseen")

    async def test(place: Place) -> None:
        limit = Limit(of="account", count="messages", within=duration("1h"), soft=1)
        place.pipeline.reconfigure(Policy(limits={"mine": limit}), Protection(Facts()))
        monkeypatch.setattr(place.pipeline, "settle", fail)
        async with connection(place.path) as ask:
            for n in range(2):
                assert await ask(of("a", f"3A5C01F2{n}")) == DUNNO
            monkeypatch.setattr(place.pipeline.senders, "step", fail)
            assert await ask(of("a")) == DUNNO
            await happened(lambda: place.pipeline.skipped.counts.get("request", 0) == 2)

    run(test)
