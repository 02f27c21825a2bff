"""`explain`: all that is known of a subject."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from throttled import address
from throttled.control.requests import Explain
from throttled.control.results import ExplainResult, LogText, MeterRow, SenderFacts
from throttled.control.server import Peer
from throttled.decide.ladder import OPERATOR
from throttled.decide.limits import Meter
from throttled.decide.overload import known_good
from throttled.duration import Duration
from throttled.errors import SourceError
from throttled.model import SCOPES, Decision, Event, Line, Snapshot
from throttled.operator.allow import rows as allowlist
from throttled.operator.desk import Desk
from throttled.operator.inside import inside
from throttled.operator.list import count_packets
from throttled.operator.senders import facts, next_step, refuse_invisible, visible
from throttled.tail.readback import lines_at

#: Accounts that are named at most.
_ACCOUNTS = 10


async def explain(desk: Desk, request: Explain, peer: Peer) -> ExplainResult:
    """Return what is known of a subject; without a daemon there are no meters and sessions.

    Raises:
        NotPermittedError: it is an account, and these are for root alone.
        StoreError: the store cannot be read.
    """
    subject, moment = request.subject, desk.clock()
    engine, ladder = desk.pipeline.engine, desk.pipeline.ladder
    if address.is_named(subject):
        refuse_invisible(desk, peer)
    seen = visible(desk, peer)
    sender = facts(desk, subject) if seen else None
    network = address.network_of(subject)
    count_packets(desk, desk.active(subject))
    active = [row for each in address.around(subject) for row in desk.active(each)]
    decisions = desk.store.decisions(subject)
    pasts = desk.store.past([(subject, scope) for scope in SCOPES], moment.wall)
    past = max(pasts.values(), key=lambda known: (known.action == "ban", known.offences))
    counted = [*engine.lines(subject), *(desk.pipeline.senders.lines(subject) if sender else ())]
    lines = tuple(dict.fromkeys(counted)) or next((d.lines for d in decisions if d.lines), ())
    meters = [meter_row(meter) for meter in engine.meters(subject, moment.boot)]
    if address.is_named(subject):
        meters = []
    protected = ladder.protection.reason(subject)
    would = "would be " if desk.observing else ""
    ban = partial(ladder.next_ban, past, moment.wall)
    texts, events = await _read_back(desk, lines)
    return ExplainResult(
        subject=subject,
        network=network,
        protected=protected,
        active=active,
        meters=meters,
        sessions=engine.sessions(subject),
        lines=texts,
        decisions=decisions,
        past=past,
        allowed=[row for row in allowlist(desk) if address.inside(subject, row.what)],
        next=_further(desk, sender, _next(protected, active, meters, ban, would)),
        sender=sender,
        hint="" if protected else engine.checks.hint(subject, moment.boot),
        proxied=desk.pipeline.behind.active(moment.wall, subject),
        known_good=tuple(
            scope
            for (_, scope), known in pasts.items()
            if not address.is_named(subject) and (protected or known_good(known, moment.wall))
        ),
        name=_name(desk, subject, decisions, events),
        accounts=_accounts(events) if seen and sender is None else [],
        ports=desk.running.reconciler.ports if desk.running else {},
        inside=await inside(desk, subject),
    )


def _name(desk: Desk, subject: str, decisions: Sequence[Decision], events: Sequence[Event]) -> str:
    """Return the host name of a client, the latest that is known; "" where there is none."""
    named = (event.name for event in reversed(events) if event.client == subject)
    known = (decision.name for decision in decisions)
    return next(filter(None, chain([desk.pipeline.engine.name(subject)], named, known)), "")


def _accounts(events: Sequence[Event]) -> list[str]:
    """Return the accounts that lines name, the most frequent first."""
    counts = Counter(event.user for event in events if event.user)
    return [user for user, _count in counts.most_common(_ACCOUNTS)]


def _further(desk: Desk, sender: SenderFacts | None, client: str) -> str:
    """Return what would happen next: to a sender; else `client`, to a client."""
    if desk.running is None:
        return "unknown: the daemon does not answer"
    if sender is None or desk.protection.sender(sender.today.subject):
        return client
    return next_step(sender) or client


async def _read_back(desk: Desk, lines: Sequence[Line]) -> tuple[list[LogText], list[Event]]:
    """Return lines read back from the logs, and the events in them.

    In a thread, as a compressed log takes its time.
    """
    by_source: dict[int, list[int]] = {}
    for line in lines:
        by_source.setdefault(line.source, []).append(line.offset)
    parse = desk.pipeline.counting.parser.event
    texts: list[LogText] = []
    events: list[Event] = []
    for source, offsets in by_source.items():
        file = desk.store.positions.source_file(source)
        if file is None:
            continue
        try:
            found = await asyncio.to_thread(lines_at, *file, offsets)
        except (SourceError, OSError):  # no journal, or not for this user: how it read is unknown
            found = [None] * len(offsets)
        for offset, text in zip(offsets, found, strict=True):
            event = parse(text) if text else None
            texts.append(_log_text(file[0], offset, text or "", event))
            events += [event] if event else []
    return texts, events


def _log_text(path: str, offset: int, text: str, event: Event | None) -> LogText:
    if event is None:
        return LogText(0.0, path, offset, text)
    return LogText(event.time, path, offset, text, event.kind, event.reason)


def meter_row(meter: Meter) -> MeterRow:
    """Return a meter as it is shown."""
    soft, hard = meter.soft or None, meter.hard or None
    return MeterRow(
        meter.limit,
        meter.scope,
        meter.value,
        soft,
        hard,
        meter.within,
        kernel=meter.kernel,
        proxied=meter.proxied,
    )


def _next(
    protected: str,
    active: Sequence[Snapshot],
    meters: Sequence[MeterRow],
    ban: Callable[[str], float],
    would: str,
) -> str:
    """Say what would happen next to a subject; `would` precedes what only would."""
    if protected:
        return f"nothing: {protected}"
    for row in active:
        if row.action == "ban":
            stated = row.limit == OPERATOR and not row.level
            ends = "the ban ends" if stated else "the ban ends in a throttle"
            return f"{ends}; another ban would be longer"
    throttled = {row.scope for row in active if row.action == "throttle"}
    nearest: tuple[float, str] = (0.0, "")
    for meter in meters:
        for threshold, word in ((meter.soft, "throttled"), (meter.hard, "banned")):
            if threshold is None or not 0 < meter.value <= threshold or meter.proxied:
                continue
            if word == "throttled" and meter.scope in throttled:
                continue
            left = threshold - meter.value + 1
            length = f" for {Duration(ban(meter.limit))}" if word == "banned" else ""
            text = (
                f"{would}{word} in {meter.scope}{length} after {left} more "
                f"counted by limit {meter.limit} "
                f"(now {meter.value}, limit {threshold}, within {Duration(meter.within)})"
            )
            nearest = max(nearest, (meter.value / threshold, text))
    if throttled and not nearest[1]:
        return "the throttle ends, unless a limit is exceeded again"
    return nearest[1] or "nothing: no counted offences"
