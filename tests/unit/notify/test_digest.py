"""A mail has nothing of a client's text that could mislead its reader."""

from datetime import UTC

from throttled.notify import digest
from throttled.notify.channel import Message

WHY = "helo \u05d0\u202e\x1b e\u0301\n"
SHOWN = r"helo \u05d0\u202e\x1b e\u0301\x0a"


def test_text_of_clients_is_escaped() -> None:
    event = {"event": "ban", "time": 0.0, "text": WHY, "hint": WHY}
    sent = Message("mx", 0.0, WHY, {"ban": 1}, [event], 0)
    assert digest.subject(sent) == f"throttled on mx: {SHOWN}"
    assert digest.body(sent, UTC).split("\n")[2:4] == [
        f"1970-01-01 00:00:00 +0000  ban: {SHOWN}",
        f"{'':27}{SHOWN}",
    ]
