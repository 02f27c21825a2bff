"""What is queued of an account or an inside host: listed, put on hold, released, deleted.

Also the mail that the daemon had put on hold: it is released after its deadline, at the rate of its
subject. The sandbox of the daemon may not change queues, so root's command or a unit of its own
(throttled-release.service) does it, whether a daemon runs or not.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from throttled import subjects
from throttled.errors import HostError
from throttled.host.on_hold import Held, OnHold
from throttled.operator import mail_queue
from throttled.operator.mail_queue import Listed
from throttled.parse.queue_file import Queued
from throttled.parse.rules import TEXT_LENGTH

#: A message is put on hold when its session ends, and begins to exist at its first recipient: so
#: much earlier than it was asked about.
_SESSION = 3600.0
#: Clocks of log and queue: whole seconds.
_ROUNDED = 2.0


class Message(Struct, frozen=True):
    """A message in the queue of an instance."""

    instance: str
    queue_id: str
    queue: str
    arrival: int  # wall clock
    size: int  # bytes
    sender: str
    subject: str  # whose it is


def queued(  # noqa: PLR0913 - what is asked for
    directories: Iterable[str],
    subject: str,
    sasl_domain: str,
    *,
    since: float = 0.0,
    queues: Sequence[str] = (),
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[Message]:
    """Yield the messages of a subject.

    Args:
        directories: the instances.
        subject: an account or an address.
        sasl_domain: see `subjects.account`.
        since: wall clock; older ones are left out.
        queues: names; none = all.
        report: called with how many messages were looked at, and of how many.

    Raises:
        HostError: a queue cannot be listed.
    """
    for directory in directories:
        every = {
            one.queue_id: one
            for one in mail_queue.listed(directory)
            if one.arrival_time >= since and (not queues or one.queue_name in queues)
        }
        for done, (queue_id, owner) in enumerate(mail_queue.owners(directory, list(every)), 1):
            report(done, len(every))
            if owned(owner, sasl_domain) == subject:
                yield _message(directory, every[queue_id], subject)


def named(directories: Iterable[str], ids: Iterable[str], sasl_domain: str) -> Iterator[Message]:
    """Yield messages that an operator named by their queue ids.

    Raises:
        HostError: a queue cannot be listed.
    """
    wanted = set(ids)
    for directory in directories:
        every = {o.queue_id: o for o in mail_queue.listed(directory) if o.queue_id in wanted}
        for queue_id, owner in mail_queue.owners(directory, list(every)):
            yield _message(directory, every[queue_id], owned(owner, sasl_domain))


def owned(owner: Queued, sasl_domain: str) -> str:
    """Return whose a message is: an account, else the client's address; "" of sendmail(1)."""
    if owner.login:
        return subjects.account(subjects.from_log(owner.login[:TEXT_LENGTH]), sasl_domain)
    return owner.client


def change(what: str, messages: Iterable[Message], on_hold: OnHold) -> int:
    """Hold, release or delete messages; return how many.

    Raises:
        HostError: postsuper refuses.
    """
    by_instance: dict[str, list[Message]] = {}
    for message in messages:
        by_instance.setdefault(message.instance, []).append(message)
    act = {"hold": mail_queue.hold, "release": mail_queue.release, "delete": mail_queue.delete}
    done = 0
    for directory, some in by_instance.items():
        ids = {message.queue_id for message in some}
        act[what](directory, ids)
        done += len(ids)
        for held in on_hold.all():  # an operator's word counts: not released later
            if held.instance == directory and held.queue_id in ids:
                on_hold.remove(held)
    return done


def due(on_hold: OnHold, now: float, sasl_domain: str, *, early: bool = False) -> list[Held]:
    """Return what has to be released, the oldest first; records of nothing are removed.

    Only messages that the daemon recorded, that are on hold, and whose file has the login or client
    and the arrival time of the record: short queue ids are used again.

    Args:
        on_hold: what was recorded.
        now: wall clock.
        sasl_domain: see `subjects.account`.
        early: before the deadline too.
    """
    by_instance: dict[str, dict[str, Held]] = {}
    for held in on_hold.all():
        if early or _remaining(held, now) <= 0:
            by_instance.setdefault(held.instance, {})[held.queue_id] = held
    found: list[Held] = []
    for directory, some in by_instance.items():
        try:
            found.extend(_ours(directory, some, on_hold, now, sasl_domain))
        except HostError:
            continue  # an instance that is gone; the records stay
    return sorted(found, key=lambda held: held.time)


