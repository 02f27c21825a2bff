"""The notification hook: real commands, a real webhook, and those that hang, fail or flood."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from lab.network import netns
from lab.programs import http_sink, smtp_sink
from throttled.config.schema import Notify
from throttled.duration import Duration, duration
from throttled.errors import ThrottledError
from throttled.model import Decision, Finding, Report
from throttled.notify import child
from throttled.notify.channel import Message
from throttled.notify.hook import EVENTS, Hook

SOON = Duration(0.05)
STARTED = Duration(1.0)  # within this a shell has started what it is to leave behind
EVERY: tuple[Literal["ban", "alert", "health"], ...] = ("ban", "alert", "health")


def _ban(n: int, alert: str = "") -> Decision:
    return Decision(1.0, "ban", f"198.51.100.{n}", "mx", "auth", 1, 2.0, "61 > 60", alert=alert)


def _until(hook: Hook, happened: Callable[[], object]) -> None:
    """Run a hook until something happened."""

    async def run() -> None:
        task = asyncio.get_running_loop().create_task(hook.run())
        async with asyncio.timeout(netns.DEADMAN):
            while not happened() and not task.done():  # noqa: ASYNC110 - files set no Event
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await _reaped()

    asyncio.run(run())


async def _reaped() -> None:
    """Wait until asyncio knows of the end of each child: it waits in a thread for each (3.11).

    A loop that is closed before leaves a Popen that warns, in a later test, that its child is
    still running.
    """
    async with asyncio.timeout(netns.DEADMAN):
        while any(thread.name.startswith("asyncio-waitpid") for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)  # the thread's last act was to schedule a callback


def _drained(hook: Hook) -> Message:
    return hook._command.drain(hook._names())


def _saved(path: Path) -> tuple[str, ...]:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    return (sys.executable, "-c", program, str(path))


def test_a_command_gets_what_happened_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "received"
    hook = Hook(Notify(command=_saved(path), on=EVERY, every=SOON))
    hook.decided([_ban(n % 250, "the \x1b\x7f\u202ebrake") for n in range(5000)])
    _until(hook, lambda: path.exists() and path.read_text().endswith("\n"))
    text = path.read_text()
    assert text.isascii()
    assert text[:-1].isprintable()
    received = json.loads(text)
    assert received["counts"] == {"ban": 5000, "alert": 1}
    assert (len(received["events"]), received["more"]) == (EVENTS, 5001 - EVENTS)
    assert received["events"][0]["subject"] == "198.51.100.0"
    assert hook.finding is None


def test_health_is_reported_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "received"
    hook = Hook(Notify(command=_saved(path), on=("health",), every=SOON))
    error = Finding("fault", "the disk is full", "make room", "store")
    hook.decided([_ban(1)])  # not asked for
    hook.health([Finding("warning", "notification failed", "", "notify")])  # would never end
    hook.health([error])
    hook.health([error])
    hook.health([])
    _until(hook, lambda: path.exists() and path.read_text().endswith("\n"))
    received = json.loads(path.read_text())
    assert [event["text"] for event in received["events"]] == [
        "error: the disk is full",
        "resolved: the disk is full",
    ]


def test_the_webhook_is_reached_without_posting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        assert asyncio.run(Hook(Notify(url=url, timeout=duration("20s"))).reach()) == "connected"
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b""
    with pytest.raises(ThrottledError, match="Connection refused"):
        asyncio.run(Hook(Notify(url=url, timeout=duration("20s"))).reach())
    with pytest.raises(ThrottledError, match="is configured"):
        asyncio.run(Hook(Notify()).reach())


def test_what_hangs_is_killed_and_what_fails_is_a_problem_until_it_works(tmp_path: Path) -> None:
    hook = Hook(Notify(command=("sleep", "1000"), on=EVERY, every=SOON, timeout=SOON))
    hook.decided([_ban(1)])
    _until(hook, lambda: hook.finding)
    assert hook.finding is not None
    assert "took longer than 0.05s and was killed" in hook.finding.what
    hook = Hook(Notify(command=("sh", "-c", "echo 'no\x1b way' >&2; exit 7"), on=EVERY, every=SOON))
    hook.decided([_ban(1)])
    _until(hook, lambda: hook.finding)
    assert hook.finding is not None
    assert "ended with 7: no  way" in hook.finding.what
    hook.settings = Notify(command=_saved(tmp_path / "received"), on=EVERY, every=SOON)
    hook.decided([_ban(2)])
    _until(hook, lambda: hook.finding is None)
    hook.settings = Notify(command=("/nowhere",), on=EVERY, every=SOON)
    hook.decided([_ban(3)])
    _until(hook, lambda: hook.finding)


def test_the_children_of_what_hangs_are_killed_too(tmp_path: Path) -> None:
    left = tmp_path / "left"
    script = f"sleep 60 & echo $! > {left}; wait"
    hook = Hook(Notify(command=("sh", "-c", script), on=EVERY, every=SOON, timeout=STARTED))
    hook.decided([_ban(1)])
    _until(hook, lambda: hook.finding)
    child = Path(f"/proc/{left.read_text().strip()}/stat")
    with suppress(FileNotFoundError):  # a zombie where nobody reaps orphans
        while not child.read_text().rpartition(") ")[2].startswith("Z"):
            time.sleep(0.01)


def test_what_a_command_leaves_behind_holds_neither_us_nor_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "left"
    script = f"setsid sh -c 'echo $$ >> {left}; exec sleep 1000' & while :; do sleep 1; done"
    groups: list[int] = []
    # Played: what the kernel holds up cannot be had here, so a signal does nothing.
    monkeypatch.setattr(child, "_KILLED", 0.05)
    monkeypatch.setattr(os, "killpg", lambda group, _signal: groups.append(group))

    async def deliver() -> None:
        descriptors = []
        for _ in range(2):
            assert "was killed" in await child.run("sh", ("sh", "-c", script), {}, b"x", 1.0)
            await asyncio.sleep(0)  # closing takes a iteration of the event loop
            descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - a count
        assert descriptors[0] == descriptors[1]
        while any(Path(f"/proc/{group}").exists() for group in groups):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
        await _reaped()

    try:
        asyncio.run(asyncio.wait_for(deliver(), netns.DEADMAN))
    finally:
        monkeypatch.undo()
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for pid in left.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_a_webhook_gets_it_and_its_refusal_is_a_problem() -> None:
    with http_sink.serve(204) as (url, received):
        hook = Hook(Notify(url=f"{url}/hook?key=1", on=EVERY, every=SOON))
        hook.decided([_ban(1)])
        _until(hook, lambda: received)
        assert received[0].body["text"] == "banned 198.51.100.1 in mx: 61 > 60"
    with http_sink.serve(302) as (url, received):
        hook = Hook(Notify(url=f"{url}/hook?key=1", on=EVERY, every=SOON))
        hook.decided([_ban(1)])
        _until(hook, lambda: hook.finding)
        assert hook.finding is not None
        assert hook.finding.what.endswith("the webhook ended with 1: the server answered 302")
    hook = Hook(Notify(url="http://[bad", on=EVERY, every=SOON))
    hook.decided([_ban(1)])
    _until(hook, lambda: hook.finding)
    assert hook.finding is not None
    assert hook.finding.what.endswith("the webhook ended with 1: Invalid IPv6 URL")


@pytest.mark.parametrize("named", [False, True])
def test_who_is_reported_is_named_only_if_that_is_switched_on(named: bool) -> None:  # noqa: FBT001 - a parameter
    hook = Hook(Notify(command=("/bin/true",), accounts=named))
    hook.reported([Report(1.0, "account:a", "x", "bounces", 11, 10, 3600.0, "account:A")])
    [event] = _drained(hook).events
    assert ("account:A" in event["text"]) == named
    assert event.get("subject") == ("account:a" if named else None)
    assert event["text"].endswith("is above x: 11 bounces, soft 10")
    hook.reported(
        [Report(1.0, "198.51.100.7", "x", "errors", 51, 50, 600.0, "198.51.100.7", "hard")]
    )
    [event] = _drained(hook).events
    assert event["text"] == "198.51.100.7 is above x: 51 errors, hard 50"
    hook.settings = Notify(command=("/bin/true",), accounts=named, on=("ban",))
    hook.decided([Decision(1.0, "ban", "account:a", "submission", "x", 1, 2.0, "61 > 60")])
    message = _drained(hook)
    [event] = message.events
    who = "account:a" if named else "a sender (account)"
    assert event["text"] == f"banned {who}: 61 > 60"
    assert ("account:a" in str(message)) == named


def test_a_digest_by_mail_has_what_happened_since_the_last_one() -> None:
    with smtp_sink.serve() as sink:
        hook = Hook(Notify(mail="root@example.org", smtp=sink.address, on=EVERY, mail_every=SOON))
        hook.decided([_ban(n, "the \x1b\u202ebrake\r\nBcc: x") for n in range(150)])
        hook.health([Finding("fault", "the disk is full", "make room", "store")])
        _until(hook, lambda: sink.mails)
        hook.health([])
        _until(hook, lambda: len(sink.mails) == 2)
    first, second = (mail.message() for mail in sink.mails)
    assert first["Subject"].endswith(": 150 ban, 1 alert, 1 health")
    text = first.get_content()
    assert {c for c in text if not c.isprintable()} == set("\r\n")
    assert text.count("banned 198.51.100.") == 100
    assert "and 52 more" in text
    assert second["Subject"].endswith(": resolved: the disk is full")
    assert all((mail.sender, mail.recipients) == ("", ["root@example.org"]) for mail in sink.mails)


def test_at_most_one_mail_in_its_time() -> None:
    with smtp_sink.serve() as sink:
        hook = Hook(Notify(mail="root", smtp=sink.address, on=EVERY))
        hook.decided([_ban(1)])
        _until(hook, lambda: sink.mails)
        assert hook._mail._every() == 3600


def test_what_hangs_or_fails_delays_no_other_receiver(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    script = f"echo $$ >> {hanging}; exec sleep 1000"
    with http_sink.serve(204) as (url, received), smtp_sink.serve("RCPT") as sink:
        settings = Notify(
            command=("sh", "-c", script),
            url=f"{url}/hook?key=1",
            mail="root",
            smtp=sink.address,
            on=EVERY,
            every=SOON,
            timeout=duration("1h"),
        )
        hook = Hook(settings)

        async def deliver() -> None:
            task = asyncio.get_running_loop().create_task(hook.run())
            async with asyncio.timeout(netns.DEADMAN):
                for count in (1, 2, 3):
                    hook.decided([_ban(count)])
                    while len(received) < count or not hanging.exists():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                while hook.finding is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await _reaped()

        asyncio.run(deliver())
    assert len(hanging.read_text().split()) == 1  # still at its first message
    assert hook.finding is not None
    assert "refused root: 554" in hook.finding.what


def test_a_receiver_that_is_no_longer_configured_gets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "received"
    hook = Hook(Notify(command=("false",), url="http://x", mail="root", on=EVERY, every=SOON))
    hook.decided([_ban(1)])
    hook.settings = Notify(command=_saved(path), on=EVERY, every=SOON)
    hook.decided([_ban(2)])
    _until(hook, lambda: path.exists() and path.read_text().endswith("\n"))
    assert json.loads(path.read_text())["counts"] == {"ban": 2}
    hook.settings = Notify()
    hook._command.add({"event": "ban", "text": ""})
    _until(hook, lambda: not hook._command._waiting.is_set())
    assert (hook._command.error, hook._webhook.error, hook._mail.error) == ("", "", "")


def test_an_unexpected_error_does_not_end_deliveries(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Hook(Notify(command=("true",), on=EVERY, every=SOON))
    monkeypatch.setattr(hook._command, "deliver", None)
    hook.decided([_ban(1)])
    _until(hook, lambda: hook.finding)
    monkeypatch.undo()
    hook.decided([_ban(2)])
    _until(hook, lambda: not hook.finding)


def test_the_test_message_names_who_got_it_and_who_did_not(tmp_path: Path) -> None:
    path = tmp_path / "received"
    with smtp_sink.serve() as sink:
        settings = Notify(command=_saved(path), mail="root", smtp=sink.address, on=())
        assert asyncio.run(Hook(settings).test()) == "sent to: command, mail"
    assert json.loads(path.read_text())["counts"] == {"test": 1}
    assert sink.mails[0].message()["Subject"].endswith("test of notifications: throttled works")
    with pytest.raises(ThrottledError, match=r"mail ended with 1: mail server .* refused"):
        asyncio.run(Hook(settings).test())
    with pytest.raises(ThrottledError, match="no notifications are configured"):
        asyncio.run(Hook(Notify()).test())
