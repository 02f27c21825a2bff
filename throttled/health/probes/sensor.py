"""Whether the kernel can count completed handshakes here, by having it do so for a moment."""

from collections.abc import Iterator

from throttled.config import schema
from throttled.errors import BackendError
from throttled.model import Finding
from throttled.sources.sensor import Sensor


def check(settings: schema.Sensor) -> Iterator[Finding]:
    """Try it, with the capabilities of the calling thread."""
    if not settings.handshakes:
        yield Finding("ok", "sensor: off; connections are counted from the log alone")
        return
    try:
        Sensor()
    except BackendError as error:
        what = f"sensor: {error.message}; connections are counted from the log alone"
        yield Finding("warning", what, error.hint)
    else:
        yield Finding("ok", "sensor: completed handshakes can be counted")
