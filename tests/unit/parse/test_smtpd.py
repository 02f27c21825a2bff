"""What smtpd's lines say, beyond the samples in tests/samples."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled.model import Event, Message, Reason
from throttled.parse.header import Origin
from throttled.parse.smtpd import TABLE

ORIGIN = Origin("mx", "postfix", "smtpd", 7)


def read(body: str) -> Event | None:
    return TABLE.read(body, ORIGIN, 1.5)


def test_an_event_carries_where_it_comes_from() -> None:
    assert read("connect from a.example[203.0.113.8]:25") == Event(
        "connect",
        "203.0.113.8",
        "smtpd",
        "postfix",
        7,
        1.5,
        host="mx",
        name="a.example",
        port=25,
    )


@pytest.mark.parametrize(
    ("counters", "commands", "notes"),
    [
        ("", None, ""),
        (" commands=0/0", {"commands": (0, 0)}, ""),
        (" ehlo=1 auth=0/1 commands=1/2", {"ehlo": (1, 1), "auth": (0, 1), "commands": (1, 2)}, ""),
        (" quit=1 commands=1 notes=bare_lf", {"quit": (1, 1), "commands": (1, 1)}, "bare_lf"),
        (" nonsense =1 x=y 7=7 quit=1", {"quit": (1, 1)}, ""),
        (" nonsense", None, ""),
        (f" quit={'9' * 5000}", None, ""),
    ],
)
def test_disconnect(counters: str, commands: dict[str, tuple[int, int]] | None, notes: str) -> None:
    event = read("disconnect from unknown[203.0.113.8]" + counters)
    assert event is not None
    assert event.kind == "disconnect"
    assert event.commands == commands
    assert event.text == notes


@pytest.mark.parametrize(
    ("said", "reason", "user"),
    [
        ("LOGIN authentication failed: authentication failure, sasl_username=bob", "", "bob"),
        ("LOGIN authentication failed: UGFzc3dvcmQ6", "", ""),
        ("LOGIN authentication failed:", "", ""),
        ("LOGIN authentication failed: x, sasl_username=(unavailable)", "", ""),
        (
            "LOGIN authentication failed: x, sasl_username=a, sasl_username=b",
            "",
            "a, sasl_username=b",
        ),
        ("PLAIN authentication failed: Can't connect to authentication server", "temporary", ""),
        ("PLAIN authentication failed: Authentication backend error", "temporary", ""),
        ("PLAIN authentication failed: Internal authentication failure. Refer", "temporary", ""),
        ("PLAIN authentication failed: remote authentication server unavailable", "temporary", ""),
        ("LOGIN authentication aborted", "aborted", ""),
        ("LOGIN authentication aborted, sasl_username=bob", "aborted", "bob"),
        ("LOGIN authentication aborted!", "", ""),
        ("what is this", "", ""),
    ],
)
def test_sasl(said: str, reason: Reason, user: str) -> None:
    event = read(f"warning: unknown[203.0.113.8]: SASL {said}")
    assert event is not None
    assert (event.kind, event.where) == ("auth_failure", "AUTH")
    assert (event.reason, event.user) == (reason, user)


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_no_user_name_makes_a_failure_excusable(user: str) -> None:
    event = read(
        "warning: unknown[203.0.113.8]: SASL LOGIN authentication failed: authentication failure, "
        f"sasl_username={user}"
    )
    assert event is not None
    assert (event.kind, event.client, event.reason) == ("auth_failure", "203.0.113.8", "")


MECHANISM = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(max_codepoint=255), max_size=5),
        st.sampled_from(
            [
                "A authentication failed: Connection lost to authentication server",
                " authentication failed: ",
                " authentication aborted",
                ", sasl_username=",
                "generic failure",
            ]
        ),
    ),
    max_size=4,
).map("".join)


@given(MECHANISM)
@example("A authentication failed: Connection lost to authentication server")
@example("A authentication failed: Connection lost to authentication server, sasl_username=b")
@example("A authentication aborted")
@example("A authentication aborted, sasl_username=b")
def test_no_mechanism_makes_a_failure_excusable(mechanism: str) -> None:
    """Postfix logs the argument of AUTH as it came."""
    event = read(
        f"warning: unknown[203.0.113.8]: SASL {mechanism} authentication failed: "
        "Invalid authentication mechanism, sasl_username=(unavailable)"
    )
    assert event is not None
    assert (event.kind, event.client, event.reason) == ("auth_failure", "203.0.113.8", "")


@pytest.mark.parametrize(
    ("rest", "user"),
    [
        ("bob", "bob"),
        ("bob, sasl_sender=eve", "bob"),
        ("bob, orig_queue_id=1, orig_client=x[198.51.100.1]", "bob"),
    ],
)
def test_login(rest: str, user: str) -> None:
    event = read(f"4A5B6C7D: client=x[203.0.113.8], sasl_method=PLAIN, sasl_username={rest}")
    assert event is not None
    assert (event.kind, event.client, event.user) == ("login", "203.0.113.8", user)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("4A5B6C7D: client=x[203.0.113.8]", "accepted", Message("4A5B6C7D")),
        ("NOQUEUE: client=x[203.0.113.8]", "accepted", Message("")),
        (
            "4A5B6C7D: client=x[203.0.113.8], orig_queue_id=5A5B6C7D, orig_client=y[203.0.113.9]",
            "accepted",
            Message("4A5B6C7D", previous="5A5B6C7D"),
        ),
        (
            "4A5B6C7D: client=x[203.0.113.8], orig_queue_id=5A5B6C7D",
            "accepted",
            Message("4A5B6C7D", previous="5A5B6C7D"),
        ),
        ("4A5B6C7D: client=x[203.0.113.8], orig_queue_id=x y", "accepted", Message("4A5B6C7D")),
        ("4A5B6C7D: client=x[203.0.113.8], sasl_method=X, sasl_username=", "login", None),
        ("warning: 4A5B6C7D: client=x[203.0.113.8]", None, None),
        ("4A5B6C7D: client=unknown[unknown]", None, None),
    ],
)
def test_the_queue_id_of_a_message_that_is_taken(
    line: str, kind: str | None, message: Message | None
) -> None:
    event = read(line)
    assert (event and event.kind) == kind
    if kind == "accepted":
        assert event is not None
        assert event.message == message


@pytest.mark.parametrize(
    ("answer", "following"),
    [
        ("250 2.0.0 Ok: queued as 4A5B6C7D", "4A5B6C7D"),
        ("250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 Ok: queued as 4A5B6C7D", "4A5B6C7D"),
        ("250 Ok", None),
        ('250 Ok; from=<"> queued as 4A5B6C7D', None),
    ],
)
def test_what_a_filter_before_the_queue_answers(answer: str, following: str | None) -> None:
    event = read(f"proxy-accept: END-OF-MESSAGE: {answer}; from=<a@x.test> to=<b@x.test>")
    if following is None:
        assert event is None
    else:
        assert event is not None
        assert (event.kind, event.message) == ("proxied", Message("", following=following))


def test_a_line_of_no_form_is_no_event() -> None:
    assert read("statistics of something") is None
