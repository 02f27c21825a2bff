"""The daemon in this process, with a kernel in memory: what it answers, and what it survives.

The kernel, real Postfix, signals and kill -9 are in tests/system.
"""

import asyncio
import gzip
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from lab.daemon.chain import spoil
from lab.mail.maincf import configure
from lab.network import netns
from throttled.clock import now
from throttled.control import client, protocol
from throttled.control.protocol import (
    AllowedResult,
    ChangeResult,
    Done,
    ExplainResult,
    ListResult,
    Request,
    StatusResult,
)
from throttled.enforce import registry
from throttled.enforce.admission import memory
from throttled.enforce.admission import registry as admission
from throttled.enforce.dryrun import DryRun
from throttled.enforce.sessions import Endings
from throttled.errors import (
    ConfigError,
    NotPermittedError,
    RefusedError,
    StoreError,
    ThrottledError,
)
from throttled.model import Action, Decision, Entry, Finding, Mode, Rate, Scope
from throttled.service import daemon, schedule
from throttled.service.configuration import Options
from throttled.service.daemon import Daemon
from throttled.store.store import Store

Reply = TypeVar("Reply")
A = "198.51.100.7"
B = "198.51.100.8"
BOUND = netns.DEADMAN


_END = Endings.end


class Memory(DryRun):
    """Stands for nftables: no test here may touch the kernel of the machine it runs on."""

    name = "nftables"
    enforces = True


class Lab:
    """A configuration, a log and a running daemon."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "mail.log"
        self.log.touch()
        self.metrics = path / "m.sock"
        self.config = path / "throttled.toml"
        self.configure()
        self.daemon: Daemon

    def configure(self, more: str = "") -> None:
        # Before the tables: top-level keys may be in `more`. A queue directory of its own: other
        # tests' daemons listen in this machine's.
        queue = f"queue_directory = {self.path}"
        postfix = configure(self.path / "postfix", queue, "smtp inet n - n - - smtpd")
        self.config.write_text(
            f"{more}\n"
            f'[log]\nfiles = ["{self.log}"]\n'
            f'[store]\npath = "{self.path}/t.db"\n'
            f'[control]\nsocket = "{self.path}/c.sock"\n'
            f'[metrics]\nlisten = "{self.metrics}"\n'
            '[firewall]\nbackend = "nftables"\n'
            "ports = { mx = [25], submission = [587] }\n"
            f'[postfix]\nconfig_directories = ["{postfix}"]\nhosts = ["mx"]\n'
        )

    def write(self, *bodies: str, process: str = "postfix/smtpd") -> None:
        stamp = time.strftime("%b %e %H:%M:%S")
        with self.log.open("a") as file:
            for number, body in enumerate(bodies):
                file.write(f"{stamp} mx {process}[{number + 1}]: {body}\n")

    def garbage(self, address: str, count: int = 11) -> None:
        self.write(*[f"warning: non-SMTP command from unknown[{address}]: GET /"] * count)

    async def ask(self, request: Request, reply: type[Reply]) -> Reply:
        socket = self.path / "c.sock"
        result = await asyncio.to_thread(client.request, socket, request)
        assert isinstance(result, reply)
        return result

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something to become true, with a bound."""
        async with asyncio.timeout(BOUND):
            while not await condition():  # noqa: ASYNC110 - the daemon has no event for us
                await asyncio.sleep(0.005)

    async def listed(self, count: int) -> list[tuple[str, str, str]]:
        rows: list[tuple[str, str, str]] = []

        async def there() -> bool:
            found = (await self.ask(protocol.List(), ListResult)).rows
            rows[:] = [(row.subject, row.scope, row.action) for row in found]
            return len(rows) == count

        await self.until(there)
        return sorted(rows)


