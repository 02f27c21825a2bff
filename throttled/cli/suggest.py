"""`throttled suggest`."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import tzinfo

import click
from msgspec.structs import asdict

from throttled.analysis.suggest import Findings, suggest, suggest_stored
from throttled.cli import output
from throttled.cli.daemon import config, facts, own_logs
from throttled.cli.options import Command, json_option, zone_option
from throttled.cli.progress import progress
from throttled.config.describe import toml
from throttled.decide.peaks import Rate
from throttled.decide.suggest import Bin, Suggestion, Thresholds
from throttled.decide.suggest_senders import SenderSuggestion
from throttled.duration import Duration
from throttled.errors import UsageError
from throttled.host.zone import local_zone
from throttled.limits import Count
from throttled.model import Scope

_BAR = 19
_UNITS: dict[Count, str] = {
    "connections": "connections",
    "errors": "points for errors",
    "callouts": "unknown recipients of the null sender",
    "auth_failures": "failed logins",
    "auth_users": "user names",
    "messages": "messages",
    "recipients": "recipients",
}
_PORTS: dict[Scope, str] = {"mx": "port 25", "submission": "submission"}


@click.command(
    cls=Command,
    examples=(
        "throttled suggest",
        "throttled suggest /var/log/mail.log /var/log/mail.log.*.gz",
        "throttled suggest --store",
        "throttled suggest --json mail.log | jq -r .toml",
    ),
)
@click.argument("files", metavar="[FILE]…", nargs=-1)
@click.option(
    "--store",
    "stored",
    is_flag=True,
    help="Use the peaks that the daemon stored in the last 30 days.",
)
@zone_option
@json_option
def command(*, files: tuple[str, ...], stored: bool, zone: tzinfo | None, as_json: bool) -> None:
    """Propose soft and hard for each limit, from what clients did in the log.

    Shows the peaks of clients within each limit's window, those that delivered mail or logged in
    apart from strangers, and which clients the present and the proposed values would hit; of
    accounts and other senders the usual and highest values of those not above the limit. Nothing
    is changed: the proposal is printed as configuration, to be tried with throttled replay.
    FILE may be compressed (.gz, .xz, .bz2), in any order; - is standard input, journal is
    systemd's journal. Without FILE the logs that the daemon follows are read, with their rotated
    files; the daemon need not run.

    --store reads the database instead of logs: the daemon stores the peaks of each client for 30
    days, also where logs are deleted sooner. The last minute is not in it yet. The peaks of
    throttled and banned clients are limited by what the kernel let through. Of senders it has
    whole days: only limits within 1d get a proposal, and none of networks or connections.
    """
    if stored and (files or zone):
        raise UsageError("--store reads no log", "leave out FILE and --zone, or --store")
    settings = config()
    known = facts(settings)
    if stored:
        findings = suggest_stored(settings, known, time.time())
    else:
        paths = files or own_logs(settings, known)
        with progress(paths) as advance:
            findings = suggest(settings, known, zone or local_zone(), paths, advance)
    snippet = "\n".join(_toml(findings))
    if as_json:
        result = output.plain(findings) | {"toml": snippet}
        sys.stdout.buffer.write(output.to_json(result))
        return
    click.echo("\n".join(_head(findings)))
    if findings.lines and not findings.first:
        click.echo(output.NO_EVENT)
        return
    for suggestion in findings.suggestions:
        click.echo("\n" + "\n".join(_block(suggestion)))
    for found in findings.senders:
        click.echo("\n" + "\n".join(_sender_block(found)))
    click.echo("\n" + (snippet or "# Nothing to change."))


def _head(findings: Findings) -> Iterator[str]:
    yield from (output.cut(f"read {path}") for path in findings.files)
    if findings.lines is None:
        yield "peaks stored by the daemon; throttles and bans limit what a client can reach"
    else:
        yield f"{findings.lines:,} lines"
    if findings.first:
        yield f"from {output.moment(findings.first)} to {output.moment(findings.last)}"
    if findings.full:
        yield "More clients than max_clients: later ones are left out."
    yield "good: delivered mail or logged in; the bars are logarithmic"
    if findings.anvil:
        yield "\nHighest connection rates that anvil logged (per 60s, or anvil_rate_time_unit):"
        yield from map(_rate, findings.anvil)


def _rate(rate: Rate) -> str:
    return output.cut(f"{rate.rate:>7,} {rate.client:<39} {output.from_log(rate.service)}")


def _block(suggestion: Suggestion) -> Iterator[str]:
    yield (
        f"{suggestion.limit}, {_PORTS[suggestion.scope]}: "
        f"{_UNITS[suggestion.count]} within {Duration(suggestion.within)}"
    )
    if not suggestion.bins[-1].high:
        yield "  no client was counted"
        return
    yield from _histogram(suggestion.bins)
    hit = f" {'good':>7} {'strangers':>9}"
    yield f"{'':<10} {'soft':>9}{hit} {'hard':>9}{hit}"
    yield _row("now", suggestion.now)
    if suggestion.proposed is None:
        yield f"  nothing is proposed: {suggestion.why_not}"
    else:
        yield _row("proposed", suggestion.proposed)
    for name, thresholds in (("now", suggestion.now), ("proposed", suggestion.proposed)):
        if thresholds is not None and thresholds.senders:
            yield from _senders(name, thresholds)


def _histogram(bins: Sequence[Bin]) -> Iterator[str]:
    yield f"{'peak':>15} {'good':>7} {'':<{_BAR}} {'strangers':>9}"
    most = max(max(bin_.good, bin_.strangers) for bin_ in bins)
    for bin_ in bins:
        if not bin_.high and not bin_.good and not bin_.strangers:
            continue  # of limits whose count is never 0
        reached = f"{bin_.low:,}" if bin_.low == bin_.high else f"{bin_.low:,}-{bin_.high:,}"
        yield (
            f"{reached:>15} {bin_.good:>7,} {_bar(bin_.good, most):<{_BAR}} "
            f"{bin_.strangers:>9,} {_bar(bin_.strangers, most)}"
        ).rstrip()


def _bar(count: int, most: int) -> str:
    """Return a bar as long as the logarithm of a count."""
    char = "█"
    try:
        char.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        char = "#"
    return char * math.ceil(_BAR * math.log1p(count) / math.log1p(most))


def _row(name: str, thresholds: Thresholds) -> str:
    soft = (thresholds.soft, thresholds.good_above_soft, thresholds.strangers_above_soft)
    hard = (thresholds.hard, thresholds.good_above_hard, thresholds.strangers_above_hard)
    return f"{name:>10}{_numbers(*soft)}{_numbers(*hard)}".rstrip()


def _numbers(threshold: int, good: int, strangers: int) -> str:
    return f" {threshold:>9,} {good:>7,} {strangers:>9,}" if threshold else f"{'-':>10}{'':18}"


def _senders(name: str, thresholds: Thresholds) -> Iterator[str]:
    which = "soft" if thresholds.soft else "hard"
    yield f"  good senders above {which} ({name}):"
    for sender in thresholds.senders:
        yield (
            f"    {sender.client:<39} {sender.peak:>7,}  "
            f"{output.short_number(sender.deliveries):>5} mails "
            f"{output.short_number(sender.logins):>5} logins"
        )
    total = thresholds.good_above_soft if thresholds.soft else thresholds.good_above_hard
    if total > len(thresholds.senders):
        yield f"    and {total - len(thresholds.senders):,} more"


def _sender_block(found: SenderSuggestion) -> Iterator[str]:
    yield f"{found.limit}: {found.count} within {Duration(found.within)}, of each {found.of}"
    if not found.senders + found.above:
        yield "  no sender was counted"
        return
    yield (
        f"  {found.senders:,} not above it: usual {found.usual:,}, highest {found.highest:,}; "
        f"{found.above:,} above it"
    )
    if found.proposed is None:
        yield f"  nothing is proposed: {found.reason}"
    else:
        yield f"{'':<10} {'soft':>13} {'hard':>13}"
        for name, pair in (("now", found.now), ("proposed", found.proposed)):
            yield f"{name:>10} {pair.soft or '-':>13} {pair.hard or '-':>13}"
        yield from (f"  {part}" for part in found.reason.split("; "))
    if found.above:
        yield "  above it:"
        for sender in found.above_senders:
            yield output.cut(f"    {sender.peak:>13,} {output.from_log(sender.subject)}")
    if found.above > len(found.above_senders):
        yield f"    and {found.above - len(found.above_senders):,} more"


def _toml(findings: Findings) -> Iterator[str]:
    """Yield what is to be changed in the configuration."""
    sections: dict[str, list[str]] = {}
    for found in findings.senders:
        if found.proposed and found.proposed != found.now:
            pair = asdict(found.proposed)
            sections[found.limit] = [f"{key} = {value}" for key, value in pair.items() if value]
    for suggestion in findings.suggestions:
        now, proposed = suggestion.now, suggestion.proposed
        if proposed and (proposed.soft, proposed.hard) != (now.soft, now.hard):
            values = {name: getattr(proposed, name) or None for name in ("soft", "hard")}
            line = f"{suggestion.scope} = {toml(values)}"
            sections.setdefault(suggestion.limit, []).append(line)
    if sections:
        yield "# For throttled.toml; try it first: throttled replay --config NEW.toml FILE..."
    for limit, lines in sections.items():
        yield from (f"[limits.{limit}]", *lines)
