"""The control protocol: everything round-trips, and any bytes are a request or a UsageError."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.control import protocol
from throttled.control.protocol import (
    MAX_REQUEST,
    AddHost,
    Allow,
    Allowed,
    AllowedResult,
    AllowRow,
    Audit,
    Ban,
    ChangeResult,
    Disallow,
    Done,
    Entered,
    Explain,
    ExplainResult,
    Failed,
    Import,
    List,
    ListResult,
    LogText,
    MeterRow,
    Ok,
    Ping,
    Reload,
    Request,
    Resolve,
    Result,
    Status,
    StatusResult,
    TailStatus,
    Throttle,
    Unban,
    UnbanAll,
)
from throttled.errors import RefusedError, ThrottledError, UsageError
from throttled.model import Decision, Line, Past, Problem, Snapshot

REQUESTS: list[Request] = [
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
        health=[Problem("warning", "what", "hint")],
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
    line = protocol.encode(request_)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert protocol.decode_request(line) == request_


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: type(r).__name__)
def test_results_round_trip(result: Result) -> None:
    assert protocol.decode_reply(protocol.encode(Ok(result))) == result


def test_a_failure_is_raised_with_its_hint_and_exit_code() -> None:
    with pytest.raises(ThrottledError, match="no such thing") as caught:
        protocol.decode_reply(protocol.encode(Failed("no such thing", "try another", 3)))
    assert caught.value.hint == "try another"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "line", [b"", b"{}\n", b'{"reply":"ok"}', b'{"reply":"ok","result":"\xff"}']
)
def test_an_unreadable_reply_is_an_error_with_a_hint(line: bytes) -> None:
    with pytest.raises(ThrottledError, match="cannot be read") as caught:
        protocol.decode_reply(line)
    assert caught.value.hint


def test_subjects_are_canonical() -> None:
    assert protocol.decode_request(b'{"op":"explain","subject":"::ffff:192.0.2.7"}') == Explain(
        "192.0.2.7"
    )
    assert protocol.decode_request(b'{"op":"unban","subject":" 192.0.2.7/24 "}') == Unban(
        "192.0.2.0/24"
    )
    assert protocol.decode_request(b'{"op":"list","within":"2001:DB8::/64"}') == List(
        within="2001:db8::/64"
    )
    assert protocol.decode_request(b'{"op":"allow","what":"Mail.Example.COM"}') == Allow(
        "mail.example.com"
    )
    assert protocol.decode_request(b'{"op":"disallow","what":"192.0.2.7/32"}') == Disallow(
        "192.0.2.7"
    )


def test_words_of_an_operator_can_stand_in_a_log() -> None:
    for line in (
        b'{"op":"ban","subject":"192.0.2.7","why":"a\\nb\\u001b\\u202e "}',
        b'{"op":"throttle","subject":"192.0.2.7","why":"a\\nb"}',
        b'{"op":"allow","what":"192.0.2.7","note":"a\\u2028b"}',
    ):
        request = protocol.decode_request(line)
        assert isinstance(request, Ban | Throttle | Allow)
        assert (request.note if isinstance(request, Allow) else request.why) == "a b"


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
        protocol.decode_request(line)


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "10.0.0.0/15", "2001:db8::/31", "::/0"])
@pytest.mark.parametrize("op", ["ban", "throttle", "allow"])
def test_a_wide_network_is_refused_without_force(op: str, wide: str) -> None:
    message = {"op": op, "what" if op == "allow" else "subject": wide}
    with pytest.raises(RefusedError) as caught:
        protocol.decode_request(json.dumps(message).encode())
    assert "--force" in caught.value.hint
    assert protocol.decode_request(json.dumps({**message, "force": True}).encode())


@pytest.mark.parametrize("narrow", ["10.0.0.0/16", "2001:db8::/32", "192.0.2.7", "2001:db8::1"])
def test_the_floor_itself_and_addresses_are_not_refused(narrow: str) -> None:
    protocol.refuse_wide(narrow, force=False)


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


@given(
    st.one_of(
        st.binary(max_size=300),
        st.dictionaries(_KEYS, _VALUES).map(lambda d: json.dumps(d).encode()),
    )
)
def test_any_bytes_are_a_request_or_a_usage_error(line: bytes) -> None:
    try:
        request = protocol.decode_request(line)
    except (UsageError, RefusedError):
        return
    assert protocol.decode_request(protocol.encode(request)) == request


@given(st.binary(max_size=300))
def test_any_bytes_are_a_result_or_an_error(line: bytes) -> None:
    with pytest.raises(ThrottledError):
        protocol.decode_reply(line)


@given(st.text(_LATIN, max_size=80))
def test_allowable_is_idempotent_or_refuses(text: str) -> None:
    try:
        what = protocol.allowable(text)
    except UsageError:
        return
    assert protocol.allowable(what) == what


def test_a_list_is_canonical_and_of_a_long_one_only_the_beginning_is_told() -> None:
    entries = [Entered("2001:DB8::1", "ban", why="a\nb"), Entered("Example.COM", "allow")] * 3
    request = protocol.decode_request(protocol.encode(Import(entries)))
    assert isinstance(request, Import)
    assert request.entries[:2] == [
        Entered("2001:db8::1", "ban", why="a b"),
        Entered("example.com", "allow"),
    ]
    assert protocol.summary(request).count("subject") == 3
    assert protocol.summary(protocol.Purge()) == '{"op":"purge"}'
    for wide in (Entered("0.0.0.0/0", "allow"), Entered("198.0.0.0/8", "ban")):
        with pytest.raises(RefusedError):
            protocol.decode_request(protocol.encode(Import([wide])))
        protocol.decode_request(protocol.encode(Import([wide], force=True)))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("autj", "did you mean auth? limits: auth, errors, network, operator, ladder, adopted"),
        ("xyz", "limits: auth, errors, network, operator, ladder, adopted"),
    ],
)
def test_the_name_of_a_limit_that_there_is_not(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        protocol.refuse_unknown_limit(name, ["errors", "auth"])
    assert caught.value.hint == hint
    protocol.refuse_unknown_limit("operator", [])


def test_a_host_and_its_addresses_are_made_canonical() -> None:
    request = protocol.decode_request(
        b'{"op":"resolve","what":"Mail.Example.COM","addresses":["2001:DB8:0::1"],"note":"a\\nb"}'
    )
    assert request == Resolve("mail.example.com", ["2001:db8::1"], None, "a b")


@pytest.mark.parametrize(
    ("what", "addresses"),
    [
        (".example.com", ["192.0.2.7"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("example.com", ["192.0.2.0/24"]),
        ("example.com", ["nonsense"]),
        ("example.com", []),
        ("example.com", ["192.0.2.7"] * 65),
    ],
)
def test_what_is_no_host_or_none_of_its_addresses(what: str, addresses: list[str]) -> None:
    line = json.dumps({"op": "resolve", "what": what, "addresses": addresses}).encode()
    with pytest.raises(UsageError):
        protocol.decode_request(line)


def test_what_became_of_a_host() -> None:
    asked = Resolve("example.com", ["192.0.2.7"])
    whole = "example.com is allowed by its addresses in DNS (1)"
    assert protocol.resolved(asked, [], []) == whole
    assert protocol.resolved(asked, ["192.0.2.7"], ["192.0.2.8"]) == (
        f"{whole}; added: 192.0.2.7; removed: 192.0.2.8"
    )
