"""`throttled replay`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from throttled.cli import output
from throttled.cli.daemon import config, facts
from throttled.cli.options import Command, json_option, zone_option
from throttled.model import Decision
from throttled.replay import Progress, Replay, Summary
from throttled.zone import local_zone

#: What every decision says, in this order.
_FIRST = ("time", "action", "subject", "scope", "limit", "level", "until", "why")


@click.command(
    cls=Command,
    examples=(
        "throttled replay /var/log/mail.log /var/log/mail.log.*.gz",
        "throttled --config ./new.toml replay /var/log/mail.log",
        "throttled replay --json mail.log | jq -r 'select(.action == \"ban\").subject'",
    ),
)
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@zone_option
@json_option
def command(*, files: tuple[str, ...], zone: tzinfo | None, as_json: bool) -> None:
    """Show what would have been decided on old logs, with this configuration.

    Nothing is touched. FILE may be compressed (.gz, .xz, .bz2), in any order; - is standard
    input. With --json each decision is an object on a line of its own, and the last line is
    {"summary": …}.
    """
    settings = config()
    replay = Replay(settings, facts(settings), zone or local_zone())
    with _progress(files) as progress:
        for decision in replay.run(files, progress):
            if as_json:
                sys.stdout.buffer.write(output.to_json(_object(decision)))
            else:
                click.echo(_line(decision))
    if as_json:
        sys.stdout.buffer.write(output.to_json({"summary": output.plain(replay.summary)}))
    else:
        click.echo("\n".join(_summary(replay.summary)))


def _object(decision: Decision) -> dict[str, Any]:
    fields: dict[str, Any] = output.plain(decision)
    fields.pop("lines", None)  # they say where in the store's logs, not in these
    return {name: fields[name] for name in _FIRST} | fields


def _line(decision: Decision) -> str:
    lasting = "" if decision.action == "release" else output.lasting(decision.until - decision.time)
    line = (
        f"{output.moment(decision.time)} {decision.action:<8} {decision.subject:<15} "
        f"{output.SCOPES[decision.scope]:<4} {lasting:>6} {decision.limit}: {decision.why}"
    )
    return output.cut(line) if sys.stdout.isatty() else output.printable(line)


def _summary(summary: Summary) -> Iterator[str]:
    events = sum(summary.events.values())
    yield ""
    yield f"{summary.lines:,} lines, {events:,} events"
    if events:
        yield f"from {output.moment(summary.first)} to {output.moment(summary.last)}"
    for name, limit in summary.limits.items():
        yield f"{name}: {limit.throttled:,} throttled, {limit.banned:,} banned"
    if summary.top:
        yield "banned most often:"
    for subject, times in summary.top:
        yield f"  {subject:<39} {times:>6}"
    if summary.good_and_banned:
        yield "banned although they delivered mail or logged in:"
    for subject in summary.good_and_banned:
        yield f"  {subject}"


@contextmanager
def _progress(files: Sequence[str]) -> Iterator[Progress | None]:
    """Show how much was read, where somebody looks: standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - takes 100 ms, and only a terminal needs it
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    console = Console(stderr=True)
    # Lines for the same terminal are written above the bar.
    with Bar(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=sum(map(_size, files)) or None)
        read: dict[str, int] = {}

        def progress(path: str, consumed: int) -> None:
            read[path] = consumed
            bar.update(task, completed=sum(read.values()))

        yield progress


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is no knowing."""
    try:
        return Path(path).stat().st_size
    except OSError:  # told by whoever reads it
        return 0
