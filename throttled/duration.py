"""Durations, as an operator writes them and as messages show them. Pure."""

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class Duration(float):
    """Seconds, written as `90s`, `10m`, `1.5h`, `1d`, `2w` or a sum of these: `1h30m`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read what an operator writes.

        Raises:
            ValueError: the text is not a duration, or is zero or longer than ten years.
        """
        seconds = 0.0
        end = 0
        for match in _DURATION.finditer(text):
            if match.start() != end:
                break
            seconds += float(match[1]) * _UNITS[match[2]]
            end = match.end()
        if end == len(text) and seconds > 3650 * 86400:
            raise ValueError(f"longer than ten years: {text!r} (at most 3650d)")
        if end != len(text) or not seconds:
            raise ValueError(f"not a duration: {text!r} (write 90s, 10m, 1h30m, 4h, 1d, 2w)")
        return cls(seconds)

    def __str__(self) -> str:
        """Write the shortest exact form, largest unit first."""
        rest = round(float(self))
        parts = []
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


def duration(text: str) -> Duration:
    """Shorthand for defaults."""
    return Duration.parse(text)
