"""`throttled status`."""

import click

from throttled.cli import output
from throttled.cli.offline import ask_or_look
from throttled.cli.options import Command, json_option
from throttled.control.protocol import Status, StatusResult, TailStatus
from throttled.model import SCOPES, Scope


@click.command(
    cls=Command,
    examples=(
        "throttled status",
        "throttled status --json | jq .banned",
    ),
)
@json_option
def command(*, as_json: bool) -> int:
    """Show how the daemon is doing.

    Without a running daemon it shows what should be in force and whether the kernel holds it; the
    exit code is then 3.
    """
    status = ask_or_look(Status(), StatusResult)
    if as_json:
        output.print_json(status)
    else:
        for label, text in _lines(status):
            click.echo(f"{label:<11}{output.printable(text)}".rstrip())
    return 0 if status.pid else 3


def _lines(status: StatusResult) -> list[tuple[str, str]]:
    number = output.number
    up = f"pid {status.pid}, up {output.lasting(status.uptime)}"
    up += f" (since {output.moment(status.started)})"
    lost = f"{number(status.lines_lost)} lost by the logger"
    how = "counted by the kernel" if status.counted else "judged by a sample and by what it refused"
    lines = [
        ("throttled", f"{status.version}, {up if status.pid else 'not running'}"),
        ("firewall", f"{status.backend}, mode {status.mode}"),
    ]
    logs = [text for tail in status.tails for text in _tail(tail)]
    lines += [("" if i else "log", text) for i, text in enumerate(logs)]
    if status.sensor:
        lines.append(("sensor", status.sensor.what))
        if status.sensor.hint:
            lines.append(("", status.sensor.hint))
    if status.backlog:
        lines.append(("evidence", status.backlog))
    if status.pid:  # what nobody counts is not 0
        tracked = f"{number(status.clients)} tracked of {number(status.max_clients)} at most"
        lines.append(("clients", tracked))
    lines += _caps(status)
    if status.would:
        lines += [
            ("would", f"throttle {_by_scope(status.throttled)}"),
            ("", f"ban {_by_scope(status.banned)}"),
            ("kernel", "nothing is enforced: only observing; see: throttled preview"),
        ]
    else:
        held = f"holds {number(status.enforced)} of {number(status.desired)} elements, {how}"
        lines += [
            ("throttled", _by_scope(status.throttled)),
            ("banned", _by_scope(status.banned)),
            *([("exempt", _by_scope(status.exempt))] if any(status.exempt.values()) else []),
            ("dropped", f"{number(status.packets_dropped)} packets"),
            ("kernel", held),
        ]
    if status.pid:
        read = f"{number(status.lines)} read, {lost}, {number(status.errors)} errors"
        lines.append(("lines", read))
    by_count = sorted(status.events.items(), key=lambda item: -item[1])
    lines += [("" if i else "events", text) for i, text in enumerate(_columns(by_count))]
    for problem in status.health:
        lines += output.paragraph(problem)
    return lines


def _tail(tail: TailStatus) -> list[str]:
    if not tail.exists:
        state = "does not exist; waiting for it"
    else:
        state = (
            f"{tail.lines_per_second:.1f} lines/s, {output.number(tail.lag)} bytes behind, "
            f"last line {output.moment(tail.last_line)}"
        )
    cut = [f"{output.number(tail.cut)} lines were too long, and cut"] if tail.cut else []
    return [tail.path, state, *cut, *tail.problems]


def _caps(status: StatusResult) -> list[tuple[str, str]]:
    """Return what fell to a cap or waits; nothing when all is well."""
    return [
        ("", f"{output.number(count)} {what}")
        for count, what in (
            (status.forgotten, "counters forgotten early: more clients than are tracked"),
            (status.unrecorded, "decisions wait for the store"),
            (status.unapplied, "elements wait for the firewall"),
            (status.let_go, "of what waited were let go: there were too many"),
        )
        if count
    ]


def _by_scope(counts: dict[Scope, int]) -> str:
    return ", ".join(f"{output.number(counts.get(scope, 0))} in {scope}" for scope in SCOPES)


def _columns(counts: list[tuple[str, int]]) -> list[str]:
    """Set counts in three columns of 23 characters."""
    cells = [f"{kind} {output.number(count)}".ljust(23) for kind, count in counts]
    return ["".join(cells[i : i + 3]) for i in range(0, len(cells), 3)]
