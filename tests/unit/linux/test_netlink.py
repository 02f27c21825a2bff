import struct

from hypothesis import given
from hypothesis import strategies as st

from throttled.linux import netlink


def test_a_request() -> None:
    packed = netlink.message(0x0A01, netlink.DUMP, b"body", 7)
    assert struct.unpack_from("=IHHII", packed) == (20, 0x0A01, 0x301, 7, 0)
    (found,) = netlink.messages(packed)
    assert found[:3] == (0x0A01, 7, 0)
    assert found.data[found.start : found.end] == b"body"


def test_several_messages_each_padded() -> None:
    first = netlink.message(1, 0, b"odd") + b"\0"
    found = list(netlink.messages(first + netlink.message(2, 0, b"")))
    assert [(each.kind, each.end - each.start) for each in found] == [(1, 3), (2, 0)]


def test_a_message_shorter_than_its_header_ends() -> None:
    assert list(netlink.messages(bytes(64))) == []


def test_an_error_without_a_number_is_a_success() -> None:
    refused = netlink.message(netlink.ERROR, 0, struct.pack("=i", -2))
    done = netlink.message(netlink.DONE, 0, b"")
    assert [netlink.error(each) for each in netlink.messages(refused + done)] == [2, 0]


def test_attributes() -> None:
    data = netlink.text(2, "set") + netlink.attribute(3 | netlink.BIG_ENDIAN, b"\0\1\0\0")
    found = netlink.attributes(data, 0, len(data))
    assert netlink.string(data, found, 2) == "set"
    assert netlink.number(data, found, 3) == 65536
    assert (netlink.string(data, found, 9), netlink.number(data, found, 9)) == ("", 0)


def test_a_list() -> None:
    inside = netlink.attribute(1, b"a") + netlink.attribute(1, b"four")
    assert [inside[a:b] for a, b in netlink.items(inside, (0, len(inside)))] == [b"a", b"four"]
    assert list(netlink.items(inside, None)) == []


@given(st.binary(max_size=200))
def test_garbage_ends(data: bytes) -> None:
    netlink.attributes(data, 0, len(data))
    assert len(list(netlink.items(data, (0, len(data))))) <= len(data)
    for each in netlink.messages(data):
        netlink.error(each)
