"""The daemon's process: start, reload, changes of the mode, stop.

Signals, real Postfix and kill -9 are in tests/system.
"""

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from lab.daemon.in_process import BOUND, A, B, Lab, Memory, live
from throttled.control import requests
from throttled.control.results import ChangeResult, Done, StatusResult
from throttled.control.server import Server
from throttled.errors import (
    BackendError,
    ConfigError,
    NotPermittedError,
    RefusedError,
    ThrottledError,
)
from throttled.facts import Facts
from throttled.model import Finding, Mode
from throttled.service.configuration import LiveConfiguration, Options
from throttled.service.daemon import Daemon
from throttled.service.runtime import Runtime
from throttled.store.store import Store


def test_stopped_in_the_middle_of_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(lab: Lab) -> None:
        lab.write(*["no event"] * 60_000)

        async def begun() -> bool:
            return lab.runtime.pipeline.counts.lines > 0

        await lab.until(begun)

    lab = live(tmp_path, story)
    assert lab.runtime.pipeline.counts.lines < 60_000
    assert "unexpected error" not in caplog.text


@pytest.mark.root
def test_reload_takes_limits_and_refuses_nonsense(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.configure("[limits.errors]\nsoft = 500\nhard = 900\n")
        done = await lab.ask(requests.Reload(), Done)
        assert done.message == "reloaded"
        lab.garbage(A)
        lab.configure("[limits.errors]\nsoft = true\n")
        with pytest.raises(ThrottledError) as caught:
            await lab.ask(requests.Reload(), Done)
        assert caught.value.exit_code == ConfigError.exit_code
        (finding,) = (await lab.ask(requests.Status(), StatusResult)).health
        assert (finding.key, finding.state) == ("config", "warning")
        assert "soft" in finding.what
        lab.configure("[throttle]\n[ban]\n")
        lab.config.write_text(lab.config.read_text().replace("c.sock", "d.sock"))
        for _ in range(2):  # reported again, as it is still so
            assert "restart" in (await lab.ask(requests.Reload(), Done)).message
        assert await lab.listed(0) == []

    live(tmp_path, story)


@pytest.mark.root
def test_a_reload_begins_and_ends_observing(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]
        for _ in range(2):
            lab.configure('mode = "observe"\n')
            reload, status = await asyncio.gather(  # who asks meanwhile waits
                lab.ask(requests.Reload(), Done), lab.ask(requests.Status(), StatusResult)
            )
            assert reload.message == "reloaded"
            status = await lab.ask(requests.Status(), StatusResult)
            assert (status.mode, status.backend, status.desired) == ("observe", "dryrun", 0)
            await lab.ask(requests.Throttle(B), ChangeResult)
            assert (B, "mx", "throttle") in await lab.listed(2)
            lab.configure()
            assert (await lab.ask(requests.Reload(), Done)).message == "reloaded"
            status = await lab.ask(requests.Status(), StatusResult)
            assert (status.mode, status.health) == ("enforce", [])
            assert await lab.listed(1) == [(A, "mx", "ban")]  # what was only observed is not
            await lab.until(lambda: _enforced(lab))
        assert await asyncio.to_thread(_figures, lab.metrics)

    live(tmp_path, story)


def test_notifications_continue_after_a_change_of_the_mode(tmp_path: Path) -> None:
    received = tmp_path / "received"
    hook = f'[notify]\ncommand = ["tee", "{received}"]\non = ["ban"]\nevery = "1s"\n'
    lab = Lab(tmp_path)
    lab.configure(hook)

    async def story(lab: Lab) -> None:
        lab.configure(f'mode = "observe"\n{hook}')
        await lab.ask(requests.Reload(), Done)
        lab.garbage(A)

        async def notified() -> bool:
            return received.exists() and f"would ban {A}" in received.read_text()

        await lab.until(notified)

    live(tmp_path, story, lab)


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_stop_waits_for_a_change_of_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_signal: bool
) -> None:
    """Between the two there is no runtime that can be stopped."""
    gather, changing, go_on = LiveConfiguration.gather, threading.Event(), threading.Event()

    def slow(self: LiveConfiguration) -> Facts:
        if self.config.observing:
            changing.set()
            assert go_on.wait(BOUND)
        return gather(self)

    monkeypatch.setattr(LiveConfiguration, "gather", slow)
    drain = Server.drain

    async def drained(self: Server) -> None:
        await drain(self)  # cuts off a request
        asyncio.get_running_loop().call_later(0, go_on.set)

    monkeypatch.setattr(Server, "drain", drained)

    async def story(lab: Lab) -> None:
        lab.configure('mode = "observe"\n')
        if by_signal:
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            asking = asyncio.create_task(lab.ask(requests.Reload(), Done))
        await asyncio.to_thread(changing.wait, BOUND)
        lab.daemon.stop()
        if not by_signal:
            with pytest.raises(ThrottledError):
                await asking

    assert live(tmp_path, story).runtime.observing


