"""`accounts`, `find`, and what `explain` says of a sender.

Accounts, local users, mailboxes and domains are people's: who may use the control socket without
being root sees none of them, unless [accounts] visible says so. Owns no state.
"""

import os
from collections.abc import Iterable
from heapq import nlargest
from typing import Literal

from msgspec.structs import replace

from throttled import address, subjects
from throttled.control.requests import Accounts, Find
from throttled.control.results import (
    AccountRow,
    AccountsResult,
    FindResult,
    Found,
    MeterRow,
    SenderFacts,
    SenderMeterRow,
    Worst,
)
from throttled.control.server import Peer
from throttled.decide.gauge import SenderMeter
from throttled.decide.guessing import Target
from throttled.duration import Duration
from throttled.errors import NotPermittedError
from throttled.model import Action, Decision, SenderDay, SenderRow, Snapshot
from throttled.operator.desk import Desk
from throttled.settings import GUESSING
from throttled.store.store import Filter

_DAY = 86400.0
_REPORTS = 20
_STRENGTH: tuple[Action, ...] = ("exempt", "throttle", "ban")


def visible(desk: Desk, peer: Peer) -> bool:
    """Return whether who asks may see accounts, users, mailboxes and domains."""
    return peer.uid in (0, os.geteuid()) or desk.config().accounts.visible == "group"


def refuse_invisible(desk: Desk, peer: Peer) -> None:
    """Refuse to show senders to who may not see them.

    Raises:
        NotPermittedError: it is so.
    """
    if not visible(desk, peer):
        hint = 'for the members of [control] group too: [accounts] visible = "group"'
        raise NotPermittedError("accounts are shown to root alone", hint)


def masked(subject: str) -> str:
    """Return a subject as it is shown to who may not see senders."""
    return f"{address.kind(subject)}:(hidden)" if address.is_named(subject) else subject


def without_names(rows: Iterable[Snapshot]) -> list[Snapshot]:
    """Return rows of `list` without the names of accounts, users, mailboxes and domains."""
    return [replace(row, subject=masked(row.subject)) for row in rows]


def decisions_without_names(decisions: Iterable[Decision]) -> list[Decision]:
    """Return decisions without the names of accounts, users, mailboxes and domains."""
    return [replace(d, subject=masked(d.subject)) for d in decisions]


