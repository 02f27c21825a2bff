"""Lines on the control socket: all round-trip, and any bytes are a request or a UsageError."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled.control import wire
from throttled.control.bulk import UnbanMany
from throttled.control.fields import Part
from throttled.control.requests import (
    MAX_REQUEST,
    AddHost,
    Allow,
    Allowed,
    Audit,
    Ban,
    Disallow,
    Entered,
    Explain,
    Find,
    Import,
    List,
    Ping,
    Purge,
    Reload,
    Request,
    Resolve,
    Status,
    Throttle,
    Unban,
    UnbanAll,
)
from throttled.control.results import (
    AllowedResult,
    AllowRow,
    ChangeResult,
    Done,
    ExplainResult,
    ListResult,
    LogText,
    MeterRow,
    Result,
    StatusResult,
    TailStatus,
)
from throttled.control.wire import Failed, Ok
from throttled.errors import RefusedError, ThrottledError, UsageError
from throttled.model import Decision, Finding, Line, Past, Snapshot

REQUESTS: list[Request] = [
    UnbanMany(["198.51.100.7"], exempt=60.0, part=Part("0123456789", 1, last=True)),
    Ping(),
    Status(),
    List(),
    List("mx", "ban", "198.51.100.0/24", "auth", "packets", 5),
    Explain("198.51.100.7"),
    Ban("198.51.100.7"),
    Ban("198.51.100.0/24", "submission", 3600.0, "asked by the postmaster", force=True),
    Throttle("2001:db8::/64"),
    Unban("198.51.100.7", exempt=60.0),
    UnbanAll("mx"),
    Allow(".example.com", 60.0, "a partner"),
    Allow("2001:db8::1"),
    Resolve("mail.example.com", ["192.0.2.7", "2001:db8::1"], 60.0, "a probe"),
    Disallow("198.51.100.0/24"),
    Allowed(),
    Audit("192.0.2.7", 60.0, 5),
    Import([Entered("192.0.2.7", "ban", "mx", 60.0, "why"), Entered(".example.com", "allow")]),
    Reload(),
    AddHost("mx.example.net"),
]

SNAPSHOT = Snapshot("198.51.100.7", "mx", "ban", "auth", 1, 1.0, 2.0, "why", 7, (Line(1, 2),))

RESULTS: list[Result] = [
    Done("reloaded"),
    StatusResult(
        version="1",
        backend="nftables",
        mode="enforce",
        pid=1,
        started=1.0,
        uptime=2.0,
        tails=[TailStatus("/var/log/mail.log", True, 0, 1, 0.5, 3.0, ["slow"])],
        clients=1,
        max_clients=2,
        throttled={"mx": 1},
        banned={"submission": 2},
        packets_dropped=3,
        desired=3,
        enforced=3,
        counted=True,
        health=[Finding("warning", "what", "hint")],
        events={"connect": 1},
        lines=1,
        lines_lost=0,
        errors=0,
    ),
    ListResult([SNAPSHOT], 1),
    ExplainResult(
        subject="198.51.100.7",
        network="198.51.100.0/24",
        protected="",
        active=[SNAPSHOT],
        meters=[MeterRow("auth", "mx", 1, 10, None, 600.0)],
        sessions=1,
        lines=[LogText(1.0, "/var/log/mail.log", 5, "caf\xe9\x1b")],
        decisions=[Decision(1.0, "ban", "198.51.100.7", "mx", "auth", 1, 2.0, "why")],
        past=Past(offences=1, action="ban"),
        allowed=[AllowRow("198.51.100.7", 1.0, None, "note")],
        next="nothing",
    ),
    ChangeResult([SNAPSHOT], confirmed=True, message="done"),
    AllowedResult([AllowRow("198.51.100.7", 1.0, 2.0)]),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r).__name__)
def test_requests_round_trip_on_one_line(request_: Request) -> None:
    line = wire.encode(request_)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert wire.decode_request(line) == request_


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: type(r).__name__)
def test_results_round_trip(result: Result) -> None:
    assert wire.decode_reply(wire.encode(Ok(result))) == result


def test_a_failure_is_raised_with_its_hint_and_exit_code() -> None:
    with pytest.raises(ThrottledError, match="no such thing") as caught:
        wire.decode_reply(wire.encode(Failed("no such thing", "try another", 3)))
    assert caught.value.hint == "try another"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "line", [b"", b"{}\n", b'{"reply":"ok"}', b'{"reply":"ok","result":"\xff"}']
)
def test_an_unreadable_reply_is_an_error_with_a_hint(line: bytes) -> None:
    with pytest.raises(ThrottledError, match="cannot be read") as caught:
        wire.decode_reply(line)
    assert caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        b'{"op":"nothing"}',
        b'{"op":"ping","more":1}',
        b'{"op":"ban","subject":"192.0.2.300"}',
        b'{"op":"ban","subject":"192.0.2.7","seconds":0}',
        b'{"op":"ban","subject":"192.0.2.7","seconds":1e300}',
        b'{"op":"ban","subject":"192.0.2.7","scope":"imap"}',
        b'{"op":"ban","subject":"\xff"}',
        b'{"op":"allow","what":".com"}',
        b'{"op":"allow","what":"192.0.2"}',
        b'{"op":"allow","what":"exa mple.com"}',
        b'{"op":"list","max":0}',
        b'{"op":"list","max":100000}',
        b'{"a":' * 10_000,
        b"[" * 60_000,
        b" " * (MAX_REQUEST + 1),
    ],
)
def test_what_is_no_request_is_a_usage_error(line: bytes) -> None:
    with pytest.raises(UsageError):
        wire.decode_request(line)


#: Without Hypothesis's table of all of Unicode, which takes seconds to build.
_LATIN = st.integers(0, 0x250).map(chr)
_KEYS = st.sampled_from(
    ["op", "subject", "what", "scope", "seconds", "max", "within", "force", "x"]
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(_LATIN, max_size=20),
    st.sampled_from(
        ["ban", "allow", "list", "explain", "unban", "mx", "192.0.2.7", "2001:db8::/31", ".b.de"]
    ),
)
#: Most of them are requests.
_REQUESTS = st.fixed_dictionaries(
    {"op": st.sampled_from(["ban", "throttle", "unban", "explain", "list", "status"])},
    optional={
        "subject": st.sampled_from(["192.0.2.7", " 2001:DB8::1", "192.0.2.9/24", "::/31", "x"]),
        "scope": st.sampled_from(["mx", "submission", None, "x"]),
        "seconds": st.floats(-1, 1e9) | st.none(),
        "force": st.booleans(),
    },
)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.dictionaries(_KEYS, _VALUES).map(lambda d: json.dumps(d).encode()),
        _REQUESTS.map(lambda d: json.dumps(d).encode()),
    )
)
@example(b'{"op":"explain","subject":"192.0.2.7"}')
def test_any_bytes_are_a_request_or_a_usage_error(line: bytes) -> None:
    try:
        request = wire.decode_request(line)
    except (UsageError, RefusedError):
        return
    assert wire.decode_request(wire.encode(request)) == request


@given(st.binary(max_size=300))
def test_any_bytes_are_a_result_or_an_error(line: bytes) -> None:
    with pytest.raises(ThrottledError):
        wire.decode_reply(line)


def test_of_a_long_list_the_beginning_is_recorded() -> None:
    request = Import([Entered("2001:db8::1", "ban"), Entered("example.com", "allow")] * 3)
    assert wire.summary(request).count("subject") == 3
    assert wire.summary(Purge()) == '{"op":"purge"}'


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Find("e"), "text: must have at least 2 characters"),
        (Ban("192.0.2.7", why="x" * 501), "why: must have at most 500 characters"),
        (List(limit="x" * 501), "limit: must have at most 500 characters"),
    ],
    ids=["find", "why", "limit"],
)
def test_a_length_is_what_people_wrote_and_no_other_version(
    request_: Request, message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{message}$") as caught:
        wire.decode_request(wire.encode(request_))
    assert not caught.value.hint


def test_the_summary_of_many() -> None:
    assert wire.summary(UnbanMany(["198.51.100.7"] * 9)).count("198.51.100.7") == 3
    part = Part("0123456789", 1, last=True)
    assert wire.summary(UnbanMany(["198.51.100.7"] * 9, part=part)).count("198.51.100.7") == 1
    entries = [Entered("198.51.100.7", "ban", why="x" * 500)] * 9
    assert len(wire.summary(Import(entries, part=part))) < 300
