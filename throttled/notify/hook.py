"""Sends notifications of bans, alerts and changed health to a command or a webhook.

Each delivery is one JSON object with what happened since the last one: at most one delivery every
`notify.every`, at most `EVENTS` events in full, the rest counted. Delivering is a child process,
fed on standard input, killed with its children when its time is over: nothing of it can hold the
loop. What fails is not tried again; health says so until a delivery succeeds.

Owns the pending events, and the child.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from time import time
from typing import Any

from throttled import subjects
from throttled.address import is_named, is_subject
from throttled.config.schema import Notify
from throttled.errors import ThrottledError
from throttled.model import Decision, Finding, Report

#: Sent in full with one delivery.
EVENTS = 20
#: Seconds that a killed child has to end.
_KILLED = 1.0
_ERROR = 300  # bytes kept of what a failing command says

log = logging.getLogger(__name__)


class Hook:
    """Collects events, and delivers them while `run` runs."""

    def __init__(self, settings: Notify) -> None:
        self.settings = settings
        self.would = False  # the daemon observes: nobody is banned
        self.finding: Finding | None = None
        self._events: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        self._wrong: dict[str, Finding] = {}
        self._waiting = asyncio.Event()

    def decided(self, decisions: Sequence[Decision]) -> None:
        """Report bans (in observe those that would be), and what an operator should look at."""
        verb = "would ban" if self.would else "banned"
        for d in decisions:
            if d.action == "ban":
                fields = {"subject": d.subject, "scope": d.scope, "until": d.until}
                who = f"{d.subject} in {d.scope}"
                if is_named(d.subject):
                    who = d.subject if self.settings.accounts else _unnamed(d.subject)
                    fields = {
                        "until": d.until,
                        **({"subject": who} if self.settings.accounts else {}),
                    }
                self._queue("ban", f"{verb} {who}: {d.why}", **fields, would=self.would)
        for alert in {d.alert for d in decisions if d.alert}:
            self._queue("alert", alert)

    def reported(self, reports: Sequence[Report]) -> None:
        """Report who crossed a limit: addresses, other senders only if that is switched on."""
        for one in reports:
            fields: dict[str, object] = {"limit": one.limit, "value": one.value}
            name = _unnamed(one.subject)
            if self.settings.accounts or is_subject(one.subject):
                name = one.shown
                fields["subject"] = one.subject
            value = f"{one.value} {one.count}, {one.above} {one.threshold}"
            text = f"{name} is above {one.limit}: {value}"
            self._queue("alert", text, **fields)

    def health(self, findings: Sequence[Finding]) -> None:
        """Report new findings, and those that are resolved."""
        wrong = {finding.key: finding for finding in findings if finding.key != "notify"}
        for key, finding in wrong.items():
            if key not in self._wrong:
                message = f"{finding.label}: {finding.what}"
                self._queue("health", message, key=key, state=finding.state, hint=finding.hint)
        for key, finding in self._wrong.items():
            if key not in wrong:
                self._queue("health", f"resolved: {finding.what}", key=key, state="ok")
        self._wrong = wrong

    async def run(self) -> None:
        """Deliver what is reported, for ever."""
        while True:
            await self._waiting.wait()
            await self._deliver(self._drain())
            await asyncio.sleep(float(self.settings.every))

    def _queue(self, event: str, text: str, **fields: object) -> None:
        settings = self.settings
        if event not in settings.on or not (settings.command or settings.url):
            return
        self._counts[event] += 1
        if len(self._events) < EVENTS:
            self._events.append({"event": event, "time": time(), "text": text, **fields})
        self._waiting.set()

    def _drain(self) -> bytes:
        events, counts = self._events, dict(self._counts)
        more = sum(counts.values()) - len(events)
        summary = _summary(counts, would=self.would)
        text = events[0]["text"] if len(events) == 1 and not more else summary
        self._events, self._counts = [], Counter()
        self._waiting.clear()
        message = {
            "host": socket.gethostname(),
            "time": time(),
            "text": text,
            "counts": counts,
            "events": events,
            "more": more,
        }
        # ASCII, with every control character escaped: parts of it are clients' words.
        return json.dumps(message).replace("\x7f", "\\u007f").encode() + b"\n"

    async def _deliver(self, message: bytes) -> None:
        settings = self.settings
        failed = []
        if settings.command:
            failed += await self._child(list(settings.command), {}, message)
        if settings.url:
            failed += await self._webhook(message)
        if not failed:
            self.finding = None
            return
        what = f"notification failed: {'; '.join(failed)}"
        log.warning("%s", what)
        hint = "see [notify]; its events are in the journal, and are not sent again"
        self.finding = Finding("warning", what, hint, "notify")

    async def reach(self) -> str:
        """Connect to the webhook, from where notifications are posted, and post nothing.

        Raises:
            ThrottledError: it cannot be reached, or none is configured.
        """
        if not self.settings.url:
            raise ThrottledError("no [notify] url is configured", "throttled reload")
        if failed := await self._webhook(b"", "--connect"):
            raise ThrottledError(failed[0], "correct [notify] url; is there a firewall between?")
        return "connected"

    async def _webhook(self, message: bytes, *options: str) -> list[str]:
        # Where our modules are: the package's launcher alone knows, not the interpreter.
        more = {"THROTTLED_URL": self.settings.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        return await self._child(
            [sys.executable, "-m", "throttled.notify.webhook", *options], more, message
        )

    async def _child(self, argv: list[str], more: dict[str, str], message: bytes) -> list[str]:
        """Run one command; return what went wrong: one sentence or none."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **more}
        name = "the webhook" if more else argv[0]
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit=1 << 16, loop=loop),
                *argv,
                stdin=pipe,
                stdout=null,
                stderr=pipe,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return [f"{name}: {error}"]
        child = Process(transport, protocol, loop)
        try:
            async with asyncio.timeout(float(self.settings.timeout)):
                said = await _feed(child, message)
                code = await child.wait()
        except TimeoutError:
            return [f"{name} took longer than {self.settings.timeout} and was killed"]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # also what it left behind
            # One that the kernel holds up (a dead NFS server) does not end even so.
            with suppress(TimeoutError):
                async with asyncio.timeout(_KILLED):
                    await child.wait()
            transport.close()  # what left its group may hold the pipes open for ever
        return [f"{name} ended with {code}: {said}"] if code else []


def _unnamed(subject: str) -> str:
    """Return what a sender is, without its name."""
    return f"a sender ({subjects.of(subject)})"


def _summary(counts: dict[str, int], *, would: bool) -> str:
    names = {"ban": "would-ban"} if would else {}
    return ", ".join(f"{count} {names.get(event, event)}" for event, count in counts.items())


async def _feed(child: asyncio.subprocess.Process, message: bytes) -> str:
    """Give a child its input; return the beginning of what it says on standard error."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stderr is not None  # noqa: S101
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        child.stdin.write(message)
        await child.stdin.drain()
    child.stdin.close()
    said = b""
    while piece := await child.stderr.read(65536):
        said = (said + piece)[:_ERROR]
    text = said.decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).strip()
