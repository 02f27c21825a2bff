"""What the lines of the queue say, beyond the samples in tests/samples/queue.txt."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled.model import Event, Message
from throttled.parse.header import Origin
from throttled.parse.message import PROCESSES, read
from throttled.parse.parser import _READERS

ORIGIN = Origin("mx", "postfix", "smtp", 7)
BOUNCED = (
    "3A5C01F2B: to=<{}>, relay=mx.example.net[203.0.113.25]:25, delay=1, delays=0/0/1/0, "
    "dsn=5.1.1, status=bounced ({})"
)


def test_an_event_carries_where_it_comes_from_and_what_became_of_the_message() -> None:
    said = "host mx.example.net[203.0.113.25] said: 550 5.1.1 no"
    assert read(BOUNCED.format("x@example.net", said), ORIGIN, 1.5) == Event(
        "delivery",
        "",
        "smtp",
        "postfix",
        7,
        1.5,
        host="mx",
        code=550,
        text=said,
        message=Message(
            "3A5C01F2B",
            recipient="x@example.net",
            relay="203.0.113.25",
            dsn="5.1.1",
            status="bounced",
        ),
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("3A5C01F2B: removed", "removed"),
        ("4jcT2p1kjCzKT37: requeued", "requeued"),
        ("3A5C01F2B: placed on hold", "held"),
        ("3A5C01F2B: hold: header X", "held"),
        ("3A5C01F2B: milter-hold: END-OF-MESSAGE", "held"),
        ("3A5C01F2B: from=<>, size=1, nrcpt=1 (queue active)", "active"),
        ("3A5C01F2B: from=<a>, status=expired, returned to sender", "expired"),
        ("3A5C01F2B: uid=0 from=<root>", "queued"),
        (BOUNCED.format("x", ""), "delivery"),
        ("3A5C01F2B: removed again", None),
        ("3A5C01F2B", None),
        ("NOQUEUE: removed", None),
        ("warning: removed", None),
        ("3A5C01F2B: from=<a>", None),
        ("3A5C01F2B: from=<a", None),
        ("3A5C01F2B: from=<a>, size=1, nrcpt=1 (queue active) again", None),
        ("3A5C01F2B: uid=x from=<root>", None),
        ("3A5C01F2B: to=<a>, relay=local", None),
        ("3A5C01F2B: host x[203.0.113.25] said: 450 no", None),
    ],
)
def test_kinds(body: str, kind: str | None) -> None:
    event = read(body, ORIGIN, 0.0)
    assert (event and event.kind) == kind


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("250 2.0.0 Ok: queued as 1B2C3D4E5", "1B2C3D4E5"),
        ("250 2.0.0 Ok: queued as 4jcT2p1kjCzKT37", "4jcT2p1kjCzKT37"),
        ("250 2.0.0 from MTA(smtp:[::1]:10025): 250 2.0.0 Ok: queued as 1B2C3D4E5", "1B2C3D4E5"),
        ("250 Ok: queued as (1B2C3D4E5) now", ""),
        ("250 Ok: queued as x", ""),
        ("forwarded as 1B2C3D4E5", ""),
    ],
)
def test_the_id_at_the_next_server(text: str, following: str) -> None:
    body = BOUNCED.replace("bounced", "sent").format("x@example.net", text)
    event = read(body, ORIGIN, 0.0)
    assert event is not None
    assert event.message is not None
    assert event.message.following == following


WORDS = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(max_codepoint=255), max_size=12),
        st.sampled_from(
            [
                ">, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (",
                ">, orig_to=<a",
                "1A2B3C4D5E: removed",
                ", dsn=2.0.0, status=sent (250 Ok: queued as 1B2C3D4E5)",
                ", size=1, nrcpt=1 (queue active)",
                ", status=expired, returned to sender",
                "host x[203.0.113.26] said: 250 ",
                "<",
                ">",
                " orig_id=1B2C3D4E5",
            ]
        ),
    ),
    max_size=4,
).map("".join)


@given(WORDS, WORDS)
@example("a>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (x", "")
@example(">, orig_to=<a", "")
@example("a>, orig_to=<", "")
@example("a", "1A2B3C4D5E: to=<b>, relay=x, delay=1, dsn=2.0.0, status=sent (250 ok)")
def test_no_words_of_strangers_change_an_outcome(recipient: str, text: str) -> None:
    """A bounce is read as a bounce of this message, or not at all."""
    event = read(BOUNCED.format(recipient, text), ORIGIN, 0.0)
    if event is None:
        return
    message = event.message
    assert message is not None
    assert (event.kind, event.client) == ("delivery", "")
    assert (message.queue_id, message.status) == ("3A5C01F2B", "bounced")
    assert recipient in {message.recipient, f"{message.recipient}>, orig_to=<{message.original}"}
    assert (message.dsn, message.relay, message.following) == ("5.1.1", "203.0.113.25", "")
    assert len(event.text) <= 200


@given(WORDS)
@example("a>, size=9, nrcpt=9 (queue active)")
def test_no_sender_changes_size_or_recipients(sender: str) -> None:
    event = read(f"3A5C01F2B: from=<{sender}>, size=7, nrcpt=2 (queue active)", ORIGIN, 0.0)
    assert event is not None
    message = Message("3A5C01F2B", sender=sender, size=7, recipients=2)
    assert (event.kind, event.message) == ("active", message)


@given(WORDS)
def test_the_uid_stands_before_the_sender(sender: str) -> None:
    event = read(f"3A5C01F2B: uid=33 from=<{sender}>", ORIGIN, 0.0)
    assert event is not None
    assert event.message is not None
    assert (event.kind, event.message.uid) == ("queued", 33)


def test_every_daemon_of_the_queue_is_read() -> None:
    assert all(_READERS[process] is read for process in PROCESSES)