def live(path: Path, story: Callable[[Lab], Awaitable[None]], lab: Lab | None = None) -> Lab:
    """Run a daemon and a story against it, then stop it."""
    lab = lab or Lab(path)
    with pytest.MonkeyPatch.context() as patch:
        # The periodic work is done a hundred times as often, so that no test waits for it.
        patch.setattr(schedule, "_TICK", 0.01)
        patch.setattr(daemon, "_REOPEN", 0.02)
        patch.setattr(registry, "Nftables", Memory)
        patch.setattr(admission, "MEANS", {"memory": lambda _lease: memory.Memory()})
        patch.setattr("throttled.core.leftovers.displace", lambda _name: ([], []))
        if Endings.end is _END:  # a test may have replaced it
            patch.setattr(Endings, "end", lambda *_args: None)
        asyncio.run(_both(lab, story))
    return lab


async def _both(lab: Lab, story: Callable[[Lab], Awaitable[None]]) -> None:
    lab.daemon = Daemon(Options(str(lab.config)))
    running = asyncio.create_task(lab.daemon.run())

    async def ready() -> bool:
        if running.done():
            running.result()
        return (lab.path / "c.sock").exists()

    await lab.until(ready)
    await lab.ask(protocol.Ping(), Done)
    try:
        await story(lab)
    finally:
        lab.daemon.stop()
        await running


