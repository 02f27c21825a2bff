"""What the commands answer, as text for people: one line after the other, not yet printable.

JSON is in `output`. Owns no state.
"""

from collections.abc import Iterator

import click

from throttled.address import is_named
from throttled.cli import output, senders
from throttled.cli.output import moment, number
from throttled.control.protocol import (
    AllowedResult,
    AuditResult,
    ChangeResult,
    Done,
    ExplainResult,
    ListResult,
    MeterRow,
    PatternStatus,
    Result,
    StatusResult,
    TailStatus,
)
from throttled.log_paths import is_journal
from throttled.model import SCOPES, Decision, Past, Scope, Snapshot
from throttled.settings import Duration


def show(result: Result, *, as_json: bool, removed: bool = False) -> None:
    """Print a result.

    Args:
        result: of a command.
        as_json: as JSON.
        removed: what a change names is active no longer.
    """
    if as_json:
        output.print_json(result)
        return
    match result:
        case StatusResult():
            lines = status(result)
        case ExplainResult():
            lines = explain(result)
        case ChangeResult():
            lines = _change(result, removed=removed)
        case AuditResult():
            lines = _audit(result)
        case AllowedResult() if result.rows:
            _allowed(result)
            return
        case AllowedResult():
            lines = iter(["the allowlist is empty; see also [protect] in the configuration"])
        case Done():
            lines = iter([result.message])
        case _:
            raise AssertionError(result)
    for line in lines:
        click.echo(output.printable(line).rstrip())


def status(result: StatusResult) -> Iterator[str]:
    """Yield what `status` says."""
    for label, text in _status(result):
        yield f"{label:<11}{text}"


def _status(status: StatusResult) -> Iterator[tuple[str, str]]:
    up = f"pid {status.pid}, up {output.lasting(status.uptime)} (since {moment(status.started)})"
    yield "throttled", f"{status.version}, {up if status.pid else 'not running'}"
    yield "firewall", f"{status.backend}, mode {status.mode}"
    logs = [text for tail in status.tails for text in _tail(tail)]
    yield from _labelled("log", [*logs, *map(_pattern, status.patterns)])
    if status.sensor:
        yield from _labelled("sensor", [status.sensor.what, *filter(None, [status.sensor.hint])])
    if status.backlog:
        yield "evidence", status.backlog
    if status.pid:  # what nobody counts is not 0
        tracked = f"{number(status.clients)} tracked of {number(status.max_clients)} at most"
        yield "clients", tracked
    yield from _caps(status)
    yield from _in_force(status)
    if status.pid:
        lost = f"{number(status.lines_lost)} lost by the logger"
        yield "lines", f"{number(status.lines)} read, {lost}, {number(status.errors)} errors"
    if status.answers:
        named = {"pass": "at once", "wait": "late", "hold": "on hold", "defer": "deferred"}
        named["refuse"] = "refused"
        shown = [
            f"{number(status.answers[v])} {w}" for v, w in named.items() if v in status.answers
        ]
        yield "answers", f"to Postfix: {', '.join(shown)}"
    by_count = sorted(status.events.items(), key=lambda item: -item[1])
    yield from _labelled("events", _columns(by_count))
    for finding in status.health:
        yield from output.paragraph(finding)


def _pattern(status: PatternStatus) -> str:
    above = status.matching - status.followed
    more = f" of {number(status.matching)} that match" if above else ""
    return f"{status.pattern}: {status.followed} files{more}"


