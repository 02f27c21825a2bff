"""What `explain` prints: the answer in one sentence, then what it follows from. Owns no state.

Lines are not yet printable: names and log lines are the clients'.
"""

from collections.abc import Iterator, Sequence

from throttled.address import is_named
from throttled.cli import output, senders
from throttled.cli.output import moment, number
from throttled.control.results import ExplainResult, LogText, MeterRow
from throttled.duration import Duration
from throttled.log_paths import is_journal
from throttled.model import DONE, LINES, SCOPES, Decision, Past, Scope, Snapshot

#: Decisions that are shown without --all.
_DECISIONS = 5

_PEER = "peer:"  # of an origin

#: What of the rows of a scope applies first: an own ban, an exemption, then what is around it.
_ORDER = (("ban", True), ("exempt", True), ("ban", False), ("throttle", True), ("throttle", False))
#: Kinds of event whose name needs more than a blank for its underscore: one, and several.
_KINDS = {
    "auth_failure": ("failed login", "failed logins"),
    "bad_address": ("invalid address", "invalid addresses"),
    "bare_newline": ("bare newline", "bare newlines"),
    "connect": ("connection", "connections"),
    "disconnect": ("session with errors", "sessions with errors"),
    "non_smtp_command": ("non-SMTP command", "non-SMTP commands"),
    "pipelining": ("command sent too early", "commands sent too early"),
    "pregreet": ("command before the greeting", "commands before the greeting"),
    "timeout": ("timeout", "timeouts"),
    "too_many_errors": ("session with too many errors", "sessions with too many errors"),
}
#: The same of refusals, by reason.
_REASONS = {
    "": ("refused command", "refused commands"),
    "relay": ("relay attempt", "relay attempts"),
    "unknown_user": ("unknown recipient", "unknown recipients"),
    "dnsbl": ("refusal by a DNS list", "refusals by a DNS list"),
    "syntax": ("invalid HELO name or address", "invalid HELO names or addresses"),
    "access": ("refusal by access rules", "refusals by access rules"),
    "protocol": ("protocol error", "protocol errors"),
}


def explain(result: ExplainResult, *, everything: bool = False) -> Iterator[str]:
    """Yield what `explain` prints.

    Args:
        result: of the daemon, or of the store.
        everything: meters at 0, each log line and all decisions too.
    """
    named = is_named(result.subject)
    yield from _head(result)
    would = "would " if result.would else ""
    if result.active:
        yield "Would be active (observe mode):" if result.would else "Active:"
    for snapshot in result.active:
        yield from _active(snapshot, would)
    yield from _inside(result, would)
    if result.proxied:
        yield "Behind a proxy, so not applied:"
    for snapshot in result.proxied:
        yield from _active(snapshot, "would ")
    yield from _meters(result.meters, everything=everything)
    if result.sender is not None and (named or everything or senders.known(result.sender)):
        yield from senders.facts(result.sender)
    if not named:
        yield f"Sessions open: {result.sessions}"
    yield from _lines(result.lines, everything=everything)
    yield from _decisions(result.decisions, would, everything=everything)
    if not named or result.past.offences:
        yield from _past(result.past, "Would-be bans" if result.would else "Bans")
    yield f"Next: {result.next}"
    if result.hint:
        yield f"Hint: {result.hint}"


def answer(result: ExplainResult) -> str:
    """Return one or more sentences: whether a client is throttled or banned, until when and why."""
    if result.protected:
        return f"Never throttled or banned: {result.protected}."
    rows = _applying(result)
    if not rows and result.inside.counts:
        return f"Not throttled or banned as a whole; inside it {_counts(result)}."
    if not rows:
        known = any((result.lines, result.decisions, result.past != Past(), result.allowed))
        counted = any(row.value for row in result.meters)
        proxied = ", as it is behind a proxy" if result.proxied else ""
        unknown = "" if known or counted or proxied else "; nothing is known of it"
        return f"Not throttled or banned{proxied}{unknown}."
    said = [_sentence(result, scopes, row) for scopes, row in rows]
    subjects = dict.fromkeys(  # all of a scope: one that remains would apply instead
        other.subject
        for scopes, row in rows
        if row.action != "exempt"
        for other in (row, *result.active)
        if other.scope in scopes and other.action != "exempt"
    )
    unban = [f"To unban: throttled unban {' '.join(subjects)}"] if subjects else []
    return " ".join([*said, *unban])


