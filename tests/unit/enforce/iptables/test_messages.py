"""Layouts are held against the kernel in tests/contract and tests/kernel; here against bytes."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from throttled.enforce.iptables import messages
from throttled.enforce.iptables.messages import IpsetDefinition
from throttled.linux.netlink import Message


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def answer(body: bytes) -> Message:
    data = b"\2\0\0\0" + body  # after nfgenmsg
    return Message(0x0607, 0, 0, data, 0, len(data))


def stored(key: bytes, seconds: int | None, packets: int, *, prefix: int | None = None) -> bytes:
    """Return an element as the kernel writes it."""
    return attribute(
        0x8007,
        attribute(0x8001, attribute(0x4001 if len(key) == 4 else 0x4002, key))
        + (b"" if prefix is None else attribute(3, bytes((prefix,))))
        + (b"" if seconds is None else attribute(0x4006, seconds.to_bytes(4)))
        + attribute(24, bytes(8))
        + attribute(25, packets.to_bytes(8)),
    )


def test_an_address_to_be_added() -> None:
    packed = messages.element(bytes((198, 18, 0, 1)), 0, 60, 7)
    assert packed == (
        b"\x20\0\x07\x80"
        b"\x0c\0\x01\x80\x08\0\x01\x40\xc6\x12\x00\x01"
        b"\x08\0\x06\x40\0\0\0\x3c"
        b"\x08\0\x09\0" + struct.pack("=I", 7)
    )  # fmt: skip
    whole = messages.add("s", [packed, packed])
    length, kind, flags, sequence, port = struct.unpack_from("=IHHII", whole)
    assert (length, kind, flags, sequence, port) == (len(whole), 0x0609, 5, 0, 0)
    assert whole.endswith(packed + packed)
    assert messages.delete("s", [packed])[4:6] == b"\x0a\x06"


def test_the_elements_of_a_subject() -> None:
    assert messages.parts(bytes(4), 0) == ((bytes(4), 1), (b"\x80\0\0\0", 1))
    assert messages.parts(b"\xc6\x12\0\0", 24) == ((b"\xc6\x12\0\0", 24),)
    assert messages.parts(bytes(16), 128) == ((bytes(16), 0),)


def test_a_network_to_be_tested() -> None:
    packed = messages.element(bytes(16), 48, 0, 0)
    assert b"\x05\0\x03\0\x30\0\0\0" in packed
    assert b"\x06\x40" not in packed
    assert messages.test("s", packed, 3)[4:6] == b"\x0b\x06"


def test_sets() -> None:
    made = messages.create("s", IpsetDefinition("hash:net", 6, 1000, 600))
    assert b"hash:net\0" in made
    assert attribute(0x4013, (1000).to_bytes(4)) in made
    assert attribute(0x4006, (600).to_bytes(4)) in made
    stays = messages.create("s", IpsetDefinition("hash:ip", 4, 64, 0))
    assert attribute(4, b"\1") in stays
    assert attribute(20, b"\x18") in messages.create("s", IpsetDefinition("hash:ip", 4, 64, 0), 24)
    assert attribute(20, b"\x18") not in stays
    assert b"\x06\x40" not in stays
    assert attribute(3, b"b\0") in messages.swap("a", "b")
    assert messages.destroy("a")[4:6] == b"\x03\x06"
    assert messages.dump("a")[6:8] == b"\x01\x03"
    assert attribute(0x4006, (4).to_bytes(4)) in messages.headers()
    assert attribute(2, b"a\0") + attribute(0x4006, (4).to_bytes(4)) in messages.header("a")


def test_an_error_names_its_element() -> None:
    sent = messages.add("s", [messages.element(bytes(4), 0, 1, 0)] * 300)
    repeated = sent.replace(attribute(9, bytes(4)), attribute(9, struct.pack("=I", 41)), 1)
    data = struct.pack("=i", -4352) + repeated
    assert messages.line_of(Message(2, 0, 0, data, 0, len(data))) == 41
    assert messages.line_of(Message(2, 0, 0, data[:24], 0, 24)) == -1


def test_reasons() -> None:
    assert messages.reason(messages.FULL) == "the set is full"
    assert messages.reason(4999) == "ip_set error 4999"
    assert messages.reason(2) == ""


def test_a_header() -> None:
    inner = attribute(0x4013, (1000).to_bytes(4)) + attribute(0x4006, (600).to_bytes(4))
    inner += attribute(0x4018, (3).to_bytes(4)) + attribute(0x4019, (2).to_bytes(4))
    named = attribute(2, b"s\0") + attribute(3, b"hash:ip\0") + attribute(5, b"\x02")
    header = messages.header_of(answer(named + attribute(0x8007, inner)))
    assert header == ("s", ("hash:ip", 4, 1000, 600), 3, 2)
    assert messages.header_of(answer(attribute(2, b"s\0"))) is None


@given(
    st.lists(
        st.tuples(st.binary(min_size=4, max_size=4), st.integers(1, 2**31), st.integers(0, 2**60))
    )
)
def test_elements_of_a_dump(wanted: list[tuple[bytes, int, int]]) -> None:
    body = attribute(0x8008, b"".join(stored(*each) for each in wanted))
    message = answer(attribute(2, b"s\0") + body)
    spans = list(messages.elements(message))
    found = [messages.read(message.data, *span) for span in spans]
    assert [(parsed.key, parsed.seconds, parsed.packets) for parsed in found] == wanted
    assert {parsed.prefix for parsed in found} <= {32}
    assert [messages.key_of(message.data, span[0], 4) for span in spans] == [w[0] for w in wanted]


def test_a_network_that_stays() -> None:
    message = answer(attribute(0x8008, stored(bytes(16), None, 5, prefix=64)))
    ((start, end),) = messages.elements(message)
    assert messages.read(message.data, start, end) == (bytes(16), 64, 0, 5)
    assert messages.key_of(message.data, start, 16) == bytes(16)
    assert list(messages.elements(answer(b""))) == []