def accounts(desk: Desk, request: Accounts, peer: Peer) -> AccountsResult:
    """Return what senders did today.

    Raises:
        NotPermittedError: accounts are for root alone.
        StoreError: the store cannot be read.
    """
    refuse_invisible(desk, peer)
    moment = desk.clock()
    _store_days(desk)
    text = request.text.casefold()
    found = desk.store.senders.of_day(int(moment.wall // _DAY), text, request.of or "")
    rows = [_account(desk, row, moment.boot) for row in found]
    rows = _under_attack(desk, rows, request)
    rows.sort(key=lambda row: (-(getattr(row, request.sort) or 0), row.subject))
    enabled = desk.config().accounts.enabled
    return AccountsResult(rows[: request.max], len(rows), enabled)


def find(desk: Desk, request: Find, peer: Peer) -> FindResult:
    """Return who may be meant by a piece of a name, a host name or an address.

    Raises:
        NotPermittedError: accounts are for root alone.
        StoreError: the store cannot be read.
    """
    refuse_invisible(desk, peer)
    moment, text, most = desk.clock(), request.text.casefold(), request.max
    _store_days(desk)
    found: dict[str, Found] = {}
    for row in desk.store.senders.of_day(int(moment.wall // _DAY), text, ""):
        sender = subjects.of(row.subject)
        if sender is not None and sender != "client":
            found[row.subject] = Found(row.subject, sender, known=_did(row))
    names = dict(desk.pipeline.engine.named(text, most))
    names |= {
        row.what: row.name for row in desk.store.allowlist.entries(moment.wall) if text in row.name
    }
    clients = desk.store.listing.matching(text, moment.wall, most)
    for client in {**names, **dict.fromkeys(clients)}:
        kind = address.kind(client)
        known = clients.get(client, "")
        if client in found:
            found[client] = replace(found[client], name=names.get(client, ""))
        elif kind in ("address", "network"):
            of: Literal["network", "client"] = "network" if kind == "network" else "client"
            found[client] = Found(client, of, names.get(client, ""), known=known)
    rows = [replace(row, active=_active(desk, row.subject)) for row in list(found.values())[:most]]
    return FindResult(sorted(rows, key=lambda row: (row.active is None, row.kind, row.subject)))


def facts(desk: Desk, subject: str) -> SenderFacts | None:
    """Return what is known of a subject as a sender; None of a client that is none.

    Raises:
        StoreError: the store cannot be read.
    """
    moment, senders = desk.clock(), desk.pipeline.senders
    _store_days(desk)
    today = int(moment.wall // _DAY)
    days = desk.store.senders.days(subject)
    reports = desk.store.senders.reports(0.0, subject, _REPORTS)
    inside = address.kind(subject) == "address" and senders.queue.inside(subject)
    if not (days or inside or address.is_named(subject)):
        return None
    now = next((day for day in days if day.day == today), SenderDay(subject, today))
    before = [day.recipients for day in days if day.day < today]
    usual = sum(before) // len(before) if before else 0
    counts = now.messages, now.recipients, now.bytes, now.bounces, now.deferrals
    row = SenderRow(subject, *counts, usual, max(before, default=0), now.received)
    shown = reports[0].shown if reports else senders.queue.shown(subject)
    meters = [_meter(desk, m) for m in senders.meters(subject, moment.boot)] if desk.running else []
    target = desk.pipeline.engine.guessing.target(subject, moment.boot)
    if target is not None:
        meters.append(_guesses(desk, target))
    sources = target.sources if target is not None else 0
    return SenderFacts(shown, row, len(before), meters, reports, sources)


def worst(desk: Desk, most: int) -> list[Worst]:
    """Return the senders that are nearest to a threshold, or furthest above it, for `top`."""
    moment = desk.clock()
    found = desk.pipeline.senders.worst(most, moment.boot)
    rows = []
    for subject, meter, scope in found:
        soft, hard = meter.threshold or None, meter.hard or None
        shown = MeterRow(meter.limit, scope, meter.value, soft, hard, meter.within)
        rows.append(Worst(subject, shown, _active(desk, subject)))
    return rows


def merged(clients: list[Worst], senders: list[Worst], most: int) -> list[Worst]:
    """Return the worst of clients and senders together."""

    def share(row: Worst) -> float:
        return row.meter.value / (row.meter.hard or row.meter.soft or 1)

    return nlargest(most, [*clients, *senders], key=share)


def next_step(sender: SenderFacts) -> str:
    """Say what would happen next to a sender; "" where it is near no threshold."""
    for meter in sender.meters:
        if meter.above and meter.limit == GUESSING:
            return "clients whose logins on it fail are throttled; the account is never locked"
        if meter.above and meter.mode == "report":
            return f"reported again at twice the value, or after {Duration(meter.within)}"
    nearest: tuple[float, str] = (0.0, "")
    for meter in sender.meters:
        for threshold, word in ((meter.soft, "throttled"), (meter.hard, "banned")):
            if threshold is None or not 0 < meter.value <= threshold:
                continue
            done = "reported" if meter.mode == "report" else word
            left = threshold - meter.value + 1
            within = f"({meter.value} of {threshold} within {Duration(meter.within)})"
            text = f"{done} after {left} more {meter.count} on limit {meter.limit} {within}"
            nearest = max(nearest, (meter.value / threshold, text))
    return nearest[1]


def _store_days(desk: Desk) -> None:
    """Add to the store what was counted since the last minute; without a daemon there is nothing.

    Raises:
        StoreError: it cannot be written.
    """
    senders = desk.pipeline.senders
    if desk.running is not None and desk.pipeline.recorder.error is None:
        days = senders.days()
        if days:
            desk.store.senders.add(days)
            senders.stored()


def _account(desk: Desk, row: SenderRow, at: float) -> AccountRow:
    meters = desk.pipeline.senders.meters(row.subject, at) if desk.running else []
    networks = [meter.value for meter in meters if meter.count == "networks"]
    if not networks and desk.running and address.kind(row.subject) == "account":
        networks = [0]
    return AccountRow(
        row.subject,
        row.messages,
        row.recipients,
        row.bytes,
        row.bounces,
        row.deferrals,
        row.received,
        max(networks, default=None),
        row.usual,
        row.highest,
        [meter.limit for meter in meters if meter.above],
    )


def _meter(desk: Desk, meter: SenderMeter) -> SenderMeterRow:
    policy = desk.pipeline.ladder.policy
    return SenderMeterRow(
        meter.limit,
        meter.count,
        meter.value,
        meter.threshold or None,
        meter.hard or None,
        meter.within,
        policy.mode_of(meter.limit) if meter.acting else "report",
        meter.above,
    )


def _guesses(desk: Desk, target: Target) -> SenderMeterRow:
    settings = desk.pipeline.ladder.policy.guessing
    about = GUESSING, "guesses", target.tries, settings.tries, None, float(settings.within)
    return SenderMeterRow(*about, "report", target.attacked)


def _under_attack(desk: Desk, rows: list[AccountRow], request: Accounts) -> list[AccountRow]:
    """Return rows of `accounts` with the accounts under attack, also those that send nothing."""
    if request.of not in (None, "account"):
        return rows
    text, attacked = request.text.casefold(), desk.pipeline.engine.guessing
    names = {t.account for t in attacked.attacked(desk.clock().boot) if text in t.account}
    found = [
        replace(row, above=[*row.above, GUESSING]) if row.subject in names else row for row in rows
    ]
    others = names - {row.subject for row in rows}
    nothing = 0, 0, 0, 0, 0, 0, 0, 0, 0
    return found + [AccountRow(name, *nothing, [GUESSING]) for name in others]


def _did(row: SenderRow) -> str:
    if row.received and not row.messages:
        return f"{row.received:,} messages received today"
    counts = (
        f"{row.messages:,} messages, {row.recipients:,} recipients, {row.bounces:,} bounces today"
    )
    return f"{counts}; usual {row.usual:,} recipients a day" if row.usual else counts


def _active(desk: Desk, subject: str) -> Action | None:
    rows = desk.store.listing.snapshots(desk.clock().wall, Filter(subject=subject))
    return max((row.action for row in rows), default=None, key=_STRENGTH.index)
