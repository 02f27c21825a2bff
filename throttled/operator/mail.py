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
from throttled.host.on_hold import Held, OnHold, matches
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
        return subjects.account_in_log(owner.login[:TEXT_LENGTH], sasl_domain)
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
        on_hold.dismiss(ids)
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
    found = _pending(on_hold, on_hold.all(), now, early=early)
    return [held for some in _by_instance(found) for held in _ours(some, on_hold, sasl_domain)]


def release_all(
    on_hold: OnHold,
    sasl_domain: str,
    release: Callable[[Sequence[Held]], object],
    *,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[int, list[Held]]:
    """Release all that was put on hold, also what is received now: it goes on hold at its end.

    Args:
        on_hold: what was recorded.
        sasl_domain: see `subjects.account`.
        release: releases messages, and removes their records.
        steady: seconds that only ever grow.
        sleep: pauses.

    Returns:
        How many were released, and what was still received after `_PATIENCE` seconds.
    """
    done, end = 0, steady() + _PATIENCE
    while True:
        if found := due(on_hold, time.time(), sasl_domain, early=True):
            release(found)
            done += len(found)
        left = list(on_hold.all())
        if not left or steady() >= end:
            return done, left
        sleep(_SHORTEST)


def _pending(
    on_hold: OnHold, records: Iterable[Held], now: float, *, early: bool = False
) -> list[Held]:
    """Return what is due and on hold, the oldest first; records of nothing are removed."""
    wanted = (held for held in records if early or _remaining(held, now) <= 0)
    found: list[Held] = []
    for some in _by_instance(wanted):
        try:
            found.extend(_on_hold(some, on_hold, now, early=early))
        except HostError:
            continue  # an instance that is gone; the records stay
    return sorted(found, key=lambda held: held.time)


def _by_instance(records: Iterable[Held]) -> Iterable[list[Held]]:
    found: dict[str, list[Held]] = {}
    for held in records:
        found.setdefault(held.instance, []).append(held)
    return found.values()


def _on_hold(some: Sequence[Held], on_hold: OnHold, now: float, *, early: bool) -> Iterator[Held]:
    """Yield the records of an instance whose message is on hold."""
    directory = some[0].instance
    old = {held.queue_id for held in some if early or now > held.time + _SESSION}
    unfinished = mail_queue.unfinished(directory) if old else set()  # before: it moves on to hold
    ids = {held.queue_id for held in some}
    listed = {one.queue_id: one for one in mail_queue.listed(directory) if one.queue_id in ids}
    for held in some:
        one = listed.get(held.queue_id)
        if one is None:
            if held.queue_id in old - unfinished:  # else its session may not have ended
                on_hold.remove(held)
        elif one.queue_name in ("deferred", "active"):
            on_hold.remove(held)  # released by somebody
        elif one.queue_name == "hold" and _same_time(one, held):
            yield held
        elif one.queue_name == "hold":
            on_hold.leave(held)


def _ours(some: Sequence[Held], on_hold: OnHold, sasl_domain: str) -> Iterator[Held]:
    """Yield the messages on hold of an instance whose file says who the record says."""
    records = {held.queue_id: held for held in some}
    for queue_id, owner in mail_queue.owners(some[0].instance, list(records)):
        if matches(records[queue_id], (owned(owner, sasl_domain), owner.client)):
            yield records[queue_id]
        else:
            on_hold.leave(records[queue_id])


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
        records = list(on_hold.all())
        wall, now = clock(), steady()
        pending = _pending(on_hold, records, wall)
        # Late for a slow machine's sake is made up for; of who had nothing to release it is not.
        free = {subject: free.get(subject, now) for subject in {h.subject for h in pending}}
        for some in _by_instance(_next(pending, free, now)):
            ready = list(_ours(some, on_hold, sasl_domain))
            mail_queue.release(some[0].instance, [held.queue_id for held in ready])
            done += len(ready)
            for held in ready:
                on_hold.remove(held)
        if on_hold.count():
            left = [held for held in records if on_hold.present(held)]
            sleep(_pause(left, free, wall, now, steady() - now))
    return done


def _next(pending: Iterable[Held], free: dict[str, float], now: float) -> list[Held]:
    """Return what may be released now, at most `_PASS`; only these files are read."""
    found: list[Held] = []
    for held in pending:
        if free[held.subject] <= now and len(found) < _PASS:
            free[held.subject] += held.per / held.messages
            found.append(held)
    return found


def _pause(
    records: Iterable[Held], free: dict[str, float], wall: float, now: float, spent: float
) -> float:
    """Return how long nothing has to be done; at most `_LOOK` seconds.

    What was due when the pass began and is still recorded could not be released: its session has
    not ended, or its instance is gone. It is looked at again with the next.

    Args:
        records: what is recorded.
        free: when the next message of a subject may go.
        wall: wall clock when the pass began.
        now: the clock of `free` then.
        spent: seconds that the pass took.
    """
    waits = [max(_remaining(held, wall), free.get(held.subject, now) - now) for held in records]
    later = min((wait for wait in waits if wait > 0), default=_LOOK + spent)
    return min(_LOOK, max(_SHORTEST, later - spent))


_LOOK, _SHORTEST = 30.0, 0.2
#: Messages in one pass; seconds that `release_all` waits for sessions.
_PASS, _PATIENCE = 100, 30.0


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
