"""Lines on their way into the engine: parsed, given their time, counted.

Owns a parser for each log, and how many lines and events there were. A line that raises an
unexpected error is skipped, the others continue.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import length_hint

from msgspec import Struct, field

from throttled import address
from throttled.clock import Moment
from throttled.decide.engine import Engine
from throttled.decide.senders import Senders
from throttled.histogram import Histogram
from throttled.model import Decision, Event, Scope
from throttled.parse.parser import Parser
from throttled.skipped import Skipped

#: Logs whose parsers are kept; they are numbered again when they are reopened.
_PARSERS = 100
#: RFC 3164 has whole seconds: a line that looks so much older than its arrival is not.
_GRAIN = 2.0
#: A line older than this was not written by a clock that can be compared with ours: one without a
#: year, of a clock that is ahead, is taken for last year's.
_PLAUSIBLE = 300 * 86400.0

Unbanned = Mapping[str, Mapping[Scope, float]]


class Counts(Struct):
    """What went through, for `status`."""

    lines: int = 0
    lines_lost: int = 0
    events: dict[str, int] = {}
    decisions: dict[str, dict[str, int]] = {}  # by limit and action
    answers: dict[str, int] = {}  # to Postfix's policy requests, see `throttled.enforce.answers`
    #: From a batch of lines read to its decisions recorded, and to their being active.
    decided: Histogram = field(default_factory=Histogram)
    enforced: Histogram = field(default_factory=Histogram)

    def add(self, decisions: Iterable[Decision]) -> None:
        """Count decisions."""
        for (limit, action), count in Counter((d.limit, d.action) for d in decisions).items():
            by_action = self.decisions.setdefault(limit, {})
            by_action[action] = by_action.get(action, 0) + count


class Counting:
    """Counts what logs say."""

    def __init__(
        self,
        engine: Engine,
        senders: Senders,
        parser: Parser,
        skipped: Skipped,
        counts: Counts,
    ) -> None:
        """Take what counts.

        Args:
            engine: where events go.
            senders: where events about messages go.
            parser: its zone and reference are the logs'.
            skipped: where lines that raise are counted.
            counts: of lines and events.
        """
        self.parser = parser
        self._skipped = skipped
        self._counts = counts
        self._engine = engine
        self._senders = senders
        self._parsers: dict[int, Parser] = {}

    def read(  # noqa: PLR0913 - lines, where they stand, and when they came
        self,
        lines: Sequence[str],
        offsets: Sequence[int],
        now: Moment,
        log_number: int = 0,
        source: int = 0,
        *,
        unbanned: Unbanned | None = None,
    ) -> None:
        """Parse and count lines that just arrived.

        A line's own time counts where it is plausible, so that a log that stalled and then came
        at once is no burst; a line is never later than its arrival.

        Args:
            lines: as they were logged.
            offsets: where each stands.
            now: both clocks.
            log_number: of the log.
            source: of the file.
            unbanned: when the lines are counted again after a restart: from when on subjects
                count, see `Store.unbanned_since`.
        """
        self._engine.now = now.boot
        pending = iter(lines)
        places = zip(pending, offsets, strict=True)
        parse = self._parser_of(log_number).event
        step = self._engine.step if unbanned is None else self._resetting(unbanned)
        while True:
            try:
                self._read(
                    places, parse, step, now, (log_number, source), again=unbanned is not None
                )
                break
            except Exception as error:  # noqa: BLE001 - of the next lines nothing may be lost
                self._skipped.add("line", error, lines[len(lines) - length_hint(pending) - 1])
        self._counts.lines += len(lines)

    def _read(  # noqa: PLR0913 - see `read`
        self,
        places: Iterator[tuple[str, int]],
        parse: Callable[[str, float], Event | None],
        step: Callable[[Event, float, int, int, int], None],
        now: Moment,
        origin: tuple[int, int],
        *,
        again: bool,
    ) -> None:
        """Count what is left of some lines; what it raises is of the line taken last."""
        log_number, source = origin
        events = self._counts.events
        wall, boot = now.wall, now.boot
        connections = self._senders.connections
        for line, offset in places:
            event = parse(line, wall)
            if event is None:
                continue
            kind = event.kind
            events[kind] = events.get(kind, 0) + 1
            age = wall - event.time
            if _GRAIN < age < _PLAUSIBLE:
                at = boot - age
            elif age > _GRAIN and again:
                continue  # when that was nobody knows, but it was not now
            else:
                at = boot
            step(event, at, log_number, source, offset)
            about = event.message is not None or (connections and kind == "connect")
            if about and self._engine.ours(event, log_number):
                self._senders.step(event, at, again=again, source=source, offset=offset)
            if kind == "lines_lost":
                self._counts.lines_lost += event.count

    def request(self, event: Event, now: Moment) -> None:
        """Count a message that Postfix asked about before it took it.

        Args:
            event: of the kind `policy_request`.
            now: both clocks.
        """
        self._counts.events[event.kind] = self._counts.events.get(event.kind, 0) + 1
        try:
            self._senders.step(event, now.boot)
        except Exception as error:  # noqa: BLE001 - the mail goes on
            self._skipped.add("request", error, event.client)

    def _parser_of(self, log_number: int) -> Parser:
        """Return the parser of a log: what a line says may depend on the one before."""
        parser = self._parsers.get(log_number)
        if parser is None:
            if len(self._parsers) >= _PARSERS:
                self._parsers.clear()
            parser = self._parsers[log_number] = self.parser.another()
        return parser

    def _resetting(self, unbanned: Unbanned) -> Callable[[Event, float, int, int, int], None]:
        """Return a step that forgets again what an operator made us forget."""
        everybody = unbanned.get("", {})

        def step(event: Event, at: float, log_number: int, source: int, offset: int) -> None:
            self._engine.step(event, at, log_number, source, offset)
            # Peaks count nothing, and may be of a network; events of the server have no client.
            if event.kind == "peak" or not event.client:
                return
            # A client's network has meters of its own, which are reset too.
            for subject in (event.client, address.network_of(event.client)):
                for since in (everybody, unbanned.get(subject, {})):
                    for scope, moment in since.items():
                        if event.time <= moment:
                            self._engine.reset(subject, scope)

        return step
