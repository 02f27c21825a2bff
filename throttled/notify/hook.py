"""Sends notifications of bans, alerts and changed health to a command, a webhook, by mail.

Command and webhook get one JSON object with what happened since the last one: at most one every
`notify.every`, at most `EVENTS` events in full, the rest counted; mail is a digest, at most one
every `notify.mail_every`. Delivering is a child process (`child`), killed with its children when
its time is over. What fails is not tried again; health says so until a delivery succeeds.

Owns a channel for each receiver.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from time import time

import msgspec

from throttled import subjects
from throttled.address import is_named, is_subject
from throttled.config.schema import Notify
from throttled.errors import ThrottledError
from throttled.model import Decision, Finding, Report
from throttled.notify import digest
from throttled.notify.channel import Channel, Message, message
from throttled.notify.child import run
from throttled.notify.letter import Letter

#: Sent in full with one delivery, and with one mail.
EVENTS, MAILED = 20, 100
#: Seconds that sending a mail may take: Postfix asks databases about its recipient.
_MAILING = 60.0


class Hook:
    """Collects events, and delivers them while `run` runs."""

    def __init__(self, settings: Notify) -> None:
        self.settings = settings
        self.would = False  # the daemon observes: nobody is banned
        self.mailed = 0.0  # wall clock, of the latest digest
        self._wrong: dict[str, Finding] = {}
        self._command = Channel("command", self._run_command, self._pause, EVENTS)
        self._webhook = Channel("webhook", self._post, self._pause, EVENTS)
        self._mail = Channel("mail", self._send, lambda: float(self.settings.mail_every), MAILED)

    @property
    def finding(self) -> Finding | None:
        """What the last deliveries failed with."""
        errors = [channel.error for channel in self._configured() if channel.error]
        if not errors:
            return None
        hint = "see [notify]; its events are in the journal, and are not sent again"
        return Finding("warning", f"notification failed: {'; '.join(errors)}", hint, "notify")

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

    def continue_after(self, mailed: float, now: float) -> None:
        """Learn when the latest digest was mailed before this start; the next one waits for it.

        Args:
            mailed: wall clock; 0.0: never.
            now: wall clock.
        """
        self.mailed = mailed
        every = float(self.settings.mail_every)
        self._mail.wait = min(every, max(0.0, mailed + every - now))

    async def run(self) -> None:
        """Deliver what is reported, for ever; when cancelled, end after all children have ended."""
        async with asyncio.TaskGroup() as group:
            for channel in (self._command, self._webhook, self._mail):
                group.create_task(channel.run(self._names))

    async def test(self) -> str:
        """Send a test message to each receiver that is configured, at once; return to which.

        Raises:
            ThrottledError: none is configured, or one failed.
        """
        channels = self._configured()
        if not channels:
            raise ThrottledError(
                "no notifications are configured", "see [notify]: command, url, mail"
            )
        event = {"event": "test", "time": time(), "text": "test of notifications: throttled works"}
        sent = message([event], {"test": 1}, {})
        errors = await asyncio.gather(*(channel.deliver(sent) for channel in channels))
        for channel, error in zip(channels, errors, strict=True):
            channel.error = error
        if any(errors):
            raise ThrottledError("; ".join(filter(None, errors)), "correct [notify]")
        return f"sent to: {', '.join(channel.name for channel in channels)}"

    async def mail(self, subject: str, text: str) -> str:
        """Send a mail to who gets notifications by mail, if anybody; return what went wrong."""
        if not self.settings.mail:
            return ""
        letter = Letter(self.settings.mail, subject, text, server=self.settings.smtp)
        argv = [sys.executable, "-m", "throttled.notify.mail"]
        return await run("mail", argv, _modules(), msgspec.json.encode(letter), _MAILING)

    def _configured(self) -> list[Channel]:
        settings = self.settings
        on = {"command": settings.command, "webhook": settings.url, "mail": settings.mail}
        return [one for one in (self._command, self._webhook, self._mail) if on[one.name]]

    def _pause(self) -> float:
        return float(self.settings.every)

    def _names(self) -> Mapping[str, str]:
        return {"ban": "would-ban"} if self.would else {}

    def _queue(self, event: str, text: str, **fields: object) -> None:
        if event in self.settings.on:
            for channel in self._configured():
                channel.add({"event": event, "time": time(), "text": text, **fields})

    async def _run_command(self, sent: Message) -> str:
        if not (argv := self.settings.command):  # no more, since a reload
            return ""
        return await run(argv[0], argv, {}, _json(sent), float(self.settings.timeout))

    async def _post(self, sent: Message) -> str:
        return await self._webhook_process(_json(sent)) if self.settings.url else ""

    async def _send(self, sent: Message) -> str:
        if self.settings.mail:
            self.mailed = sent.time
        return await self.mail(digest.subject(sent), digest.body(sent))

    async def reach(self) -> str:
        """Connect to the webhook, from where notifications are posted, and post nothing.

        Raises:
            ThrottledError: it cannot be reached, or none is configured.
        """
        if not self.settings.url:
            raise ThrottledError("no [notify] url is configured", "throttled reload")
        if failed := await self._webhook_process(b"", "--connect"):
            raise ThrottledError(failed, "correct [notify] url; is there a firewall between?")
        return "connected"

    async def _webhook_process(self, sent: bytes, *options: str) -> str:
        argv = [sys.executable, "-m", "throttled.notify.webhook", *options]
        more = {"THROTTLED_URL": self.settings.url, **_modules()}
        return await run("the webhook", argv, more, sent, float(self.settings.timeout))


def _modules() -> dict[str, str]:
    """Return where our modules are: the package's launcher alone knows, not the interpreter."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def _json(sent: Message) -> bytes:
    """Return a message in ASCII, with every control character escaped: it has clients' words."""
    text = json.dumps(msgspec.to_builtins(sent))
    return text.replace("\x7f", "\\u007f").encode() + b"\n"


def _unnamed(subject: str) -> str:
    """Return what a sender is, without its name."""
    return f"a sender ({subjects.of(subject)})"
