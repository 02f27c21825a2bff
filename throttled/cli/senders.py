"""What is shown of accounts and other senders, as text for people. Owns no state.

The first line answers what was asked; names come from the log and are not yet printable.
"""

from collections.abc import Iterator

from msgspec.structs import astuple

from throttled.cli import output
from throttled.cli.output import moment, number
from throttled.control.results import (
    AccountsResult,
    ExplainResult,
    FindResult,
    SenderFacts,
    SenderMeterRow,
)
from throttled.duration import Duration
from throttled.model import DONE

_MODES = {"report": "reported", "throttle": "throttled", "enforce": "throttled or banned"}


def summary(result: ExplainResult, sender: SenderFacts) -> str:
    """Return one sentence: what is active, and which limits a sender is above."""
    would = "would be " if result.would else ""
    said = [
        f"{would}{DONE[row.action]} for {output.left(row.until)} more ({row.limit})"
        for row in result.active
    ]
    said += [
        f"above {m.limit}: {number(m.value)} {m.count} within {Duration(m.within)}, "
        f"{_MODES[m.mode]} above {number(m.soft or m.hard or 0)}"
        for m in sender.meters
        if m.above
    ]
    if not said and not known(sender):
        said = ["not known: no mail in 35 days"]
    if not said:
        said = ["within its limits now" if sender.meters else "no active entries"]
        if sender.reports:
            said.append(f"reported {moment(sender.reports[0].time)}")
    return "; ".join(said)


def known(sender: SenderFacts) -> bool:
    """Return whether a sender did anything that is stored."""
    return bool(sender.days or sender.reports or any(astuple(sender.today)[1:]))


def facts(sender: SenderFacts) -> Iterator[str]:
    """Yield what a sender did today, what is usual, its meters and reports."""
    today = sender.today
    yield (
        f"Today (UTC): {number(today.messages)} messages, {number(today.recipients)} recipients, "
        f"{output.short_number(today.bytes)} bytes, {number(today.bounces)} bounces, "
        f"{number(today.deferrals)} deferrals, {number(today.received)} received"
    )
    if sender.days:
        yield (
            f"Usual: {number(today.usual)} recipients a day, at most {number(today.highest)} "
            f"({sender.days} earlier days with mail)"
        )
    else:
        yield "Usual: not known, there is no earlier day with mail"
    if sender.meters:
        yield "Limits:"
        titles = f"{'limit':<20} {'count':<11} {'value':>9} {'soft':>9} {'hard':>9}"
        yield f"  {titles} {'within':<7} then"
        yield from map(_meter, sender.meters)
    if sender.guessed_from:
        addresses = "address" if sender.guessed_from == 1 else "addresses"
        yield (
            f"Failed logins: from {number(sender.guessed_from)} {addresses} (IPv6: /64) that did "
            "not log in themselves"
        )
    if sender.reports:
        yield "Reports, the latest first:"
    for one in sender.reports:
        yield (
            f"  {moment(one.time)} {one.limit}: {number(one.value)} {one.count} "
            f"within {Duration(one.within)}, {one.above} {number(one.threshold)}"
        )


def _meter(row: SenderMeterRow) -> str:
    soft, hard = ("-" if t is None else number(t) for t in (row.soft, row.hard))
    return (
        f"  {row.limit:<20} {row.count:<11} {number(row.value):>9} {soft:>9} {hard:>9} "
        f"{Duration(row.within)!s:<7} {_MODES[row.mode]}"
    )


def show_accounts(result: AccountsResult) -> None:
    """Print the table of `accounts`."""
    counts = ">MESSAGES >RECIPIENTS >BOUNCES >DEFERRALS >RECEIVED >BYTES >NETWORKS"
    rows = []
    for row in result.rows:
        numbers = row.messages, row.recipients, row.bounces, row.deferrals, row.received
        rows.append(
            (
                row.subject,
                *map(number, numbers),
                output.short_number(row.bytes),
                "-" if row.networks is None else number(row.networks),
                number(row.usual),
                number(row.highest),
                ", ".join(row.above) or "-",
            )
        )
    output.print_table(["SENDER", *counts.split(), ">USUAL", ">HIGHEST", "ABOVE"], rows)


def show_found(result: FindResult) -> None:
    """Print what `find` found."""
    rows = [
        (
            row.subject,
            "-" if row.active is None else DONE[row.active],
            row.name or "-",
            row.known,
        )
        for row in result.rows
    ]
    output.print_table(("SUBJECT", "ACTIVE", "HOST NAME", "KNOWN"), rows)