def test_a_change_of_the_mode_that_fails_ends_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd starts it again; it is not to live on without its parts."""

    async def refuse(_self: Runtime) -> None:
        raise BackendError("the rules cannot be removed")

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(Runtime, "stop", refuse)
        lab.configure('mode = "observe"\n')
        two = [lab.ask(requests.Reload(), Done) for _ in range(2)]
        found = await asyncio.wait_for(asyncio.gather(*two, return_exceptions=True), BOUND)
        assert all(isinstance(error, ThrottledError) for error in found)

    with pytest.raises(BackendError, match="cannot be removed"):
        live(tmp_path, story)


def test_a_hangup_while_it_starts_is_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, hung_up = LiveConfiguration.gather, threading.Event()

    def hang_up(self: LiveConfiguration) -> Facts:
        if not hung_up.is_set():
            hung_up.set()
            lab.configure('mode = "observe"\n')
            os.kill(os.getpid(), signal.SIGHUP)
        return gather(self)

    monkeypatch.setattr(LiveConfiguration, "gather", hang_up)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # where the daemon does not, it fails
    lab = Lab(tmp_path)

    async def story(lab: Lab) -> None:
        async def observing() -> bool:
            return (await lab.ask(requests.Status(), StatusResult)).mode == "observe"

        await lab.until(observing)

    live(tmp_path, story, lab)


async def _enforced(lab: Lab) -> bool:
    return {(element.subject, element.scope) for element in lab.runtime.backend.dump()} == {
        (A, "mx")
    }


def _figures(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as answer:
            return answer.read().decode()


def test_where_enforcing_is_not_possible_a_reload_goes_on_observing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure('mode = "observe"\n')

    async def story(lab: Lab) -> None:
        lab.configure()
        with pytest.MonkeyPatch.context() as patch:
            error = Finding("fault", "no nftables here")
            patch.setattr(Memory, "check", lambda _self: [error])
            with pytest.raises(ThrottledError, match="no nftables here"):
                await lab.ask(requests.Reload(), Done)
        assert (await lab.ask(requests.Status(), StatusResult)).mode == "observe"
        assert (await lab.ask(requests.Reload(), Done)).message == "reloaded"
        assert (await lab.ask(requests.Status(), StatusResult)).mode == "enforce"

    live(tmp_path, story, lab)


@pytest.mark.root
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
        await lab.ask(requests.Reload(), Done)
        assert not before.exists()
        health = (await lab.ask(requests.Status(), StatusResult)).health
        assert [(p.key, p.state) for p in health] == [("metrics", "warning")]
        assert "[metrics] listen" in health[0].hint
        await lab.until(partial(notified, b"STATUS=warning: no metrics at"))
        lab.metrics = lab.path / "n.sock"
        lab.configure()
        await lab.ask(requests.Reload(), Done)
        assert "throttled_info" in await asyncio.to_thread(_figures, lab.metrics)

    async def notified(words: bytes) -> bool:
        return any(words in each for each in received)

    with manager:
        live(tmp_path, story)


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(RefusedError):
            await Daemon(Options(str(lab.config))).run()
        await lab.ask(requests.Ping(), Done)

    live(tmp_path, story)


def test_a_bad_configuration_does_not_start(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure("max_clients = 0\n")
    with pytest.raises(ConfigError):
        Daemon(Options(str(lab.config)))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges that only root has")
@pytest.mark.root
@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.usefixtures("others")
def test_without_privilege_it_says_what_is_missing(tmp_path: Path, mode: Mode) -> None:
    lab = Lab(tmp_path)
    daemon = Daemon(Options(str(lab.config), backend="nftables", mode=mode))
    Store.open(":memory:").close()  # imports what a child may not read any more
    importlib.import_module("throttled.metrics.exposition")  # as well
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


def test_the_daemon_needs_no_library_of_one_backend_or_of_metrics() -> None:
    """Each costs every host memory, and time at each start."""
    program = "import sys, throttled.service.daemon; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = {"pyroute2", "psutil", "prometheus_client", "iptc", "redis", "rich", "textual"}
    heavy |= {"smtplib", "email.message"}
    assert not heavy & set(ended.stdout.decode().split())
