"""What the commands answer, as text for people: one line after the other, not yet printable.

JSON is in `output`. Owns no state.
"""

from collections.abc import Iterator

import click

from throttled.cli import explained, output, overload
from throttled.cli.output import moment, number
from throttled.control.results import (
    AllowedResult,
    AuditResult,
    ChangeResult,
    Done,
    ExplainResult,
    ListResult,
    PatternStatus,
    Result,
    StatusResult,
    TailStatus,
    Totals,
)
from throttled.model import SCOPES, Scope, Snapshot

#: Columns from which on a table has one more for host names, and characters shown of one.
_WIDE, _NAME = 110, 40
#: Of an action, by its first word; `would ban` is none.
_COLOURS = {"ban": "red", "throttle": "yellow", "exempt": "green"}
#: The same of the labels of findings.
_FINDINGS = {"error": "red", "warning": "yellow"}


def show(result: Result, *, as_json: bool, removed: bool = False, everything: bool = False) -> None:
    """Print a result.

    Args:
        result: of a command.
        as_json: as JSON.
        removed: what a change names is active no longer.
        everything: of `explain`, see there.
    """
    if as_json:
        output.print_json(result)
        return
    match result:
        case StatusResult():
            lines = status(result)
        case ExplainResult():
            lines = explained.explain(result, everything=everything)
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
    for place, line in enumerate(lines):
        click.echo(_emphasised(result, place, output.printable(line).rstrip()))


def _emphasised(result: Result, place: int, line: str) -> str:
    """Return a line with the answer of `explain` in bold, and labels of findings in colour."""
    if isinstance(result, ExplainResult) and place == 0:
        return output.coloured(line, None, bold=True)
    label = line.partition(" ")[0]
    if isinstance(result, StatusResult) and label in _FINDINGS:
        return output.coloured(label, _FINDINGS[label]) + line[len(label) :]
    return line


def status(result: StatusResult) -> Iterator[str]:
    """Yield what `status` says."""
    for label, text in _status(result):
        yield f"{label:<11}{text}"


def _status(status: StatusResult) -> Iterator[tuple[str, str]]:
    up = f"pid {status.pid}, up {output.lasting(status.uptime)} (since {moment(status.started)})"
    yield "throttled", f"{status.version}, {up if status.pid else 'does not answer'}"
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
    yield from _labelled("overload", list(overload.lines(status.overload)))
    if status.answers:
        named = {"pass": "at once", "wait": "late", "hold": "on hold", "defer": "deferred"}
        named["refuse"] = "refused"
        shown = [
            f"{number(status.answers[v])} {w}" for v, w in named.items() if v in status.answers
        ]
        yield "answers", f"to Postfix: {', '.join(shown)}"
    for day, name in zip(status.days, ("yesterday", "today"), strict=False):
        yield from _labelled(name, _totals(day, would=status.would))
    by_count = sorted(status.events.items(), key=lambda item: -item[1])
    yield from _labelled("events", _columns(by_count))
    for finding in status.health:
        yield from output.paragraph(finding)


def _totals(day: Totals, *, would: bool) -> list[str]:
    """Return what happened in a day; decisions are what was newly throttled and banned."""
    verb = "would have been " if would else ""
    traffic = (day.sessions, "sessions"), (day.deliveries, "mails"), (day.logins, "logins")
    decided = (day.throttles, f"{verb}throttled"), (day.bans, f"{verb}banned")
    rows = traffic, (*decided, (day.drops, "packets dropped"))
    return [", ".join(f"{number(count)} {what}" for count, what in row) for row in rows]


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


def table(first: ListResult, rows: list[Snapshot], *, filtered: bool) -> None:
    """Print what `list` found.

    Args:
        first: the first page, with the total.
        rows: of all pages.
        filtered: only some were asked for: there may be others.
    """
    would = "would " if first.would else ""
    if not rows:
        nothing = "nothing would be active" if would else "no active entries"
        if filtered:
            nothing = f"no matching entries {'would be' if would else 'are'} active"
        click.echo(nothing)
        return
    wide = output.width() >= _WIDE
    columns = ["SUBJECT", "ACTION", "SCOPE", "SINCE", ">LEFT", ">DROPPED", "WHY"]
    if wide:
        columns.insert(-1, "HOST NAME")
    output.print_table(columns, [_row(row, would, wide=wide) for row in rows], _COLOURS)
    if first.total > len(rows):
        click.echo(f"{len(rows):,} of {first.total:,}; see --max and the filters")


def _row(snapshot: Snapshot, would: str, *, wide: bool) -> tuple[str, ...]:
    action = f"{would}{snapshot.action}"
    if snapshot.level > 1:
        action += f" {snapshot.level}"
    elif snapshot.rate is not None:
        action += f" {output.rate(snapshot.rate)}"
    name = [output.cut_to(_NAME, snapshot.name) or "-"] if wide else []
    why = snapshot.limit if wide or not snapshot.name else f"{snapshot.limit}, {snapshot.name}"
    return (
        snapshot.subject,
        action,
        output.scope(snapshot.subject, snapshot.scope),
        output.short_moment(snapshot.since),
        output.left(snapshot.until),
        output.short_number(snapshot.packets),
        *name,
        f"{why}: {snapshot.why}",
    )
