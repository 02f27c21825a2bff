"""Entries of the fleet on the wire."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.fleet import wire
from throttled.fleet.wire import Ban, Entry, Heartbeat, Names, Row, Seal, Unban, WireError

SEAL = Seal(b"s" * 32, "example", "mx1")
BAN = Ban("198.51.100.7", "mx", 3600, "errors", 1, 56, 50)


def _pack(*values: object) -> tuple[bytes, bytes]:
    data = msgspec.msgpack.encode(values)
    return data, SEAL.mac(data)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("ban", [BAN, Ban("2001:db8::/48", "submission", 60, "operator")]),
        ("unban", [Unban("198.51.100.7", "mx", 3600)]),
        ("names", [Names("198.51.100.7", "submission", [0, 7, (1 << 32) - 1])]),
        ("heartbeat", [Heartbeat("1.2.3", 7)]),
    ],
)
def test_an_entry_is_read_as_written(kind: str, rows: list[Row]) -> None:
    entry = Entry(12, 11, kind, rows, (1 << 32) - 1)
    assert wire.decode(SEAL, *wire.encode(SEAL, entry)) == entry


def test_a_ban_takes_about_48_bytes() -> None:
    data, mac = wire.encode(SEAL, Entry(1 << 50, 1 << 50, "ban", [BAN] * wire.ROWS))
    assert len(data) / wire.ROWS < 48
    assert len(mac) == 16
    assert len(data) < wire.BYTES


def test_the_longest_rows_fit_into_an_entry() -> None:
    row = Ban("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/128", "submission", 10**8, "l" * 40, 9, 2**52)
    assert len(wire.encode(SEAL, Entry(1, 0, "ban", [row] * wire.ROWS))[0]) <= wire.BYTES


@pytest.mark.parametrize(
    "other",
    [
        Seal(b"t" * 32, "example", "mx1"),
        Seal(b"s" * 32, "another", "mx1"),
        Seal(b"s" * 32, "example", "mx2"),
        Seal(b"s" * 32, "example\0", "mx1"),
    ],
)
def test_another_secret_site_or_peer_is_forged(other: Seal) -> None:
    with pytest.raises(WireError) as error:
        wire.decode(SEAL, *wire.encode(other, Entry(1, 0, "ban", [BAN])))
    assert error.value.outcome == "forged"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_forged(at: int, change: int) -> None:
    data, mac = wire.encode(SEAL, Entry(12, 11, "ban", [BAN]))
    whole = bytearray(data + mac)
    whole[at % len(whole)] ^= change
    with pytest.raises(WireError) as error:
        wire.decode(SEAL, bytes(whole[: len(data)]), bytes(whole[len(data) :]))
    assert error.value.outcome == "forged"


@pytest.mark.parametrize(
    "values",
    [
        (),
        (1, 1, 1),
        (0, 1, 1, 0, "ban", [BAN]),
        (1, 1, -1, 0, "ban", [BAN]),
        (1, 1, 1 << 63, 0, "ban", [BAN]),
        (1, 1, 1, 0, "ban", []),
        (1, 1, 1, 0, "ban", [BAN] * 501),
        (1, 1, 1, 0, "ban", 7),
        (1, 1, 1, 0, "ban", [("198.51.100.7", "mx")]),
        (1, 1, 1, 0, "ban", [("198.51.100.7", "nowhere", 60, "errors")]),
        (1, 1, 1, 0, "ban", [("198.51.100.7", "mx", -1, "errors")]),
        (1, 1, 1, 0, "ban", [("198.51.100.7", "mx", 1 << 60, "errors")]),
        (1, 1, 1, 0, "ban", [("198.51.100.7", "mx", 60, "not a name\n")]),
        (1, 1, 1, 0, "ban", [("x" * 44, "mx", 60, "errors")]),
        (1, 1, 1, 0, "names", [("198.51.100.7", "mx", [])]),
        (1, 1, 1, 0, "names", [("198.51.100.7", "mx", [1 << 32])]),
        (1, 1, 1, 0, "names", [("198.51.100.7", "mx", ["root"])]),
        (1, 1, 1, 0, "names", [("198.51.100.7", "mx", [1] * 1001)]),
        (1, 1, 1, 0, "heartbeat", [("\x1b[2J",)]),
        (1, 1, 1, 0, "k" * 41, []),
    ],
)
def test_what_is_no_entry_is_malformed(values: Sequence[object]) -> None:
    with pytest.raises(WireError) as error:
        wire.decode(SEAL, *_pack(*values))
    assert error.value.outcome == "malformed"


def test_too_much_is_malformed_before_it_is_hashed() -> None:
    with pytest.raises(WireError) as error:
        wire.decode(SEAL, b"\0" * (wire.BYTES + 1), b"")
    assert error.value.outcome == "malformed"


@given(st.binary(max_size=200))
def test_any_bytes_with_a_right_mac_are_an_entry_or_malformed(data: bytes) -> None:
    outcome = "malformed"
    try:
        wire.decode(SEAL, data, SEAL.mac(data))
    except WireError as error:
        outcome = error.outcome
    assert outcome == "malformed"


def test_newer_versions_kinds_and_fields_are_passed_over() -> None:
    assert wire.decode(SEAL, *_pack(2, 9, 5, 4, "ban", 7, 0, "more")).rows == ()
    assert wire.decode(SEAL, *_pack(1, 1, 5, 4, "later", [1])) == Entry(5, 4, "later", ())
    longer = _pack(1, 1, 5, 4, "unban", [("198.51.100.7", "mx", 0, "more")], 9, "more")
    assert wire.decode(SEAL, *longer).rows == [Unban("198.51.100.7", "mx")]
    assert wire.decode(SEAL, *longer).writer == 9


def test_numbers_grow_also_where_the_clock_does_not() -> None:
    assert wire.number_after(0, 1.5) == 1_500_000
    assert wire.number_after(1_500_000, 1.5) == 1_500_001
    assert wire.number_after(1_500_000, 1.0) == 1_500_001


def test_keys() -> None:
    assert wire.stream("example", "mx1") == "throttled:example:log:mx1"
    assert wire.roster("example") == "throttled:example:peers"


def test_names_of_hosts() -> None:
    assert wire.is_name("mx1.example_2-x")
    assert not any(wire.is_name(n) for n in ("", ".mx", "a:b", "a\n", "x" * 64, "\x00", "a/b"))


def test_stream_ids_are_numbers() -> None:
    assert wire.place("9-10") < wire.place("10-9")
    for text in ("", "1", "1-", "-1", "1-1-1", "x-1", "1-²", "1" * 21 + "-0"):
        with pytest.raises(WireError):
            wire.place(text)


@pytest.mark.parametrize(
    ("seconds", "added", "server", "left"),
    [
        (60, 5_000, 5_000, 60.0),
        (60, 5_000, 15_000, 50.0),
        (60, 5_000, 95_000, 0.0),
        (60, 95_000, 5_000, 60.0),  # an id of the future does not lengthen it
        (900, 5_000, 5_000, 100.0),
    ],
)
def test_only_the_servers_clock_counts(seconds: int, added: int, server: int, left: float) -> None:
    assert wire.seconds_left(seconds, server - added, 100.0) == left


def test_a_number_that_no_clock_can_have_is_malformed() -> None:
    """A clock may be wrong by decades: that of the host, or that of the Redis server."""
    now, years = 1_700_000_000.0, 366 * 86400
    for wall in (now, now + 90 * years):
        packed = wire.encode(SEAL, Entry(int(wall * 1e6), 0, "ban", [BAN]))
        assert wire.read(SEAL, *packed, now).rows == [BAN]
        assert wire.read(SEAL, *packed, wall - 99 * years).rows == [BAN]
    for number in (int((now + 101 * years) * 1e6), (1 << 63) - 1):
        with pytest.raises(WireError, match="more than 100 years ahead") as error:
            wire.read(SEAL, *wire.encode(SEAL, Entry(number, 0, "ban", [BAN])), now)
        assert error.value.outcome == "malformed"
