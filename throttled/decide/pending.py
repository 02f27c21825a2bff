"""Events of messages that are counted once it is known whose they are. Pure: no clock, no I/O.

Postfix's daemons write at the same time. A message that a content filter handed back may bounce,
and be removed, before the client that gave it to the filter has logged the filter's answer. Until
then its events wait here, for `WAIT` seconds of the log at most.

Owns at most `_EVENTS` events (about 5 MB); at that cap the message that waits longest is due.
"""

from msgspec import Struct

from throttled.model import Event, Message

#: Seconds. A filter answers when Postfix has the message back; a busy machine is late with lines.
WAIT = 30.0
_EVENTS = 5_000


class Waiting(Struct):
    """What waits of one message."""

    since: float  # time of the line that waits longest
    events: list[tuple[Event, Message]]
    removed: bool = False  # Postfix has removed it


class Pending:
    """Events that wait, by queue id, in the order in which their messages began to."""

    def __init__(self) -> None:
        self._messages: dict[str, Waiting] = {}
        self._events = 0
        self.get = self._messages.get

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, event: Event, message: Message) -> None:
        """Let an event wait."""
        self._of(message.queue_id, event).events.append((event, message))
        self._events += 1

    def removed(self, queue_id: str, event: Event) -> None:
        """Let a message wait that Postfix has removed."""
        self._of(queue_id, event).removed = True

    def _of(self, queue_id: str, event: Event) -> Waiting:
        message = self._messages.get(queue_id)
        if message is None:
            message = self._messages[queue_id] = Waiting(event.time, [])
        return message

    def pop(self, queue_id: str) -> Waiting | None:
        """Remove what waits of a message and return it."""
        message = self._messages.pop(queue_id, None)
        if message is not None:
            self._events -= len(message.events)
        return message

    def due(self, time: float) -> str:
        """Return the message that waits longest if its time is over, else ""."""
        queue_id, message = next(iter(self._messages.items()), ("", None))
        if message is None:
            return ""
        over = abs(time - message.since) > WAIT or len(self._messages) + self._events > _EVENTS
        return queue_id if over else ""
