"""Postfix's policy requests: as smtpd writes them, cut anywhere, and as nobody should."""

from datetime import UTC
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.parse.parser import Parser
from throttled.parse.policy_request import (
    ATTRIBUTES,
    LINE,
    REQUEST,
    Reader,
    Request,
    RequestError,
    answer,
    event,
    read,
)

#: Of Postfix 3.7.11 at DATA, after AUTH at port 587.
SENT = b"""\
request=smtpd_access_policy
protocol_state=DATA
protocol_name=ESMTP
client_address=203.0.113.7
client_name=mx.example.net
client_port=40123
reverse_client_name=mx.example.net
server_address=198.51.100.1
server_port=587
helo_name=laptop
sender=alice@example.test
recipient=
recipient_count=3
queue_id=4jcT2p1kjCzKT37
instance=1a2b.6541.7c.0
size=0
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username=alice=x
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=
encryption_cipher=
encryption_keysize=0
policy_context=

"""
REQUESTED = Request(
    "data",
    "203.0.113.7",
    40123,
    "mx.example.net",
    587,
    "alice=x",
    "4jcT2p1kjCzKT37",
    "alice@example.test",
    3,
)


def text(**attributes: str) -> bytes:
    """Return a request without its empty line."""
    pairs = {"request": "smtpd_access_policy", **attributes}
    return "\n".join(f"{name}={value}" for name, value in pairs.items()).encode("latin-1")


def test_what_postfix_writes_at_data() -> None:
    assert Reader().feed(SENT) == REQUESTED


@given(st.lists(st.integers(0, len(SENT)), max_size=9))
def test_cut_anywhere(cuts: list[int]) -> None:
    reader, ends = Reader(), sorted([0, *cuts, len(SENT)])
    parts = [SENT[begin:end] for begin, end in pairwise(ends)]
    found = [reader.feed(part) for part in parts if part]
    assert found == [None] * (len(found) - 1) + [REQUESTED]
    assert reader.feed(SENT) == REQUESTED  # the next one


def test_postfix_2_1_sends_less() -> None:
    found = read(text(protocol_state="RCPT", client_address="2001:DB8::1", client_name="unknown"))
    assert found == Request("client", "2001:db8::1", 0, "unknown", 0, "", "", "", 0)
    assert read(text()) == Request("", "", 0, "", 0, "", "", "", 0)


@pytest.mark.parametrize(
    ("state", "stage"),
    [
        *((s, "client") for s in ("CONNECT", "EHLO", "HELO", "MAIL", "RCPT")),
        ("DATA", "data"),
        *((s, "") for s in ("END-OF-MESSAGE", "ETRN", "VRFY", "", "data")),
    ],
)
def test_where_it_is_asked(state: str, stage: str) -> None:
    assert read(text(protocol_state=state)).stage == stage


def test_a_recipient_is_asked_about_by_a_check_of_its_own() -> None:
    asked = {"policy_context": "recipient", "recipient": "Bob@a.test"}
    found = read(text(protocol_state="RCPT", **asked))
    assert (found.stage, found.recipient) == ("recipient", "Bob@a.test")
    assert read(text(protocol_state="DATA", **asked)).stage == ""
    assert read(text(protocol_state="RCPT", policy_context="x")).stage == "client"


@pytest.mark.parametrize("number", ["-1", "1e9", "\xb2", "9" * 13, " 7", ""])
def test_a_number_that_is_none_is_zero(number: str) -> None:
    assert read(text(client_port=number)).port == 0


@pytest.mark.parametrize("name", ["unknown", "198.51.100.256", "::x", "198.51.100.1\r"])
def test_an_address_that_is_none_is_left_out(name: str) -> None:
    assert read(text(client_address=name)).client == ""


@pytest.mark.parametrize("queue_id", ["../etc", "A b", "x" * 50, ""])
def test_a_queue_id_that_is_none_is_left_out(queue_id: str) -> None:
    assert read(text(queue_id=queue_id)).queue_id == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\n\n", "not one request"),
        (b"GET / HTTP/1.1\n\n", "not one request"),
        (b"request=other\n\n", "not one request"),
        (b"request=smtpd_access_policy\nrequest=smtpd_access_policy\n\n", "not one request"),
        (text(sender="x\0") + b"\n\n", "NUL"),
        (text(sender="x" * (LINE + 1)) + b"\n\n", "an attribute is longer"),
        (text(**{f"a{n}": "" for n in range(ATTRIBUTES)}) + b"\n\n", "more than"),
        (SENT + SENT, "more than one request"),
        (SENT + b"x", "more than one request"),
        (b"x" * (REQUEST + 1), "longer than"),
        (b"x=1\n" * (REQUEST // 4) + b"x\n\n", "longer than"),
    ],
)
def test_what_is_no_request(data: bytes, why: str) -> None:
    reader = Reader()
    with pytest.raises(RequestError, match=why):
        reader.feed(data)
    assert reader.feed(SENT) == REQUESTED


def test_the_longest_attribute() -> None:
    assert len(read(text(sender="x" * (LINE - len("sender=")), helo_name="y" * 4000)).sender) > 4000


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes(parts: list[bytes]) -> None:
    reader = Reader()
    for part in parts:
        try:
            found = reader.feed(part)
        except RequestError:
            continue
        assert found is None or isinstance(found, Request)
        assert len(reader._pending) <= REQUEST


@given(
    st.dictionaries(
        st.sampled_from(
            ("protocol_state", "client_address", "client_port", "sasl_username", "sender")
        ),
        st.text(st.characters(max_codepoint=255, exclude_characters="\n\0"), max_size=50),
    )
)
def test_any_values(values: dict[str, str]) -> None:
    found = Reader().feed(text(**values) + b"\n\n")
    assert found is not None
    assert found.user == values.get("sasl_username", "")
    made = event(found, 1.0)
    assert (made.kind, made.user, made.time) == ("policy_request", found.user, 1.0)


def test_a_long_login_is_the_same_as_in_the_log() -> None:
    login = "\xc3\xa9" * 300
    line = "Nov 22 10:00:00 mx postfix/smtpd[1]: 3A5C01F2B: client=x[203.0.113.7]"
    logged = Parser(UTC, 1e9).event(f"{line}, sasl_method=PLAIN, sasl_username={login}")
    asked = read(f"request=smtpd_access_policy\nsasl_username={login}".encode("latin-1"))
    assert logged is not None
    assert asked.user == logged.user


def test_the_event_of_a_request() -> None:
    made = event(REQUESTED, 7.0)
    assert made.message is not None
    assert (made.client, made.name, made.user) == ("203.0.113.7", "mx.example.net", "alice=x")
    assert (made.message.queue_id, made.message.recipients) == ("4jcT2p1kjCzKT37", 3)
    assert made.message.sender == "alice@example.test"
    assert event(read(text(client_name="unknown")), 7.0).name == ""


def test_an_answer() -> None:
    assert answer("DUNNO") == b"action=DUNNO\n\n"
    assert answer("sleep 3") == b"action=sleep 3\n\n"
