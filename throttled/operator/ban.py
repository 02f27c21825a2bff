"""`ban` and `throttle`: manual decisions, recorded, applied and looked up before the answer.

The answer describes the kernel, not the store.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from throttled import address
from throttled.control.requests import Ban, Entered, Throttle
from throttled.control.results import ChangeResult
from throttled.control.server import Peer
from throttled.duration import Duration
from throttled.errors import RefusedError, StoreError
from throttled.model import (
    DONE,
    RESTRICTING,
    Action,
    Decision,
    Entry,
    Past,
    Rate,
    Scope,
    Snapshot,
)
from throttled.operator.desk import Desk, scopes_of

log = logging.getLogger(__name__)

Key = tuple[str, Scope]


def ban(desk: Desk, request: Ban | Throttle, peer: Peer) -> ChangeResult:
    """Ban or throttle a subject.

    Raises:
        RefusedError: it is protected.
    """
    subject = request.subject
    scopes = scopes_of(request.scope, subject)
    action: Literal["ban", "throttle"] = "ban" if isinstance(request, Ban) else "throttle"
    why = f"manual, uid {peer.uid}" + (f": {request.why}" if request.why else "")
    entry = Entered(subject, action, request.scope, request.seconds, why)
    wall = desk.clock().wall
    more = "".join(_notes([row for row in desk.active(subject) if row.scope in scopes], wall))
    more += _history(_pasts(desk, [(subject, scope) for scope in scopes], wall)[0].values())
    rate = None
    if isinstance(request, Throttle) and request.rate is not None:
        burst = min(request.rate, desk.config().throttle.burst)
        rate = Rate(request.rate, float(request.per), burst)
    refused = punish(desk, [entry], peer, rate=rate)
    if refused:
        raise refused[0]
    wanted = [Entry(subject, scope, action, 0.0) for scope in scopes]
    confirmed = len(desk.lookup(wanted) or ()) == len(scopes)
    rows = [row for row in desk.active(subject) if row.scope in scopes]
    verb = DONE[action]
    where = "" if address.is_named(subject) else f" in {' and '.join(scopes)}"
    if desk.observing:
        message = f"{subject} would be {verb}{where}; observing, nothing is enforced"
    elif confirmed:
        message = f"{subject} is {verb}{where}"
    else:
        message = f"{subject} is not {verb}{where}: {desk.refusal()}"
    error = desk.pipeline.recorder.error
    if error is not None:
        message += f"; not in the database yet ({error.message})"
    return ChangeResult(rows, confirmed, message + more)


def _notes(rows: Iterable[Snapshot], wall: float) -> Iterator[str]:
    """Yield what was active before and is replaced, each with what separates it."""
    for row in rows:
        if row.action in RESTRICTING and row.until > wall:
            left = Duration(row.until - wall)
            where = "" if address.is_named(row.subject) else f" in {row.scope}"
            yield f"; before: {DONE[row.action]}{where} for {left} more ({row.limit})"


def _history(pasts: Iterable[Past]) -> str:
    """Return a warning that a client is known as a good one; "" where it is not."""
    past = max(pasts, key=lambda known: (known.delivery_days, known.logins))
    good = []
    if past.deliveries:
        good.append(f"delivered mail on {past.delivery_days} of the last 30 days")
    if past.logins:
        good.append(f"logged in {past.logins} times in 30 days")
    return f"; warning: it {' and '.join(good)}" if good else ""


def punish(
    desk: Desk,
    entries: Sequence[Entered],
    peer: Peer,
    *,
    notice: bool = True,
    rate: Rate | None = None,
) -> dict[int, RefusedError]:
    """Ban and throttle in one batch; return what was refused, by its place.

    Args:
        desk: what is changed.
        entries: subjects; none with the action `allow`.
        peer: who asked.
        notice: each decision is worth a notification; `import` makes too many.
        rate: of throttles; None = that of [throttle].
    """
    moment = desk.clock()
    keys = [
        (entry.subject, scope)
        for entry in entries
        for scope in scopes_of(entry.scope, entry.subject)
    ]
    pasts, sure = _pasts(desk, keys, moment.wall)
    refused: dict[int, RefusedError] = {}
    decisions: dict[Key, Decision] = {}
    manual = desk.pipeline.ladder.manual
    for at, entry in enumerate(entries):
        action: Action = "throttle" if entry.action == "throttle" else "ban"
        why = entry.why or f"manual, uid {peer.uid}"
        try:
            _refuse_unenforceable(desk, entry.subject)
            for scope in scopes_of(entry.scope, entry.subject):
                key = entry.subject, scope
                decisions[key] = manual(
                    action,
                    *key,
                    pasts[key],
                    moment.wall,
                    seconds=entry.seconds,
                    why=why,
                    sender=desk.answered(entry.subject),
                    rate=rate,
                )
        except RefusedError as error:
            refused[at] = error
    # What is active gives way: a ban to a shorter ban or to a throttle.
    releases = [
        replace(d, action="release", level=0, until=moment.wall, rate=None)
        for key, d in decisions.items()
        if pasts[key].action not in (None, d.action)
    ]
    before = {
        key: past.action if sure else None
        for key, past in pasts.items()
        if not sure or max(past.until, past.exempt_until) > moment.wall
    }
    desk.pipeline.decide([*releases, *decisions.values()], moment, before=before)
    desk.announce(list(decisions.values()), notice=notice)
    return refused


def _refuse_unenforceable(desk: Desk, subject: str) -> None:
    """Refuse an account or another sender where nothing would act on it.

    Raises:
        RefusedError: it is so.
    """
    if address.is_named(subject) and not desk.asks(subject):
        hint = "let Postfix ask: throttled postfix connect"
        if address.kind(subject) == "mailbox":
            hint += ', once a limit of = "mailbox" has mode = "throttle" or "enforce"'
        raise RefusedError(f"{subject} cannot be throttled or banned: Postfix does not ask", hint)


def _pasts(desk: Desk, keys: Sequence[Key], wall: float) -> tuple[Mapping[Key, Past], bool]:
    """Return what the store knows of subjects, and whether that is all that is active.

    Nothing where it cannot be read; while it cannot be written the kernel may have more.
    """
    try:
        return desk.store.past(keys, wall), desk.pipeline.recorder.error is None
    except StoreError as error:
        log.error("%s; manual decisions without history. %s", error.message, error.hint)
        return dict.fromkeys(keys, Past()), False
