"""From old logs, or what the daemon kept, to suggestions: asks `throttled.decide.suggest`.

Owns nothing but the one run. Memory is flat in the length of the logs: what grows is the table of
clients, and that is bounded by `max_clients`.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import asdict

from throttled.config.schema import Config
from throttled.decide import suggest as rule
from throttled.decide.highest import Peaks
from throttled.decide.limits import Gauges
from throttled.decide.peaks import Rate, Reached, Watch, Watched
from throttled.decide.protect import Protection
from throttled.decide.sender_peaks import SenderPeaks
from throttled.decide.suggest_senders import SenderSuggestion, suggest_senders
from throttled.facts import Facts
from throttled.log_paths import is_journal
from throttled.model import SCOPES
from throttled.parse.parser import Parser
from throttled.skipped import Skipped
from throttled.sources.history import in_order, reference, with_hosts
from throttled.sources.parsing import Parsed, parse
from throttled.store.peaks import MEMORY
from throttled.store.store import Store

_DAY = 86400.0


class Findings(Struct):
    """What some logs, or a store, say about the limits."""

    files: list[str]  # in the order in which they were read; of a store its file
    lines: int | None  # None: it was a store
    first: float  # wall clock of the first event or note; 0.0 where there was none
    last: float
    full: bool  # there was no room for more clients: of the later ones nothing is known
    anvil: list[Rate]
    suggestions: list[rule.Suggestion]
    senders: list[SenderSuggestion]


def suggest(
    config: Config,
    facts: Facts,
    zone: tzinfo,
    paths: Sequence[str],
    progress: Callable[[str, int], None] | None = None,
) -> Findings:
    """Read logs and return what follows for each limit in each scope.

    Args:
        config: the limits to think about.
        facts: who is protected, which tag is which service, and what this host is called. Other
            hosts' lines do not count; of a log that has no line of this host all count.
        zone: of log lines that name none.
        paths: logs in any order; what each may be, see `throttled.sources.history.read`.
        progress: called with how much of which file has been read.

    Raises:
        SourceError: a log cannot be read.
    """
    watch = Watch(config.policy(), facts)
    skipped = Skipped()
    files = in_order(paths, zone)
    count = 0
    first = last = 0.0
    for path in files:
        batches, others = with_hosts(path, facts, zone)
        watch.begin(every=is_journal(path) or bool(others))
        for parsed in parse(path, batches, Parser(zone, reference(path))):
            times = _count(parsed, watch, skipped)
            first = first or next(filter(None, times), 0.0)
            last = max([last, *times[-1:]])
            watch.settle()
            count += parsed.lines
            if progress is not None:
                progress(path, parsed.consumed)
    protection = Protection.of(facts, config.protect)
    suggestions = list(rule.suggest(watch.reached(), lambda _: last - first, protection.reason))
    senders = list(suggest_senders(watch.senders.watched(), last - first))
    return Findings(files, count, first, last, watch.full, watch.anvil(), suggestions, senders)


def _count(parsed: Parsed, watch: Watch, skipped: Skipped) -> list[float]:
    """Count the events of some lines; return their times."""
    parsed.report(skipped)
    skipped.run("event", parsed.events, watch.step)
    return [event.time for event in parsed.events]


def suggest_stored(config: Config, facts: Facts, now: float) -> Findings:
    """Return what follows for each limit in each scope from what the daemon kept.

    Args:
        config: the limits to think about, and where the store is.
        facts: who is protected.
        now: wall clock.

    Raises:
        StoreError: it cannot be read.
    """
    path = config.database()
    with closing(Store.open(path, readonly=True)) as store:
        kept = store.peaks.read(now)
        senders = _stored_senders(config, facts, store)
    policy = config.policy()
    reached = []
    times = {}
    for scope in SCOPES:
        watched = []
        seen: set[str] = set()
        for gauge in Gauges.of(policy, scope).all():
            if gauge.kernel:
                continue
            of = (scope, gauge.limit, gauge.count, gauge.within)
            times[of] = kept.times.get(of, (0.0, 0.0))
            highest = kept.highest.get(of, {})
            seen |= highest.keys()
            watched.append(Watched(gauge, gauge.read("", 0.0), Peaks(0, highest=highest)))
        good = {client: done for client, done in kept.good.items() if client in seen}
        reached.append(Reached(good, watched))

    def span(watched: Watched) -> float:
        gauge = watched.gauge
        first, last = times[gauge.scope, gauge.limit, gauge.count, gauge.within]
        return min(MEMORY, last - first)

    protection = Protection.of(facts, config.protect)
    first = min((since for since, _ in times.values() if since), default=0.0)
    last = max((until for _, until in times.values()), default=0.0)
    suggestions = list(rule.suggest(reached, span, protection.reason))
    return Findings([path], None, first, last, kept.full, [], suggestions, senders)


def _stored_senders(config: Config, facts: Facts, store: Store) -> list[SenderSuggestion]:
    """Return what follows for each limit of senders from the days that the store has."""
    peaks = SenderPeaks(config.policy(), facts)
    numbers = store.senders.stored_days()
    for number in numbers:
        rows = store.senders.in_day(number)
        peaks.add_day(number, [(row.subject, asdict(row)) for row in rows])
    span = (numbers[-1] - numbers[0]) * _DAY if numbers else 0.0  # the last day goes on
    return list(suggest_senders(peaks.watched(stored=True), span))