def _labelled(label: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield texts, the first of them with a label."""
    for at, text in enumerate(texts):
        yield "" if at else label, text


def _in_force(status: StatusResult) -> Iterator[tuple[str, str]]:
    if status.would:
        yield "would", f"throttle {_by_scope(status.throttled)}"
        yield "", f"ban {_by_scope(status.banned)}"
        yield "kernel", "nothing is enforced (observe mode); see: throttled preview"
        return
    yield "throttled", _by_scope(status.throttled)
    yield "banned", _by_scope(status.banned)
    if any(status.exempt.values()):
        yield "exempt", _by_scope(status.exempt)
    if status.on_hold:
        yield "on hold", f"{number(status.on_hold)} messages, released after [accounts] hold"
    yield "dropped", f"{number(status.packets_dropped)} packets"
    how = "counted by the kernel" if status.counted else "estimated from a sample"
    elements = f"has {number(status.enforced)} of {number(status.desired)} elements, {how}"
    yield "kernel", elements


def _tail(tail: TailStatus) -> list[str]:
    if not tail.exists:
        state = "does not exist yet"
    else:
        state = (
            f"{tail.lines_per_second:.1f} lines/s, {number(tail.lag)} bytes behind, "
            f"last line {moment(tail.last_line)}"
        )
    cut = [f"{number(tail.cut)} lines were too long and truncated"] if tail.cut else []
    return [tail.path, state, *cut, *tail.problems]


def _caps(status: StatusResult) -> list[tuple[str, str]]:
    """Return what fell to a cap or waits; nothing when all is well."""
    return [
        ("", f"{number(count)} {what}")
        for count, what in (
            (status.forgotten, "counters evicted early: more clients than max_clients"),
            (status.unrecorded, "decisions not yet recorded"),
            (status.unapplied, "elements not yet in the kernel"),
            (status.let_go, "pending decisions or elements were dropped: too many"),
        )
        if count
    ]


def _by_scope(counts: dict[Scope, int]) -> str:
    return ", ".join(f"{number(counts.get(scope, 0))} in {scope}" for scope in SCOPES)


def _columns(counts: list[tuple[str, int]]) -> list[str]:
    """Set counts in three columns of 23 characters."""
    cells = [f"{kind} {number(count)}".ljust(23) for kind, count in counts]
    return ["".join(cells[i : i + 3]) for i in range(0, len(cells), 3)]


def explain(result: ExplainResult) -> Iterator[str]:
    """Yield what `explain` says, line by line; not yet printable."""
    named = is_named(result.subject)
    yield from _head(result)
    would = "would " if result.would else ""
    heading = "Would be active (observe mode)" if result.would else "Active"
    yield f"{heading}:" if result.active else f"{heading}: none"
    for snapshot in result.active:
        yield from _active(snapshot, would)
    yield from _proxied(result.proxied)
    yield from _meters(result.meters)
    if result.sender is not None:
        yield from senders.facts(result.sender)
    if not named:
        yield f"Sessions open: {result.sessions}"
    if result.lines:
        yield "Log lines that counted:"
    for line in result.lines:
        # A place in the journal is a time, which the line begins with.
        yield f"  {line.path}" + ("" if is_journal(line.path) else f", byte {line.offset}")
        yield f"    {output.log_text(line.text) or '(no longer in the log)'}"
    if result.decisions:
        yield "Decisions, the latest first:"
        yield from (_decision(decision, would) for decision in result.decisions)
    if not named or result.past.offences:
        yield from _past(result.past, "Would-be bans" if result.would else "Bans")
    yield f"Next: {result.next}"
    if result.hint:
        yield f"Hint: {result.hint}"


def _head(result: ExplainResult) -> Iterator[str]:
    """Yield who it is about, and what protects it."""
    network = f" (network {result.network})" if result.network else ""
    sender = result.sender
    if sender is not None and is_named(result.subject):
        name = sender.shown
        yield f"{name}: {senders.summary(result, sender)}"
    else:
        yield f"{result.subject}{network}"
    if result.protected:
        yield f"Protected: {result.protected}"
    for row in result.allowed:
        until = f"until {moment(row.until)}" if row.until else "no end"
        what = f"{row.what} of {row.name}" if row.name else row.what
        yield f"On the allowlist: {what}, since {moment(row.since)}, {until} {row.note}"


def _active(snapshot: Snapshot, would: str) -> Iterator[str]:
    step = f" number {snapshot.level}" if snapshot.level > 1 else ""
    if snapshot.rate is not None:
        step = f" to {output.rate(snapshot.rate)}, {snapshot.rate.burst} at once,"
    word = "exemption" if snapshot.action == "exempt" else snapshot.action
    yield (
        f"  {would}{word}{step} of {snapshot.subject}"
        f"{output.within(snapshot.subject, snapshot.scope)} "
        f"since {moment(snapshot.since)}, {output.left(snapshot.until)} left"
    )
    yield f"    {snapshot.limit}: {snapshot.why}"
    if snapshot.action != "exempt" and not is_named(snapshot.subject):
        yield f"    {number(snapshot.packets)} packets dropped"


def _proxied(rows: list[Snapshot]) -> Iterator[str]:
    if rows:
        yield "Behind a proxy, so not applied:"
    for row in rows:
        yield from _active(row, "would ")


def _meters(rows: list[MeterRow]) -> Iterator[str]:
    if rows:
        yield "Meters:"
        yield f"  {'limit':<20} {'scope':<10} {'value':>7} {'soft':>7} {'hard':>7} within"
        yield from map(_meter, rows)


def _meter(row: MeterRow) -> str:
    soft, hard = (
        "-" if threshold is None else str(threshold) for threshold in (row.soft, row.hard)
    )
    limit = f"{row.limit} (kernel)" if row.kernel else row.limit
    limit = f"{row.limit} (proxied)" if row.proxied else limit
    return (
        f"  {limit:<20} {row.scope:<10} {row.value:>7} {soft:>7} {hard:>7} {Duration(row.within)}"
    )


def _decision(decision: Decision, would: str) -> str:
    return (
        f"  {moment(decision.time)} {would}{decision.action}"
        f"{output.within(decision.subject, decision.scope)}, "
        f"{decision.limit}: {decision.why}"
    )


def _past(past: Past, title: str) -> Iterator[str]:
    bans = f"{past.offences}, the latest until {moment(past.last_offence)}"
    yield f"{title} so far: {bans if past.offences else 'none'}"
    if past.deliveries or past.logins:
        latest = f", the latest {moment(past.last_login)}" if past.logins else ""
        yield (
            f"Good evidence: {past.deliveries} messages, days with mail: {past.delivery_days}; "
            f"{past.logins} logins{latest}"
        )
    else:
        yield "Good evidence: none"
    if past.exempt_until:
        yield f"Exempt until {moment(past.exempt_until)}"


def _change(result: ChangeResult, *, removed: bool) -> Iterator[str]:
    yield result.message
    for snapshot in result.changed:
        yield f"  {_changed(snapshot, removed=removed)}"


def _changed(snapshot: Snapshot, *, removed: bool) -> str:
    until = moment(snapshot.until)
    end = f"removed, would have ended {until}" if removed else f"until {until}"
    return (
        f"{snapshot.subject} {snapshot.action}"
        f"{output.within(snapshot.subject, snapshot.scope)} {end}, "
        f"{snapshot.limit}: {snapshot.why}"
    )


def _audit(result: AuditResult) -> Iterator[str]:
    if not result.rows:
        yield "no changes are recorded"
    for change in result.rows:
        failed = "" if change.ok else "failed: "
        what = f"{change.op} {change.subject}".rstrip()
        yield f"{moment(change.time)} {what}: {failed}{change.outcome}"
        how = "without a daemon, " if change.offline else ""
        process = f" ({how}pid {change.pid}, {change.program or 'gone'})"
        origin = change.user + (process if change.pid else "")  # none: a host of the fleet
        yield output.cut(f"  by {origin}: {change.request}")


def _allowed(result: AllowedResult) -> None:
    rows = [
        (
            row.what,
            moment(row.since),
            output.left(row.until) if row.until else "",
            f"{row.name} {row.note}".strip(),
        )
        for row in result.rows
    ]
    output.print_table(("ALLOWED", "SINCE", ">LEFT", "NOTE"), rows)


def table(first: ListResult, rows: list[Snapshot]) -> None:
    """Print what `list` found.

    Args:
        first: the first page, with the total.
        rows: of all pages.
    """
    would = "would " if first.would else ""
    if not rows:
        click.echo(f"nothing {would}be active" if would else "no active entries")
        return
    columns = ("SUBJECT", "ACTION", "SCOPE", "SINCE", ">LEFT", ">DROPPED", "WHY")
    output.print_table(columns, [_row(row, would) for row in rows])
    if first.total > len(rows):
        click.echo(f"{len(rows):,} of {first.total:,}; see --max and the filters")


def _row(snapshot: Snapshot, would: str) -> tuple[str, ...]:
    action = f"{would}{snapshot.action}"
    if snapshot.level > 1:
        action += f" {snapshot.level}"
    elif snapshot.rate is not None:
        action += f" {output.rate(snapshot.rate)}"
    return (
        snapshot.subject,
        action,
        output.scope(snapshot.subject, snapshot.scope),
        output.short_moment(snapshot.since),
        output.left(snapshot.until),
        output.short_number(snapshot.packets),
        f"{snapshot.limit}: {snapshot.why}",
    )
