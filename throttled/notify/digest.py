"""Notifications as the text of a mail. Owns no state."""

from datetime import datetime, tzinfo

from throttled.notify.channel import Event, Message
from throttled.printable import printable

_LINE = 300  # characters of an event's text


def subject(of: Message) -> str:
    """Return the subject of a mail."""
    return f"throttled on {_shown(of.host)}: {_shown(of.text)}"[:200]


def body(of: Message, zone: tzinfo | None = None) -> str:
    """Return the text of a mail.

    Args:
        of: what happened.
        zone: of the times; None: this host's.
    """
    lines = [f"throttled on {_shown(of.host)}", ""]
    for event in of.events:
        lines.extend(_event(event, zone))
    if of.more:
        lines.append(f"and {of.more:,} more")
    lines += ["", "What is active now: throttled list. What is wrong: throttled status.", ""]
    return "\n".join(lines)


def _event(event: Event, zone: tzinfo | None) -> list[str]:
    when = datetime.fromtimestamp(event["time"], zone).astimezone(zone)
    lines = [f"{when:%Y-%m-%d %H:%M:%S %z}  {event['event']}: {_shown(str(event['text']))}"]
    if hint := event.get("hint"):
        lines.append(f"{'':27}{_shown(str(hint))}")
    return lines


def _shown(text: str) -> str:
    """Return text on one line, with everything that could mislead a reader escaped."""
    line = printable(text)
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"