def test_status(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.write("connect from unknown[198.51.100.7]", "no event")

        async def counted() -> bool:
            status = await lab.ask(protocol.Status(), StatusResult)
            return status.lines == 2 and status.events == {"connect": 1}

        await lab.until(counted)
        status = await lab.ask(protocol.Status(), StatusResult)
        assert (status.backend, status.mode, status.clients) == ("nftables", "enforce", 1)
        assert [tail.path for tail in status.tails] == [str(lab.log)]
        assert status.tails[0].exists
        assert status.tails[0].lag == 0
        assert [p for p in status.health if p.state == "fault"] == []
        assert isinstance(await lab.ask(protocol.Ping(), Done), Done)

    live(tmp_path, story)


def test_stopped_in_the_middle_of_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(lab: Lab) -> None:
        lab.write(*["no event"] * 60_000)

        async def begun() -> bool:
            return lab.daemon.pipeline.counts.lines > 0

        await lab.until(begun)

    lab = live(tmp_path, story)
    assert lab.daemon.pipeline.counts.lines < 60_000
    assert "unexpected error" not in caplog.text


def test_a_ban_is_listed_and_explained_with_its_lines(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]
        explained = await lab.ask(protocol.Explain(A), ExplainResult)
        assert explained.network == "198.51.100.0/24"
        assert explained.active[0].action == "ban"
        assert len(explained.lines) == 11
        assert all("GET /" in line.text for line in explained.lines)
        assert {m.limit: m.value for m in explained.meters if m.value} == {
            "errors": 55,
            "errors-day": 55,
        }
        assert explained.past.offences == 1
        assert explained.sessions == 11
        assert "ban ends" in explained.next

    live(tmp_path, story)


def test_explain_before_anything_happened_and_of_the_protected(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        assert "nothing" in (await lab.ask(protocol.Explain(A), ExplainResult)).next
        lab.garbage(A, 2)

        async def counted() -> bool:
            explained = await lab.ask(protocol.Explain(A), ExplainResult)
            return (
                "throttled in mx after 11 more counted by limit errors "
                "(now 10, limit 20, within 10m)" in explained.next
            )

        await lab.until(counted)
        explained = await lab.ask(protocol.Explain("127.0.0.1"), ExplainResult)
        assert explained.protected
        assert "nothing" in explained.next
        network = await lab.ask(protocol.Explain("198.51.100.0/24"), ExplainResult)
        assert network.network == ""

    live(tmp_path, story)


def test_unban_frees_and_forgets(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        change = await lab.ask(protocol.Unban(A), ChangeResult)
        assert change.confirmed
        assert [row.action for row in change.changed] == ["ban"]
        assert await lab.listed(0) == []
        explained = await lab.ask(protocol.Explain(A), ExplainResult)
        assert {m.value for m in explained.meters} == {0}
        with pytest.raises(ThrottledError, match="neither"):
            await lab.ask(protocol.Unban(A), ChangeResult)
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story)


def test_unban_with_an_exemption_lasts(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(protocol.Unban(A, exempt=3600.0), ChangeResult)
        lab.garbage(A)
        lab.garbage(B)
        exempt = [(A, "mx", "exempt"), (A, "submission", "exempt")]
        assert await lab.listed(3) == [*exempt, (B, "mx", "ban")]

    live(tmp_path, story)


def test_unban_in_one_scope_leaves_the_other(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        change = await lab.ask(protocol.Ban(A, seconds=60.0, why="spam"), ChangeResult)
        assert {row.scope for row in change.changed} == {"mx", "submission"}
        assert "spam" in change.changed[0].why
        await lab.ask(protocol.Unban(A, scope="mx"), ChangeResult)
        assert await lab.listed(1) == [(A, "submission", "ban")]

    live(tmp_path, story)


def test_unban_all(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        for subject in (A, B, "203.0.113.0/24"):
            await lab.ask(protocol.Ban(subject), ChangeResult)
        change = await lab.ask(protocol.UnbanAll(), ChangeResult)
        assert change.confirmed
        assert "6 " in change.message
        assert await lab.listed(0) == []

    live(tmp_path, story)


def decision(action: Action, subject: str) -> Decision:
    at = now().wall
    return Decision(at, action, subject, "mx", "network", 1, at + 600, "because")


@pytest.mark.parametrize("scope", [None, "mx"])
def test_unban_all_leaves_exemptions(tmp_path: Path, scope: Scope | None) -> None:
    async def story(lab: Lab) -> None:
        lab.daemon.pipeline.decide([decision("exempt", B)], now())
        await lab.ask(protocol.Ban(A, "mx"), ChangeResult)
        change = await lab.ask(protocol.UnbanAll(scope), ChangeResult)
        assert change.confirmed
        assert "1 " in change.message
        assert await lab.listed(1) == [(B, "mx", "exempt")]
        assert [(s.subject, s.action) for s in lab.daemon.backend.dump()] == [(B, "exempt")]

    live(tmp_path, story)


def test_sessions_of_what_is_exempt_or_protected_are_not_ended_with_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared: list[Callable[[str], object]] = []
    monkeypatch.setattr(Endings, "end", lambda *given: spared.append(given[4]))

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(lab.daemon.backend, "name", "nftables")
        good, bad = decision("exempt", "203.0.113.7"), decision("ban", "203.0.113.0/24")
        lab.daemon.pipeline.decide([good, bad], now())
        lab.daemon.announcer([bad])
        clients = ("203.0.113.7", "203.0.113.8", "127.0.0.1")
        assert [spared[-1](client) for client in clients] == [True, False, True]
        own = replace(good, action="ban")
        lab.daemon.pipeline.decide([own], now())
        lab.daemon.announcer([own, bad])
        assert not spared[-1]("203.0.113.7")
        monkeypatch.setattr(lab.daemon.store, "past", _fails)
        assert not spared[-1]("203.0.113.8")

    live(tmp_path, story)


def test_sessions_that_go_on_above_a_slow_throttle_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[list[Decision]] = []
    monkeypatch.setattr(Endings, "end", lambda *given: ended.append(list(given[1])))

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(lab.daemon.backend, "name", "nftables")
        on = replace(decision("throttle", A), pid=77)
        monkeypatch.setattr(lab.daemon.pipeline, "further", lambda _now: [on])
        lab.daemon.announcer([])
        assert ended[-1] == [on]

    live(tmp_path, story)


def _fails(*_arguments: object) -> None:
    raise StoreError("no such file", "")


def test_what_is_flushed_comes_back_with_its_rate(tmp_path: Path) -> None:
    rate = Rate(6, 3600.0, 2)

    async def story(lab: Lab) -> None:
        daemon = lab.daemon
        slow = replace(decision("throttle", A), rate=rate)
        daemon.pipeline.decide([slow, decision("exempt", B)], now())
        expected = {(A, "throttle", rate), (B, "exempt", None)}
        for damage in (
            [Entry(A, "mx", "throttle", 0.0), Entry(B, "mx", "exempt", 0.0)],
            [Entry(A, "mx", "throttle", 600.0)],  # at the configured rate
        ):
            daemon.backend.apply(damage)
            daemon.reconciler.compare()
            assert await daemon.reconciler.begun()
            elements = {(s.subject, s.action, s.rate) for s in daemon.backend.dump()}
            assert elements == expected
            daemon.backend.apply(damage)
            daemon.reconciler._judge(damage)
            elements = {(s.subject, s.action, s.rate) for s in daemon.backend.dump()}
            assert elements == expected

    live(tmp_path, story)


def test_unban_all_of_one_scope(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        for subject in (A, B):
            await lab.ask(protocol.Ban(subject), ChangeResult)
        change = await lab.ask(protocol.UnbanAll("mx"), ChangeResult)
        assert change.confirmed
        assert "2 " in change.message
        assert await lab.listed(2) == [(A, "submission", "ban"), (B, "submission", "ban")]
        elements = lab.daemon.backend.dump()
        assert {(element.subject, element.scope) for element in elements} == {
            (A, "submission"),
            (B, "submission"),
        }

    live(tmp_path, story)


def test_a_manual_throttle_replaces_a_ban(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(protocol.Ban(A, scope="mx"), ChangeResult)
        change = await lab.ask(protocol.Throttle(A, scope="mx", seconds=60.0), ChangeResult)
        assert change.confirmed
        assert await lab.listed(1) == [(A, "mx", "throttle")]

    live(tmp_path, story)


def test_what_operators_decide_has_its_origin_to_the_end(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(B)
        await lab.ask(protocol.Ban(A, scope="mx"), ChangeResult)
        await lab.ask(protocol.Throttle(A, scope="mx", seconds=60.0), ChangeResult)
        await lab.listed(2)
        rows = (await lab.ask(protocol.List(), ListResult)).rows
        assert {row.subject: row.origin for row in rows} == {A: "operator", B: "log"}
        (decision,) = (await lab.ask(protocol.Explain(B), ExplainResult)).decisions
        assert decision.origin == "log"
        await lab.ask(protocol.Unban(A, scope="mx", exempt=60.0), ChangeResult)
        explained = await lab.ask(protocol.Explain(A), ExplainResult)
        assert [row.origin for row in explained.active] == ["operator"]
        actions = ["exempt", "release", "throttle", "release", "ban"]
        assert [d.action for d in explained.decisions] == actions
        assert {d.origin for d in explained.decisions} == {"operator"}

    live(tmp_path, story)


def test_a_manual_ban_of_a_protected_address_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ThrottledError, match="protected"):
            await lab.ask(protocol.Ban("127.0.0.1"), ChangeResult)

    live(tmp_path, story)


def test_allow_frees_and_protects_until_disallowed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        change = await lab.ask(protocol.Allow("198.51.100.0/24", note="branch"), ChangeResult)
        assert [row.subject for row in change.changed] == [A]
        lab.garbage(A)
        lab.garbage("203.0.113.5")
        assert await lab.listed(1) == [("203.0.113.5", "mx", "ban")]
        rows = (await lab.ask(protocol.Allowed(), AllowedResult)).rows
        assert [(row.what, row.note, row.until) for row in rows] == [
            ("198.51.100.0/24", "branch", None)
        ]
        explained = await lab.ask(protocol.Explain(A), ExplainResult)
        assert [row.what for row in explained.allowed] == ["198.51.100.0/24"]
        await lab.ask(protocol.Disallow("198.51.100.0/24"), ChangeResult)
        await lab.ask(protocol.Ban(A, scope="mx"), ChangeResult)
        with pytest.raises(ThrottledError, match="is not on the allowlist"):
            await lab.ask(protocol.Disallow("198.51.100.0/24"), ChangeResult)

    live(tmp_path, story)


def test_what_is_allowed_for_a_time_is_not_for_ever(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(protocol.Allow(A, seconds=1.0), ChangeResult)

        async def over() -> bool:
            return not (await lab.ask(protocol.Explain(A), ExplainResult)).protected

        await lab.until(over)
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]

    live(tmp_path, story)


def test_a_host_name_is_allowed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(protocol.Allow(".example.com"), ChangeResult)
        lab.write(*[f"warning: non-SMTP command from mx.example.com[{A}]: GET /"] * 11)
        lab.garbage(B)
        assert await lab.listed(1) == [(B, "mx", "ban")]

    live(tmp_path, story)


def test_reload_takes_limits_and_refuses_nonsense(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.configure("[limits.errors]\nsoft = 500\nhard = 900\n")
        done = await lab.ask(protocol.Reload(), Done)
        assert done.message == "reloaded"
        lab.garbage(A)
        lab.configure("[limits.errors]\nsoft = true\n")
        with pytest.raises(ThrottledError) as caught:
            await lab.ask(protocol.Reload(), Done)
        assert caught.value.exit_code == ConfigError.exit_code
        (finding,) = (await lab.ask(protocol.Status(), StatusResult)).health
        assert (finding.key, finding.state) == ("config", "warning")
        assert "soft" in finding.what
        lab.configure("[throttle]\n[ban]\n")
        lab.config.write_text(lab.config.read_text().replace("c.sock", "d.sock"))
        for _ in range(2):  # reported again, as it is still so
            assert "restart" in (await lab.ask(protocol.Reload(), Done)).message
        assert await lab.listed(0) == []

    live(tmp_path, story)


def test_a_reload_begins_and_ends_observing(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]
        for _ in range(2):
            lab.configure('mode = "observe"\n')
            reload, status = await asyncio.gather(  # who asks meanwhile waits
                lab.ask(protocol.Reload(), Done), lab.ask(protocol.Status(), StatusResult)
            )
            assert reload.message == "reloaded"
            status = await lab.ask(protocol.Status(), StatusResult)
            assert (status.mode, status.backend, status.desired) == ("observe", "dryrun", 0)
            await lab.ask(protocol.Throttle(B), ChangeResult)
            assert (B, "mx", "throttle") in await lab.listed(2)
            lab.configure()
            assert (await lab.ask(protocol.Reload(), Done)).message == "reloaded"
            status = await lab.ask(protocol.Status(), StatusResult)
            assert (status.mode, status.health) == ("enforce", [])
            assert await lab.listed(1) == [(A, "mx", "ban")]  # what was only observed is not
            await lab.until(lambda: _enforced(lab))
        assert await asyncio.to_thread(_figures, lab.metrics)

    live(tmp_path, story)


async def _enforced(lab: Lab) -> bool:
    return {(element.subject, element.scope) for element in lab.daemon.backend.dump()} == {
        (A, "mx")
    }


def test_where_enforcing_is_not_possible_a_reload_goes_on_observing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure('mode = "observe"\n')

    async def story(lab: Lab) -> None:
        lab.configure()
        with pytest.MonkeyPatch.context() as patch:
            error = Finding("fault", "no nftables here")
            patch.setattr(Memory, "check", lambda _self: [error])
            with pytest.raises(ThrottledError, match="no nftables here"):
                await lab.ask(protocol.Reload(), Done)
        assert (await lab.ask(protocol.Status(), StatusResult)).mode == "observe"
        assert (await lab.ask(protocol.Reload(), Done)).message == "reloaded"
        assert (await lab.ask(protocol.Status(), StatusResult)).mode == "enforce"

    live(tmp_path, story, lab)


def _figures(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as answer:
            return answer.read().decode()


def test_figures_are_served_and_move_with_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    received: list[bytes] = []

    async def story(lab: Lab) -> None:
        # As systemd does; a daemon whose messages are not read waits.
        asyncio.get_running_loop().add_reader(manager, lambda: received.append(manager.recv(4096)))
        await lab.until(partial(notified, b"READY=1\nSTATUS=ok, 0 banned"))
        lab.garbage(A)
        await lab.listed(1)
        text = await asyncio.to_thread(_figures, lab.metrics)
        assert 'throttled_events_total{kind="non_smtp_command"} 11.0' in text
        assert 'throttled_subjects{action="ban",scope="mx"} 1.0' in text
        assert 'throttled_decisions_total{action="ban",limit="errors"} 1.0' in text
        assert "throttled_enforcement_seconds_count 1.0" in text
        assert A not in text
        before, lab.metrics = lab.metrics, lab.path  # a directory: no place for a socket
        lab.configure()
        await lab.ask(protocol.Reload(), Done)
        assert not before.exists()
        health = (await lab.ask(protocol.Status(), StatusResult)).health
        assert [(p.key, p.state) for p in health] == [("metrics", "warning")]
        assert "[metrics] listen" in health[0].hint
        await lab.until(partial(notified, b"STATUS=warning: no metrics at"))
        lab.metrics = lab.path / "n.sock"
        lab.configure()
        await lab.ask(protocol.Reload(), Done)
        assert "throttled_info" in await asyncio.to_thread(_figures, lab.metrics)

    async def notified(words: bytes) -> bool:
        return any(words in each for each in received)

    with manager:
        live(tmp_path, story)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async def before(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(B, 9)
        assert len(await lab.listed(2)) == 2

    async def after(lab: Lab) -> None:
        assert await lab.listed(2) == [(A, "mx", "ban"), (B, "mx", "throttle")]
        lab.garbage(B, 2)  # 45 points before the restart, 10 more

        async def banned() -> bool:
            rows = await lab.listed(2)
            return (B, "mx", "ban") in rows

        await lab.until(banned)

    lab = live(tmp_path, before)
    lab.garbage("203.0.113.5")  # while nobody looks
    lab.log.write_text(lab.log.read_text())

    async def third(lab: Lab) -> None:
        assert ("203.0.113.5", "mx", "ban") in await lab.listed(3)
        await lab.ask(protocol.Unban("203.0.113.5"), ChangeResult)
        await after(lab)

    live(tmp_path, third, lab)
    store = Store.open(str(tmp_path / "t.db"))
    assert [d.action for d in store.decisions(A) if d.limit == "errors"].count("ban") == 1
    store.close()


@pytest.mark.parametrize("everybody", [False, True])
def test_what_an_unban_forgot_stays_forgotten_after_a_restart(
    tmp_path: Path, *, everybody: bool
) -> None:
    async def value(lab: Lab, subject: str) -> int:
        explained = await lab.ask(protocol.Explain(subject), ExplainResult)
        return max(meter.value for meter in explained.meters)

    async def before(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(B)
        await lab.listed(2)
        unban = protocol.UnbanAll() if everybody else protocol.Unban(A)
        await lab.ask(unban, ChangeResult)

    async def after(lab: Lab) -> None:
        assert await value(lab, A) == 0
        assert await value(lab, B) == (0 if everybody else 55)

    live(tmp_path, after, live(tmp_path, before))


def test_lines_are_shown_from_a_log_that_was_compressed_since(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        rotated = lab.log.with_name("mail.log.1")
        lab.log.rename(rotated)
        lab.log.touch()
        lab.write(f"connect from unknown[{B}]")

        async def read_on() -> bool:
            return (await lab.ask(protocol.Status(), StatusResult)).lines == 12

        await lab.until(read_on)
        rotated.with_name("mail.log.2.gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
        explained = await lab.ask(protocol.Explain(A), ExplainResult)
        assert len(explained.lines) == 11
        assert all("non-SMTP command" in line.text for line in explained.lines)

    live(tmp_path, story)


def test_a_ban_ends_in_a_throttle(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(protocol.Ban(A, scope="mx"), ChangeResult)
        await lab.ask(protocol.Ban(B, scope="mx", seconds=1.0), ChangeResult)

        async def ended() -> bool:  # a length that an operator stated is all there is
            return await lab.listed(1) == [(A, "mx", "throttle")]

        await lab.until(ended)
        (row,) = (await lab.ask(protocol.List(), ListResult)).rows
        assert (row.limit, row.origin) == ("ladder", "operator")

    lab = Lab(tmp_path)
    lab.configure('ban = { times = ["1s"] }\n')
    live(tmp_path, story, lab)


def test_a_log_that_cannot_be_read_is_reported_and_others_go_on(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        status = await lab.ask(protocol.Status(), StatusResult)
        assert {tail.path: tail.exists for tail in status.tails} == {
            str(tmp_path / "mail.log"): True,
            str(tmp_path / "absent" / "x.log"): False,
        }
        lab.garbage(A)
        await lab.listed(1)

    lab = Lab(tmp_path)
    text = lab.config.read_text()
    lab.config.write_text(text.replace('mail.log"', f'mail.log", "{tmp_path}/absent/x.log"'))
    live(tmp_path, story, lab)


def test_a_database_that_is_none_does_not_stop_protection(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"this is no database" * 100)

    async def story(lab: Lab) -> None:
        status = await lab.ask(protocol.Status(), StatusResult)
        assert "fault" in {finding.state for finding in status.health}
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story)
    assert (tmp_path / "t.db").read_bytes().startswith(b"this is no database")


def test_observing_keeps_its_bans_to_itself(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure('mode = "observe"\n')

    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story, lab)
    lab.configure()

    async def nothing(lab: Lab) -> None:
        assert await lab.listed(0) == []

    live(tmp_path, nothing, lab)


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(RefusedError):
            await Daemon(Options(str(lab.config))).run()
        await lab.ask(protocol.Ping(), Done)

    live(tmp_path, story)


def test_a_bad_configuration_does_not_start(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure("max_clients = 0\n")
    with pytest.raises(ConfigError):
        Daemon(Options(str(lab.config)))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges that only root has")
@pytest.mark.root
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_without_privilege_it_says_what_is_missing(tmp_path: Path, mode: Mode) -> None:
    lab = Lab(tmp_path)
    daemon = Daemon(Options(str(lab.config), backend="nftables", mode=mode))
    Store.open(":memory:").close()  # imports what a child may not read any more
    child = os.fork()
    if child == 0:
        status = 9
        try:
            os.setuid(65534)
            daemon.stop()
            asyncio.run(daemon.run())
            status = 1
        except NotPermittedError as error:
            status = 2 if "--mode observe" in error.hint else 3
        finally:
            os._exit(status)
    expected = {"enforce": 2, "observe": 1}[mode]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected


@pytest.mark.parametrize("seed", range(2))
def test_a_database_that_another_program_altered(tmp_path: Path, seed: int) -> None:
    """No row ends the daemon, now or at a start, nor keeps it from answering."""

    async def begin(lab: Lab) -> None:
        lab.garbage(A)
        lab.write(f"disconnect from x.test[{B}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5")
        await lab.listed(1)
        await lab.ask(protocol.Allow("203.0.113.0/24"), ChangeResult)

    async def goes_on(lab: Lab) -> None:
        lab.garbage("198.51.100.99")

        async def banned() -> bool:
            explained = await lab.ask(protocol.Explain("198.51.100.99"), ExplainResult)
            return [row.action for row in explained.active] == ["ban"]

        await lab.until(banned)
        lab.daemon._report_health(now())
        for request, kind in ((protocol.Status(), StatusResult), (protocol.List(), ListResult)):
            await lab.ask(request, kind)

    lab = live(tmp_path, begin)
    list(spoil(tmp_path / "t.db", random.Random(seed), 4))
    live(tmp_path, goes_on, lab)
    live(tmp_path, goes_on, lab)


def strangers(lab: Lab, host: str, client: str = A, count: int = 11) -> None:
    stamp = time.strftime("%b %e %H:%M:%S")
    with lab.log.open("a") as file:
        for number in range(count):
            body = f"warning: non-SMTP command from unknown[{client}]: GET /"
            file.write(f"{stamp} {host} postfix/smtpd[{number}]: {body}\n")


async def other_hosts(lab: Lab) -> list[str]:
    status = await lab.ask(protocol.Status(), StatusResult)
    found = [p for p in status.health if p.key == f"other-host:{lab.log}"]
    assert all(p.state == "fault" and "hosts = [" in p.hint for p in found)
    return [p.what for p in found]


def test_a_log_of_other_hosts_only_is_a_fault_until_the_name_is_known(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        strangers(lab, "renamed.example.net", count=40)

        async def explained() -> bool:
            return bool(await other_hosts(lab))

        async def well() -> bool:
            return not await other_hosts(lab)

        await lab.until(explained)
        (what,) = await other_hosts(lab)
        assert "all 40 events name other hosts" in what
        assert "renamed.example.net" in what
        assert await lab.listed(0) == []
        await lab.ask(protocol.AddHost("RENAMED.example.net"), Done)
        assert await well()
        strangers(lab, "renamed.example.net")
        assert await lab.listed(1) == [(A, "mx", "ban")]

    async def remembered(lab: Lab) -> None:
        strangers(lab, "renamed.example.net", "198.51.100.9")
        assert len(await lab.listed(2)) == 2
        assert await other_hosts(lab) == []

    live(tmp_path, remembered, live(tmp_path, story))


def test_localhost_is_this_host_in_a_log_without_another(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        strangers(lab, "localhost")
        assert await lab.listed(1) == [(A, "mx", "ban")]
        strangers(lab, "other.example.net", "198.51.100.9", 1)
        strangers(lab, "localhost", "198.51.100.8")
        lab.garbage("198.51.100.10")
        subjects = {subject for subject, _, _ in await lab.listed(2)}
        assert subjects == {A, "198.51.100.10"}
        assert await other_hosts(lab) == []

    live(tmp_path, story)


def test_a_changed_host_name_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's name is played: this process may not rename the machine."""

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
        uname = os.uname()
        renamed = os.uname_result((uname[0], "renamed", *uname[2:]))
        monkeypatch.setattr(os, "uname", lambda: renamed)

        async def known() -> bool:
            return lab.daemon.facts.ours("renamed.example.net")

        await lab.until(known)
        strangers(lab, "renamed.example.net")
        assert await lab.listed(1) == [(A, "mx", "ban")]
        lab.garbage("198.51.100.9")  # under the old name still
        assert len(await lab.listed(2)) == 2

    live(tmp_path, story)


def test_existing_logs_are_read_for_evidence_and_bans_do_not_wait(tmp_path: Path) -> None:
    """A rotated log of some megabytes, an attacker while it is read, and a restart."""
    lab = Lab(tmp_path)
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(time.time() - 86400))
    mail = f"{stamp} mx postfix/smtpd[9]: disconnect from x.test[{B}] data=1 commands=1\n"
    lab.log.with_name("mail.log.1").write_text(mail * 40_000)

    async def first(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]

        async def done() -> bool:
            return lab.daemon.backlog.done

        await lab.until(done)
        assert (await lab.ask(protocol.Status(), StatusResult)).backlog == ""
        past = (await lab.ask(protocol.Explain(B), ExplainResult)).past
        assert past.deliveries == 40_000 - 40_000 // 30

    async def again(lab: Lab) -> None:
        async def done() -> bool:
            return lab.daemon.backlog.done

        await lab.until(done)
        past = (await lab.ask(protocol.Explain(B), ExplainResult)).past
        assert past.deliveries == 40_000 - 40_000 // 30

    live(tmp_path, again, live(tmp_path, first, lab))


def test_the_daemon_needs_no_library_of_one_backend_or_of_metrics() -> None:
    """Each costs every host memory, and time at each start."""
    program = "import sys, throttled.service.daemon; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = {"pyroute2", "psutil", "prometheus_client", "iptc", "redis", "rich", "textual"} | {
        "smtplib",
        "email.message",
    }
    assert not heavy & set(ended.stdout.decode().split())