def _applying(result: ExplainResult) -> list[tuple[list[Scope], Snapshot]]:
    """Return the row that applies in each scope; scopes in which the same was decided together."""
    found: list[tuple[list[Scope], Snapshot]] = []
    for scope in SCOPES:
        rows = [row for row in result.active if row.scope == scope]
        rows.sort(key=lambda row: _ORDER.index((row.action, row.subject == result.subject)))
        for row in rows[:1]:
            same = [scopes for scopes, other in found if _what(other) == _what(row)]
            if same:
                same[0].append(scope)
            else:
                found.append(([scope], row))
    return found


def _what(row: Snapshot) -> tuple[object, ...]:
    return row.subject, row.action, row.since, row.until, row.why


def _sentence(result: ExplainResult, scopes: Sequence[Scope], row: Snapshot) -> str:
    done = DONE[row.action]
    if row.subject != result.subject:
        done = f"{done} with its network {row.subject}"
    if row.rate is not None:
        done = f"{done} to {output.rate(row.rate)}"
    would = "would be " if result.would else ""
    why = f"{row.limit}: {row.why}"
    if row.origin.startswith(_PEER):
        peer = row.origin.removeprefix(_PEER)
        done = f"{done} by host {peer} of the fleet"
        banned = f"banned by {peer}"  # for a limit of this name there, see `decide/peers.py`
        why = row.why.removeprefix(f"{banned} for ") if banned in row.why else why
        why = "manual" if why == banned else why
    own = row.origin == "log" and row.subject == result.subject
    counted = _counted(result.lines, row.limit) if own else ""
    if counted:
        why = f"{counted} ({why})"
    said = f"{would}{done} {_where(result, scopes)} {output.span(row.since, row.until)}: {why}."
    return said[:1].upper() + said[1:]


def _where(result: ExplainResult, scopes: Sequence[Scope]) -> str:
    """Return the ports of scopes; the scopes where the ports are not known."""
    ports = [str(port) for scope in scopes for port in result.ports.get(scope, ())]
    if not ports:
        return f"in {' and '.join(scopes)}"
    *first, last = ports
    return f"on ports {', '.join(first)} and {last}" if first else f"on port {last}"


def _counted(lines: Sequence[LogText], limit: str) -> str:
    """Return how often a client did what it did most, in words; "" where no line is left.

    Connections count towards limits of connections alone. Of more than `LINES` only the latest are
    known.
    """
    connecting = limit.startswith("connections")
    groups = _groups(
        [line for line in lines if line.kind and (line.kind == "connect") == connecting]
    )
    most = max(groups.values(), key=len, default=[])
    least = "at least " if len(lines) >= LINES else ""
    return f"{least}{_words(most[0], len(most))}" if most else ""


def _head(result: ExplainResult) -> Iterator[str]:
    """Yield the answer, and who it is about."""
    network = f" (network {result.network})" if result.network else ""
    sender = result.sender
    if sender is not None and is_named(result.subject):
        yield f"{sender.shown}: {senders.summary(result, sender)}"
    else:
        yield answer(result)
        yield f"Client: {result.subject}{network}, host name: {result.name or 'unknown'}"
    if result.known_good and not result.protected:
        yield f"Known good in {', '.join(result.known_good)}: never delayed as a stranger"
    if result.accounts:
        yield f"Accounts in its log lines: {', '.join(map(output.from_log, result.accounts))}"
    for row in result.allowed:
        until = f"until {moment(row.until)}" if row.until else "no end"
        what = f"{row.what} of {row.name}" if row.name else row.what
        yield f"On the allowlist: {what}, since {moment(row.since)}, {until} {row.note}"


def _inside(result: ExplainResult, would: str) -> Iterator[str]:
    """Yield what is active inside a network: the latest of it, and how many there are."""
    shown = result.inside.latest
    if shown:
        yield f"Inside it {_counts(result)}; the latest:"
    for row in shown:
        yield (
            f"  {would}{row.action} of {row.subject}{output.within(row.subject, row.scope)} "
            f"since {moment(row.since)}, {row.limit}: {row.why}"
        )
    if shown:
        yield f"  All: throttled list {result.subject}"


