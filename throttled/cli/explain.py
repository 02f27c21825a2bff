"""`throttled explain`."""

from collections.abc import Iterator

import click
from msgspec.structs import replace

from throttled.cli import output
from throttled.cli.offline import ask_or_look
from throttled.cli.options import Command, json_option, subject
from throttled.control.protocol import Explain, ExplainResult, MeterRow
from throttled.model import JOURNAL, Decision, Past, Snapshot
from throttled.settings import Duration


@click.command(
    cls=Command,
    examples=(
        "throttled explain 198.51.100.7",
        "throttled explain 2001:db8::/64 --json",
    ),
)
@click.argument("subject", metavar="ADDRESS", type=subject)
@json_option
def command(*, subject: str, as_json: bool) -> None:
    """Explain all that is known of a client, banned or not.

    What is in force and why, meters against their limits, open sessions, the log lines that
    counted, earlier decisions, good evidence, protection, and what would happen next. Without
    a running daemon it tells what is stored.
    """
    result = ask_or_look(Explain(subject), ExplainResult)
    if as_json:
        readable = [replace(line, text=output.from_log(line.text)) for line in result.lines]
        output.print_json(replace(result, lines=readable))
        return
    for line in report(result):
        click.echo(output.printable(line).rstrip())


def report(result: ExplainResult) -> Iterator[str]:
    """Yield what `explain` says, line by line; not yet printable."""
    network = f" (network {result.network})" if result.network else ""
    yield f"{result.subject}{network}"
    if result.protected:
        yield f"Protected: {result.protected}"
    for row in result.allowed:
        until = f"until {output.moment(row.until)}" if row.until else "for ever"
        what = f"{row.what} of {row.name}" if row.name else row.what
        yield f"Allowed by hand: {what}, since {output.moment(row.since)}, {until} {row.note}"
    would = "would " if result.would else ""
    heading = "Would be in force (observing)" if result.would else "In force"
    yield f"{heading}:" if result.active else f"{heading}: nothing"
    for snapshot in result.active:
        yield from _active(snapshot, would)
    if result.meters:
        yield "Meters:"
        yield f"  {'limit':<20} {'scope':<10} {'value':>7} {'soft':>7} {'hard':>7} within"
        yield from map(_meter, result.meters)
    yield f"Sessions open: {result.sessions}"
    if result.lines:
        yield "Log lines that counted:"
    for line in result.lines:
        # A place in the journal is a time, which the line begins with.
        yield f"  {line.path}" + ("" if line.path == JOURNAL else f", byte {line.offset}")
        yield f"    {output.log_text(line.text) or '(no longer there)'}"
    if result.decisions:
        yield "Decisions, the latest first:"
        yield from (_decision(decision, would) for decision in result.decisions)
    yield from _past(result.past, "Would-be bans" if result.would else "Bans")
    yield f"Next: {result.next}"
    if result.hint:
        yield f"Hint: {result.hint}"


def _active(snapshot: Snapshot, would: str) -> Iterator[str]:
    step = f" number {snapshot.level}" if snapshot.level > 1 else ""
    if snapshot.rate is not None:
        step = f" to {output.rate(snapshot.rate)}, {snapshot.rate.burst} at once,"
    word = "exemption" if snapshot.action == "exempt" else snapshot.action
    yield (
        f"  {would}{word}{step} of {snapshot.subject} in {snapshot.scope} "
        f"since {output.moment(snapshot.since)}, {output.left(snapshot.until)} left"
    )
    yield f"    {snapshot.limit}: {snapshot.why}"
    if snapshot.action != "exempt":
        yield f"    {output.number(snapshot.packets)} packets dropped"


def _meter(row: MeterRow) -> str:
    soft, hard = (
        "-" if threshold is None else str(threshold) for threshold in (row.soft, row.hard)
    )
    limit = f"{row.limit} (kernel)" if row.kernel else row.limit
    return (
        f"  {limit:<20} {row.scope:<10} {row.value:>7} {soft:>7} {hard:>7} {Duration(row.within)}"
    )


def _decision(decision: Decision, would: str) -> str:
    return (
        f"  {output.moment(decision.time)} {would}{decision.action} in {decision.scope}, "
        f"{decision.limit}: {decision.why}"
    )


def _past(past: Past, title: str) -> Iterator[str]:
    bans = f"{past.offences}, the latest until {output.moment(past.last_offence)}"
    yield f"{title} so far: {bans if past.offences else 'none'}"
    if past.deliveries or past.logins:
        yield (
            f"Good evidence: {past.deliveries} messages on {past.delivery_days} days, "
            f"{past.logins} logins, the latest {output.moment(past.last_login)}"
        )
    else:
        yield "Good evidence: none"
    if past.exempt_until:
        yield f"Exempt until {output.moment(past.exempt_until)}"
