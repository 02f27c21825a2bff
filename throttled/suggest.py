"""From old logs to suggestions: reads each log once and asks `throttled.decide.suggest`.

Owns nothing but the one run. Memory is flat in the length of the logs: what grows is the table of
clients, and that is bounded by `max_clients`.
"""

from collections.abc import Callable, Sequence
from datetime import tzinfo

from msgspec import Struct
from msgspec.structs import replace

from throttled.config.schema import Config
from throttled.decide import suggest as rule
from throttled.decide.peaks import Rate, Watch
from throttled.decide.protect import Protection
from throttled.history import in_order, read, reference
from throttled.model import Facts
from throttled.parse.parser import Parser


class Findings(Struct):
    """What some logs say about the limits."""

    files: list[str]  # in the order in which they were read
    lines: int
    first: float  # wall clock of the first event; 0.0 where there was none
    last: float
    full: bool  # there were more clients than `max_clients`: of the later ones nothing is known
    anvil: list[Rate]
    suggestions: list[rule.Suggestion]


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
        facts: who is protected, and which tag is which service. All hosts' lines count.
        zone: of log lines that name none.
        paths: logs in any order; what each may be, see `throttled.history.read`.
        progress: told how much of which file has been read.

    Raises:
        SourceError: a log cannot be read.
    """
    facts = replace(facts, hostnames=frozenset())
    watch = Watch(config.policy(), facts)
    files = in_order(paths, zone)
    count = 0
    first = last = 0.0
    for path in files:
        parse = Parser(zone, reference(path)).event
        for lines, consumed in read(path):
            at = last
            for line in lines:
                event = parse(line)
                if event is not None:
                    watch.step(event)
                    at = event.time
                    first = first or at
            last = max(last, at)
            watch.settle()
            count += len(lines)
            if progress is not None:
                progress(path, consumed)
    protection = Protection.of(facts, config.protect)
    suggestions = list(rule.suggest(watch, last - first, protection.reason))
    return Findings(files, count, first, last, watch.full, watch.anvil(), suggestions)