def _counts(result: ExplainResult) -> str:
    would = "would be " if result.would else ""
    counts = result.inside.counts
    said = [f"{number(counts[a])} {would}{DONE[a]}" for a in DONE if a in counts]
    return ", ".join(said)


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
    yield f"    origin: {origin(snapshot.origin)}"
    if snapshot.action != "exempt" and not is_named(snapshot.subject):
        yield f"    {number(snapshot.packets)} packets dropped"


def origin(written: str) -> str:
    """Return where an entry came from, in words."""
    kind, _, name = written.partition(":")
    words = {"log": "this host's log", "operator": "an operator", "list": "list", "peer": "host"}
    words["proxy"] = "this host's log, behind a proxy"
    return f"{words.get(kind, kind)} {name}".rstrip()


def _meters(rows: Sequence[MeterRow], *, everything: bool) -> Iterator[str]:
    shown = [row for row in rows if row.value or everything]
    if shown:
        yield "Meters:"
        yield f"  {'limit':<20} {'scope':<10} {'value':>7} {'soft':>7} {'hard':>7} within"
        yield from map(_meter, shown)
    if len(shown) < len(rows):
        yield f"{'  ' if shown else 'Meters: '}{len(rows) - len(shown)} at 0, shown with --all"


def _meter(row: MeterRow) -> str:
    soft, hard = (
        "-" if threshold is None else str(threshold) for threshold in (row.soft, row.hard)
    )
    limit = f"{row.limit} (kernel)" if row.kernel else row.limit
    limit = f"{row.limit} (proxied)" if row.proxied else limit
    return (
        f"  {limit:<20} {row.scope:<10} {row.value:>7} {soft:>7} {hard:>7} {Duration(row.within)}"
    )


def _lines(lines: Sequence[LogText], *, everything: bool) -> Iterator[str]:
    """Yield the log lines, those of one kind together: the latest of each, or all."""
    if lines:
        latest = f", the latest {len(lines)}" if len(lines) >= LINES else ""
        yield f"Log lines that counted{latest}:"
    for group in _groups(lines).values():
        shown = group if everything else group[-1:]
        more = ", the latest:" if len(group) > len(shown) else ":"
        times = sorted(line.time for line in group if line.time)
        when = f", {output.span(times[0], times[-1])}" if len(group) > 1 and times else ""
        yield f"  {_words(group[0], len(group))}{when}{more}"
        for line in shown:
            # A place in the journal is a time, which the line begins with.
            place = "" if is_journal(line.path) else f", byte {line.offset}"
            yield f"    {line.path}{place}"
            if line.text:
                yield f"    {output.log_text(line.text)}"


def _groups(lines: Sequence[LogText]) -> dict[tuple[str, str, bool], list[LogText]]:
    groups: dict[tuple[str, str, bool], list[LogText]] = {}
    for line in lines:
        groups.setdefault((line.kind, line.reason, bool(line.text)), []).append(line)
    return groups


def _words(line: LogText, count: int) -> str:
    """Return a number of lines of this kind, in words."""
    many = count > 1
    if not line.text:
        return f"{count} {'lines' if many else 'line'} no longer in the log"
    if not line.kind:
        return f"{count} other {'lines' if many else 'line'}"
    if line.kind == "reject":
        return f"{count} {_REASONS.get(line.reason, _REASONS[''])[many]}"
    plain = line.kind.replace("_", " ")
    return f"{count} {_KINDS.get(line.kind, (plain, plain))[many]}"


def _decisions(rows: Sequence[Decision], would: str, *, everything: bool) -> Iterator[str]:
    if rows:
        yield "Decisions, the latest first:"
    shown = rows if everything else rows[:_DECISIONS]
    for row in shown:
        where = output.within(row.subject, row.scope)
        yield f"  {moment(row.time)} {would}{row.action}{where}, {row.limit}: {row.why}"
    if len(shown) < len(rows):
        yield f"  {len(rows) - len(shown)} earlier ones, shown with --all"


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
