"""`throttled report` as text, also for mail; words that the page shares. Owns no state."""

import sys
import time
from collections.abc import Iterator, Sequence

from throttled.analysis.report import Count, Overview, headline
from throttled.cli import output

#: Packets of one attempt to connect that is not answered, at most: tcp_syn_retries (tcp(7)) is 6.
CONNECTION = 7
#: Of totals, in the order of the report.
TITLES = {
    "sessions": "sessions",
    "deliveries": "mails accepted",
    "logins": "logins",
    "throttles": "throttles",
    "bans": "bans",
    "unbans": "unbans",
    "drops": "packets dropped",
    "overload": "times overloaded",
}
#: What changes are compared with.
COMPARED = "Changes: compared with the same hours a week before."
_BLOCKS, _PLAIN = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_SPARK = 56


def period(of: Overview) -> str:
    """Return the period: `Mon 2026-11-23 06:00 to Mon 2026-11-30 06:00`."""
    begin, end = (
        time.strftime("%a %Y-%m-%d %H:%M", time.localtime(at)) for at in (of.since, of.until)
    )
    return f"{begin} to {end}"


def change(now: int, before: int | None) -> str:
    """Return how a count changed from a week before: `+7 % from 60,813`; "": not known."""
    if before is None:
        return ""
    if now == before:
        return "unchanged"
    if not before:
        return "from 0"
    percent = 100 * (now - before) / before
    text = f"{percent:+,.0f} %" if abs(percent) < 1000 else f"{now / before:,.0f} times"
    return f"{text} from {before:,}"


def text(of: Overview, encoding: str | None = None) -> Iterator[str]:
    """Yield the lines of a report.

    Args:
        of: the period.
        encoding: of where they go (default: standard output); decides how charts are drawn.
    """
    yield f"throttled on {of.host}, {period(of)}"
    yield ""
    yield headline(of)
    yield ""
    marks = _marks(encoding or sys.stdout.encoding)
    for name, title in TITLES.items():
        if name != "overload" or of.has_overload:
            yield _total(title, of.totals[name], of.series[name], marks)
    if of.totals["sessions"].before is not None:
        yield COMPARED
    drops = of.totals["drops"].now
    if drops and not of.would:
        yield ""
        yield (
            f"The kernel spared Postfix {drops // CONNECTION:,} to {drops:,} connections "
            f"(1 to {CONNECTION} packets each)."
        )
    yield from _tables(of)
    if line := current(of):
        yield ""
        yield line


def current(of: Overview) -> str:
    """Return what the hour that is not over has; "" for nothing."""
    if not any(of.current.values()):
        return ""
    counts = ", ".join(f"{of.current[n]:,} {TITLES[n]}" for n in ("sessions", "throttles", "bans"))
    since = output.moment(of.until)[11:16]
    return f"Not in it, as the hour is not over: since {since} {counts}."


def _tables(of: Overview) -> Iterator[str]:
    limits = [
        (
            f"{row.throttles:,}",
            f"{row.bans:,}",
            row.limit or "(others)",
            change(row.throttles + row.bans, row.before),
        )
        for row in of.limits
    ]
    yield from _table("By limit", (">throttles", ">bans", "limit", ""), limits)
    networks = [
        (row.network, f"{row.clients:,}", f"{row.throttles:,}", f"{row.bans:,}")
        for row in of.networks
    ]
    head: Sequence[str] = ("network", ">clients", ">throttles", ">bans")
    yield from _table("Worst networks", head, networks)
    head = ("client", ">throttles", ">bans", "last", "limit", "name")
    clients = [
        (
            row.subject,
            f"{row.throttles:,}",
            f"{row.bans:,}",
            output.moment(row.last)[:16],
            row.limit,
            row.name,
        )
        for row in of.clients
    ]
    yield from _table("Worst clients", head, clients)
    good = [
        (
            row.subject,
            f"{row.throttles:,}",
            f"{row.bans:,}",
            f"{row.deliveries:,} mails",
            f"{row.logins:,} logins",
            row.limit,
            row.name,
        )
        for row in of.good
    ]
    title = f"Good senders throttled or banned: {of.good_total:,}"
    yield from _table(title, ("client", ">throttles", ">bans", ">", ">", "limit", "name"), good)
    yield from _sender_tables(of)


def _sender_tables(of: Overview) -> Iterator[str]:
    accounts = [
        (row.subject, f"{row.throttles:,}", f"{row.bans:,}", row.limit) for row in of.accounts
    ]
    head: Sequence[str] = ("sender", ">throttles", ">bans", "limit")
    yield from _table("Accounts and other senders throttled or banned", head, accounts)
    reported = [
        (row.shown, f"{row.times:,}", f"{row.highest:,}", output.moment(row.last)[:16], row.limit)
        for row in of.reported
    ]
    head = ("sender", ">times", ">highest", "last", "limit")
    yield from _table("Accounts and other senders reported", head, reported)
    senders = [
        (row.subject, f"{row.messages:,}", f"{row.recipients:,}", f"{row.bounces:,}")
        for row in of.senders
    ]
    head = ("sender", ">messages", ">recipients", ">bounces")
    yield from _table("Busiest senders, in whole days (UTC)", head, senders)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield title
        yield from (f"  {line}" for line in output.table(head, rows))


def _total(title: str, count: Count, series: Sequence[int], marks: str) -> str:
    line = f"{count.now:>12,} {title:<17} {_spark(series, marks)}"
    changed = change(count.now, count.before)
    return f"{line}  {changed}".rstrip()


def _spark(series: Sequence[int], marks: str) -> str:
    """Return counts as characters, each of as many slots as needed for the width of a line."""
    each = -(-len(series) // _SPARK)
    sums = [sum(series[i : i + each]) for i in range(0, len(series), each)]
    most = max(sums)
    return "".join(" " if not value else marks[(len(marks) * value - 1) // most] for value in sums)


def _marks(encoding: str) -> str:
    try:
        _BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN
    return _BLOCKS
