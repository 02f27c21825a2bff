"""`throttled parse`."""

import sys
from collections.abc import Iterator
from datetime import datetime, tzinfo

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from throttled.cli.daemon import config, facts, own_logs
from throttled.cli.options import Command, json_always_option, zone_option
from throttled.cli.output import from_log, safe_json
from throttled.host.zone import local_zone
from throttled.model import Event, Kind, Message
from throttled.parse.parser import Parser
from throttled.sources.history import read, reference

_CACHED = 10_000
#: Shapes of lines that are not understood; further ones are counted together as "".
_SHAPES = 1_000


class _Row(Struct, omit_defaults=True, gc=False):
    """An event as it is printed: up to `count` always, the others where they say something."""

    line: int
    time: str | None
    kind: Kind
    client: str
    process: str
    instance: str
    pid: int
    count: int
    file: str = ""
    host: str = ""
    name: str = ""
    where: str = ""
    code: int = 0
    reason: str = ""
    user: str = ""
    port: int = 0
    service: str = ""
    text: str = ""
    commands: dict[str, tuple[int, int]] | None = None
    message: Message | None = None


class _Unknown(Struct, omit_defaults=True, gc=False):
    """Lines of one shape that look like offences and are not understood: the first, how many."""

    line: int
    text: str
    file: str = ""
    count: int = 1


class _Times:
    """Writes times as ISO 8601 with zone. A flood writes thousands of lines in a second."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._seconds: dict[int, tuple[str, str]] = {}

    def text(self, time: float) -> str | None:
        """Return the time with milliseconds where it has a fraction; None for 0.0 (unknown)."""
        if not time:
            return None
        second = int(time)
        parts = self._seconds.get(second)
        if parts is None:
            if len(self._seconds) >= _CACHED:
                self._seconds.clear()
            iso = datetime.fromtimestamp(second, self._zone).isoformat()
            parts = self._seconds[second] = (iso[:19], iso[19:])
        thousandths = int((time - second) * 1000 + 0.5)
        fraction = f".{min(thousandths, 999):03}" if thousandths else ""
        return f"{parts[0]}{fraction}{parts[1]}"


@click.command(
    cls=Command,
    examples=(
        "throttled parse",
        "throttled parse mail.log | jq -r .client | sort | uniq -c",
        "ssh mx2 cat /var/log/mail.log | throttled parse -",
        "throttled parse --unknown journal",
    ),
)
@click.argument("files", metavar="[FILE]…", nargs=-1)
@zone_option
@click.option(
    "--unknown", is_flag=True, help="Print lines like those of offences that are not recognised."
)
@json_always_option
def command(*, files: tuple[str, ...], zone: tzinfo | None, unknown: bool) -> None:
    """Print the events in a log, one JSON object a line.

    FILE may be compressed (.gz, .xz, .bz2); - is standard input, journal is systemd's journal.
    Without FILE the logs that the daemon follows are read: files with their rotated ones, or the
    journal. Lines that are no event are skipped. With several files each object names its file.
    With --unknown it prints one object for each group of similar lines, the most frequent first:
    the first line, and how many there are.
    """
    paths = files
    if not files:
        settings = config()
        paths = tuple(own_logs(settings, facts(settings)))
    zone = zone or local_zone()
    times = _Times(zone)
    encode = msgspec.json.Encoder().encode_lines
    shapes: dict[str, _Unknown] = {}
    for path in paths:
        parser = Parser(zone, reference(path))
        name = path if len(paths) > 1 else ""
        first = 1
        for lines, _ in read(path):
            if unknown:
                _unknown(shapes, parser, lines, first, name)
            else:
                rows = _events(parser, lines, first, name, times)
                sys.stdout.buffer.write(safe_json(encode(rows)))
                sys.stdout.buffer.flush()
            first += len(lines)
    found = sorted(shapes.values(), key=lambda row: -row.count)
    sys.stdout.buffer.write(safe_json(encode(found)))


def _events(
    parser: Parser, lines: list[str], first: int, file: str, times: _Times
) -> Iterator[_Row]:
    event_of = parser.event
    for number, line in enumerate(lines, first):
        event = event_of(line)
        if event is not None:
            yield _row(event, number, file, times.text(event.time))


def _row(event: Event, number: int, file: str, at: str | None) -> _Row:
    return _Row(
        number,
        at,
        event.kind,
        event.client,
        event.process,
        from_log(event.instance),
        event.pid,
        event.count,
        file,
        from_log(event.host),
        from_log(event.name),
        from_log(event.where),
        event.code,
        event.reason,
        from_log(event.user),
        event.port,
        from_log(event.service),
        from_log(event.text),
        event.commands,
        None if event.message is None else _message(event.message),
    )


def _message(message: Message) -> Message:
    return replace(
        message,
        sender=None if message.sender is None else from_log(message.sender),
        recipient=from_log(message.recipient),
        original=from_log(message.original),
        relay=from_log(message.relay),
    )


def _unknown(
    shapes: dict[str, _Unknown], parser: Parser, lines: list[str], first: int, file: str
) -> None:
    """Add the lines that are not understood to what is known of their shapes."""
    for number, line in enumerate(lines, first):
        shape = parser.unknown(line)
        if not shape:
            continue
        if shape not in shapes and len(shapes) >= _SHAPES:
            shape = ""
        known = shapes.get(shape)
        if known is None:
            shapes[shape] = _Unknown(number, from_log(line), file)
        else:
            known.count += 1
