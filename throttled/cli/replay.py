"""`throttled replay`."""

import os
import sys
from contextlib import nullcontext
from datetime import tzinfo
from typing import Any

import click

from throttled.analysis.replay import Banned, Replay, Summary, Throttled
from throttled.cli import output
from throttled.cli.daemon import config, facts, own_logs
from throttled.cli.options import Command, json_option, zone_option
from throttled.cli.page_file import HTML, write_page
from throttled.cli.progress import progress
from throttled.duration import Duration
from throttled.host.zone import local_zone
from throttled.model import Decision, Report

#: What every decision says, in this order.
_FIRST = ("time", "action", "subject", "scope", "limit", "level", "until", "why")


@click.command(
    cls=Command,
    examples=(
        "throttled replay",
        "throttled replay --summary-only mail.log mail.log.*.gz",
        "throttled --config ./new.toml replay journal",
        "throttled replay --summary-only --html replay.html mail.log",
        "throttled replay --json | jq -r 'select(.action == \"ban\").subject'",
    ),
)
@click.argument("files", metavar="[FILE]…", nargs=-1)
@zone_option
@click.option("--summary-only", is_flag=True, help="Print only the summary.")
@click.option("--html", type=HTML, metavar="FILE", help="Write a page, as throttled report does.")
@json_option
def command(
    *,
    files: tuple[str, ...],
    zone: tzinfo | None,
    summary_only: bool,
    html: str | None,
    as_json: bool,
) -> None:
    """Show what throttled would have decided on old logs, with this configuration.

    Nothing is changed. Limits whose mode is "report" are reported. At the end: how many subjects
    each limit hit, the twenty that were banned most often, the twenty that were never banned and
    throttled most often, and every client that delivered mail or logged in and would have been
    banned.
    Only lines of this host are counted, as in the daemon; of a log without any such line all are.
    FILE may be compressed (.gz, .xz, .bz2), in any order; - is standard input, journal is
    systemd's journal. Without FILE the logs that the daemon follows are read: files with their
    rotated ones, or the journal. With --json each decision is an object on a line of its own, and
    the last line is {"summary": …}. --html writes a page with charts for all of the logs; with - to
    standard output, alone.
    """
    settings = config()
    known = facts(settings)
    paths = files or own_logs(settings, known)
    replay = Replay(settings, known, zone or local_zone())
    # JSON on a terminal: the bar would be drawn into its lines, which must not be wrapped either.
    objects_shown = as_json and sys.stdout.isatty()
    with nullcontext() if objects_shown else progress(paths) as advance:
        for decision in replay.run(paths, advance):
            if summary_only or html == "-":
                continue
            if as_json:
                sys.stdout.buffer.write(output.to_json(_object(decision)))
            else:
                # Not click.echo: it writes past the proxy that erases the bar first.
                sys.stdout.write(_line(decision) + "\n")
    if html:
        write_page(replay.overview(os.uname().nodename), html)
    if html == "-":
        return
    if as_json:
        sys.stdout.buffer.write(output.to_json({"summary": output.plain(replay.summary)}))
    else:
        _print(replay.summary, summary_only=summary_only)


def _object(decision: Decision | Report) -> dict[str, Any]:
    fields: dict[str, Any] = output.plain(decision)
    if isinstance(decision, Report):
        return {"time": fields.pop("time"), "action": "report", **fields}
    fields.pop("lines", None)  # they say where in the store's logs, not in these
    return {name: fields[name] for name in _FIRST} | fields


def _line(decision: Decision | Report) -> str:
    if isinstance(decision, Report):
        return _shown(_reported(decision))
    lasting = "" if decision.action == "release" else output.lasting(decision.until - decision.time)
    scope = output.scope(decision.subject, decision.scope)
    line = (
        f"{output.moment(decision.time)} {decision.action:<8} {decision.subject:<15} "
        f"{scope:<4} {lasting:>6} {decision.limit}: {decision.why}"
    )
    return _shown(line)


def _reported(report: Report) -> str:
    """Return a report as a line."""
    subject, within = report.shown, Duration(report.within)
    return (
        f"{output.moment(report.time)} report   {subject:<15} {'':<4} {'':>6} {report.limit}: "
        f"{report.value} {report.count} within {within}, {report.above} limit {report.threshold}"
    )


def _shown(line: str) -> str:
    return output.cut(line) if sys.stdout.isatty() else output.printable(line)


def _print(summary: Summary, *, summary_only: bool) -> None:
    events = sum(summary.events.values())
    if not summary_only:
        click.echo()
    click.echo(f"{summary.lines:,} lines, {events:,} events")
    if events:
        click.echo(f"from {output.moment(summary.first)} to {output.moment(summary.last)}")
    elif summary.lines:
        click.echo(output.NO_EVENT)
    if summary.others:
        click.echo("\nLogs without a line of this host, counted as if they were its own:")
        for path, hosts in summary.others.items():
            click.echo(f"  {output.printable(path)}\n    {output.printable(', '.join(hosts))}")
        click.echo("  (the daemon counts none of their lines: see [postfix] hosts)")
    if summary.limits:
        click.echo("\nSubjects that each limit would have hit:")
        rows = [
            (f"{row.throttled:,}", f"{row.banned:,}", f"{row.reported:,}", n)
            for n, row in summary.limits.items()
        ]
        output.print_table((">throttled", ">banned", ">reported", "limit"), rows)
    if events:
        _print_decided(summary)


def _print_decided(summary: Summary) -> None:
    """Print who would have been banned or throttled."""
    if summary.top:
        click.echo("\nBanned most often:")
        _print_banned(summary.top)
    else:
        click.echo("\nNobody would have been banned.")
    if summary.throttled:
        click.echo("\nThrottled most often, and never banned:")
        _print_throttled(summary.throttled)
    else:
        click.echo(f"\nNobody {'else ' if summary.top else ''}would have been throttled.")
    if summary.good_and_banned:
        click.echo("\nBanned although they delivered mail or logged in:")
        _print_banned(summary.good_and_banned)
    elif summary.top:
        click.echo("\nNo client that delivered mail or logged in would have been banned.")


def _print_banned(banned: list[Banned]) -> None:
    _print_subjects(">bans", [(one.bans, one) for one in banned])


def _print_throttled(throttled: list[Throttled]) -> None:
    _print_subjects(">throttles", [(one.throttles, one) for one in throttled])


def _print_subjects(times: str, subjects: list[tuple[int, Banned | Throttled]]) -> None:
    columns = ("subject", times, "latest", ">mails", ">logins", "limit")
    rows = [
        (
            one.subject,
            f"{count:,}",
            output.moment(one.last)[:16],
            output.short_number(one.deliveries),
            output.short_number(one.logins),
            one.limit,
        )
        for count, one in subjects
    ]
    output.print_table(columns, rows)
