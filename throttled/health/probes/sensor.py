"""Whether the kernel can count completed handshakes here, by having it do so for a moment."""

from collections.abc import Iterator

from throttled.config import schema
from throttled.errors import BackendError
from throttled.model import Problem
from throttled.sources.sensor import Sensor


def check(settings: schema.Sensor) -> Iterator[Problem]:
    """Try it, with the capabilities of the calling thread."""
    if not settings.handshakes:
        yield Problem("ok", "sensor: off; connections are counted from the log alone")
        return
    try:
        Sensor()
    except BackendError as error:
        what = f"sensor: {error.message}; connections are counted from the log alone"
        yield Problem("warning", what, error.hint)
    else:
        yield Problem("ok", "sensor: completed handshakes can be counted")
