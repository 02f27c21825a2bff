"""What a message counts."""

from throttled.decide.uses import Use, uses_of
from throttled.model import Message


def test_a_message_counts_for_each_owner_and_nothing_for_nobody() -> None:
    message = Message("Q", recipients=3, size=700)
    assert uses_of(("account:a", ""), message, ("messages", "recipients", "bytes")) == (
        Use("account:a", "messages", 1),
        Use("account:a", "recipients", 3),
        Use("account:a", "bytes", 700),
    )