def _ours(
    directory: str, some: dict[str, Held], on_hold: OnHold, now: float, sasl_domain: str
) -> Iterator[Held]:
    old = {queue_id for queue_id, held in some.items() if now > held.time + _SESSION}
    unfinished = mail_queue.unfinished(directory) if old else set()  # before: it moves on to hold
    listed = {o.queue_id: o for o in mail_queue.listed(directory) if o.queue_id in some}
    for queue_id, held in some.items():
        one = listed.get(queue_id)
        if one is None:
            if queue_id in old - unfinished:  # else its session may not have ended
                on_hold.remove(held)
        elif one.queue_name in ("deferred", "active") or not _same_time(one, held):
            on_hold.remove(held)  # released by somebody, or another message
            del listed[queue_id]
    ids = [queue_id for queue_id, one in listed.items() if one.queue_name == "hold"]
    for queue_id, owner in mail_queue.owners(directory, ids):
        held = some[queue_id]
        if (held.owner or held.subject) in (owned(owner, sasl_domain), owner.client):
            yield held
        else:
            on_hold.remove(held)


def release_due(
    on_hold: OnHold,
    sasl_domain: str,
    *,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Release what is due at the rate of each subject, until nothing is on hold; return how many.

    Args:
        on_hold: what was recorded.
        sasl_domain: see `subjects.account`.
        clock: wall clock, for deadlines.
        steady: seconds that only ever grow, for rates.
        sleep: pauses.
    """
    done = 0
    free: dict[str, float] = {}  # when the next message of a subject may go
    while on_hold.count():
        wall, now = clock(), steady()
        pending = due(on_hold, wall, sasl_domain)
        # Late for a slow machine's sake is made up for; of who had nothing to release it is not.
        free = {subject: free.get(subject, now) for subject in {h.subject for h in pending}}
        ready: dict[str, list[Held]] = {}
        for held in pending:
            if free[held.subject] <= now:
                free[held.subject] += held.per / held.messages
                ready.setdefault(held.instance, []).append(held)
        for directory, some in ready.items():
            mail_queue.release(directory, [held.queue_id for held in some])
            done += len(some)
            for held in some:
                on_hold.remove(held)
        if on_hold.count():
            sleep(_pause(on_hold, free, wall, now, steady() - now))
    return done


def _pause(on_hold: OnHold, free: dict[str, float], wall: float, now: float, spent: float) -> float:
    """Return how long nothing has to be done; at most `_LOOK` seconds.

    What was due when the pass began and is still recorded could not be released: its session has
    not ended, or its instance is gone. It is looked at again with the next.

    Args:
        on_hold: what was recorded.
        free: when the next message of a subject may go.
        wall: wall clock when the pass began.
        now: the clock of `free` then.
        spent: seconds that the pass took.
    """
    waits = [
        max(_remaining(held, wall), free.get(held.subject, now) - now) for held in on_hold.all()
    ]
    later = min((wait for wait in waits if wait > 0), default=_LOOK + spent)
    return min(_LOOK, max(_SHORTEST, later - spent))


_LOOK, _SHORTEST = 30.0, 0.2


def _same_time(one: Listed, held: Held) -> bool:
    return held.time - _SESSION <= one.arrival_time <= held.time + _ROUNDED


def _remaining(held: Held, now: float) -> float:
    """Return the seconds until a message is due; none where the clock was set back since."""
    return held.deadline - now if now >= held.time - _ROUNDED else 0.0


def _message(directory: str, one: Listed, subject: str) -> Message:
    return Message(
        directory,
        one.queue_id,
        one.queue_name,
        one.arrival_time,
        one.message_size,
        one.sender,
        subject,
    )
