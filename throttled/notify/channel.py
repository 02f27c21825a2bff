"""One receiver of notifications: its pending events, and when they are delivered.

Each receiver has its own, so that one that hangs or fails delays no other. Owns the events.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from time import time
from typing import Any

from msgspec import Struct

Event = dict[str, Any]

log = logging.getLogger(__name__)


class Message(Struct, frozen=True):
    """What happened since the last delivery."""

    host: str
    time: float
    text: str  # the event's, or how many there were of each kind
    counts: dict[str, int]
    events: list[Event]
    more: int  # events that are not among `events`


class Channel:
    """Collects events for one receiver, and delivers them while `run` runs."""

    def __init__(
        self,
        name: str,
        deliver: Callable[[Message], Awaitable[str]],
        every: Callable[[], float],
        most: int,
    ) -> None:
        """Begin without events.

        Args:
            name: of the receiver: command, webhook, mail.
            deliver: returns what went wrong, "" for nothing.
            every: seconds from the end of one delivery to the next.
            most: events sent in full with one delivery; further ones are counted.
        """
        self.name = name
        self.deliver = deliver
        self.error = ""  # of the last delivery
        self.wait = 0.0  # seconds before the first delivery
        self._every = every
        self._most = most
        self._events: list[Event] = []
        self._counts: Counter[str] = Counter()
        self._waiting = asyncio.Event()

    def add(self, event: Event) -> None:
        """Add an event to the next delivery."""
        self._counts[event["event"]] += 1
        if len(self._events) < self._most:
            self._events.append(event)
        self._waiting.set()

    def drain(self, names: Mapping[str, str]) -> Message:
        """Return what is pending, and begin anew.

        Args:
            names: of kinds of events, where they are counted under another name.
        """
        events, counts = self._events, dict(self._counts)
        self._events, self._counts = [], Counter()
        self._waiting.clear()
        return message(events, counts, names)

    async def run(self, names: Callable[[], Mapping[str, str]]) -> None:
        """Deliver what is added, for ever."""
        self._waiting = asyncio.Event()  # of this event loop
        if self._counts:
            self._waiting.set()
        await asyncio.sleep(self.wait)
        while True:
            await self._waiting.wait()
            try:
                self.error = await self.deliver(self.drain(names()))
            except Exception as error:  # noqa: BLE001 - the next message is delivered all the same
                self.error = f"{self.name}: {error!r}"
            if self.error:
                log.warning("notification failed: %s", self.error)
            await asyncio.sleep(self._every())


def message(events: list[Event], counts: dict[str, int], names: Mapping[str, str]) -> Message:
    """Return events as a message."""
    more = sum(counts.values()) - len(events)
    summary = ", ".join(f"{count} {names.get(event, event)}" for event, count in counts.items())
    text = events[0]["text"] if len(events) == 1 and not more else summary
    return Message(socket.gethostname(), time(), text, counts, events, more)
