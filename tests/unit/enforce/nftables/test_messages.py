import itertools
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.enforce.nftables import messages
from throttled.enforce.nftables.messages import NftElement, SetDefinition
from throttled.linux import netlink
from throttled.linux.netlink import Message

YEARS = 3650 * 86_400_000

# What Linux 6.18 answered about sets that nft 1.0.6 had made and filled.
#: 198.18.0.3 comment "manually", .1 with 258 packets timeout 10m, .2 timeout 1m,
#: .4 timeout 2m comment "x"
BANS = bytes.fromhex(
    "840100000c0a0200000000002d0163f901002b260e0001007468726f74746c65640000000c0002006d785f62616e"
    "3400540103004c0001000c00010008000100c61200032c0007000c000100636f756e746572001c0002000c000100"
    "00000000000000000c00020000000000000000000e000600000862792068616e64000000540001000c0001000800"
    "0100c61200012c0007000c000100636f756e746572001c0002000c00010000000000000000010c00020000000000"
    "000001020c00040000000000000927c00c00050000000000000927bc540001000c00010008000100c61200022c00"
    "07000c000100636f756e746572001c0002000c00010000000000000000000c00020000000000000000000c000400"
    "000000000000ea600c000500000000000000ea5c5c0001000c00010008000100c61200042c0007000c000100636f"
    "756e746572001c0002000c00010000000000000000000c00020000000000000000000c000400000000000001d4c0"
    "0c000500000000000001d4bc0800060000027800"
)
#: 2001:db8::1 limit rate over 10/minute burst 5 packets counter timeout 1h
THROTTLES = bytes.fromhex(
    "e40000000c0a0200000000009e352ae801002b260e0001007468726f74746c6564000000110002006d785f746872"
    "6f74746c653600000000ac000300a8000100180001001400010020010db800000000000000000000000174000b00"
    "440001000a0001006c696d6974000000340002000c000100000000000000000a0c000200000000000000003c0800"
    "030000000005080004000000000008000500000000012c0001000c000100636f756e746572001c0002000c000100"
    "00000000000000000c00020000000000000000000c000400000000000036ee800c000500000000000036ee74"
)
#: `*`, in a set without counters
CATCH_ALL = bytes.fromhex(
    "540000000c0a02000000000073cfc2e301002b270e0001007468726f74746c656400000008000200616e79002800"
    "03002400010008000300000000020c000400000000000036ee800c000500000000000036ee80"
)
#: mx_ban4 of size 1000; mx_throttle6 of size 1000; `under`: no size, limit rate 10/minute
SETS = bytes.fromhex(
    "b8000000090a020000000000edf5ec9801002b260e0001007468726f74746c65640000000c0002006d785f62616e"
    "34000c00100000000000000000020800030000000010080004000000000708000500000000040a000d0000040200"
    "000000000c00090008000100000003e8170013003078666666666666666638323530376634300000080014000000"
    "00042c0011000c000100636f756e746572001c0002000c00010000000000000000000c0002000000000000000000"
    "08010000090a020000000000c7fa18bc01002b260e0001007468726f74746c6564000000110002006d785f746872"
    "6f74746c6536000000000c0010000000000000000003080003000000011008000400000000080800050000000010"
    "0a000d0000040200000000000c00090008000100000003e817001300307866666666666666663832353037663430"
    "0000080014000000000174001200440001000a0001006c696d6974000000340002000c000100000000000000000a"
    "0c000200000000000000003c0800030000000005080004000000000008000500000000012c0001000c000100636f"
    "756e746572001c0002000c00010000000000000000000c0002000000000000000000"
    "c0000000090a020000000000f685778001002b260e0001007468726f74746c65640000000a000200756e64657200"
    "00000c0010000000000000000005080004000000000708000500000000040a000d00000402000000000004000900"
    "1700130030786666666666666666383235303766343000000800140000000000440011000a0001006c696d697400"
    "0000340002000c000100000000000000000a0c000200000000000000003c08000300000000050800040000000000"
    "0800050000000000"
)
#: dropped, 7 packets 300 bytes
COUNTER = bytes.fromhex(
    "68000000120a000000000000d10106a701002b260e0001007468726f74746c65640000000c00020064726f707065"
    "640008000300000000010c000600000000000000000108000500000000001c0004000c000100000000000000012c"
    "0c0002000000000000000007"
)
#: no such element
ABSENT = bytes.fromhex("2400000002000001000000001af86ecffeffffff500000000d0a01000000000000000000")


def elements(data: bytes) -> list[NftElement]:
    reader = messages.ElementReader()
    return [each for message in netlink.messages(data) for each in reader.elements(message)]


def only(found: Iterable[Message]) -> Message:
    (message,) = found
    return message


def test_elements_with_a_counter() -> None:
    assert elements(BANS) == [
        NftElement(bytes([198, 18, 0, 3]), YEARS, 0),
        NftElement(bytes([198, 18, 0, 1]), 599_996, 258),
        NftElement(bytes([198, 18, 0, 2]), 59_996, 0),
        NftElement(bytes([198, 18, 0, 4]), 119_996, 0),
    ]


def test_elements_with_a_limit_and_a_counter() -> None:
    key = bytes.fromhex("20010db8000000000000000000000001")
    assert elements(THROTTLES) == [NftElement(key, 3_599_988, 0)]


def test_an_element_that_matches_everything_is_no_subject() -> None:
    assert elements(CATCH_ALL) == []


def test_one_reader_reads_elements_of_any_layout() -> None:
    for order in itertools.permutations((BANS, THROTTLES, CATCH_ALL, BANS)):
        apart = [each for data in order for each in elements(data)]
        assert elements(b"".join(order)) == apart


def test_an_element_of_the_same_length_but_another_layout() -> None:
    # 16 characters of comment take the place of timeout and expiration.
    (message,) = netlink.messages(BANS)
    first = BANS.index(bytes.fromhex("540001000c000100"))
    timed = BANS[first : first + 84]
    comment = struct.pack("=HH", 24, 6) + b"\0\x12sixteen of these\0\0"
    untimed = timed[:60] + comment
    head = message.data[:48]
    both = timed + untimed + timed
    length = struct.pack("=H", 4 + len(both))
    answer = head + length + b"\3\0" + both
    answer = struct.pack("=I", len(answer)) + answer[4:]
    assert [each.milliseconds for each in elements(answer)] == [599_996, YEARS, 599_996]


def test_definitions_of_sets() -> None:
    assert [messages.set_of(each) for each in netlink.messages(SETS)] == [
        ("mx_ban4", SetDefinition(1000, None, 4, 16)),
        ("mx_throttle6", SetDefinition(1000, (10, 60, 5), 16, 16)),
        ("under", SetDefinition(0, None, 4, 0)),
    ]


def test_how_many_elements_a_set_has() -> None:
    first, *rest = netlink.messages(SETS)
    assert messages.count_of(first) == 4
    assert [messages.count_of(each) for each in rest] == [1, 0]
    before_linux_6_16 = SETS[:184].replace(b"\x08\0\x14\0", b"\x08\0\x15\0")
    assert messages.count_of(only(netlink.messages(before_linux_6_16))) is None


def test_what_a_notification_is_about() -> None:
    elements, definition = next(netlink.messages(BANS)), next(netlink.messages(SETS))
    assert messages.set_name(elements) == messages.set_name(definition) == "mx_ban4"
    assert messages.is_of_elements(elements)
    assert not messages.is_of_elements(definition)
    assert not messages.is_of_table(definition)
    table = only(netlink.messages(struct.pack("=IHHII", 20, 0x0A02, 0, 0, 0) + b"\1\0\x12\x34"))
    assert messages.is_of_table(table)
    assert (messages.set_name(table), messages.body(table)) == ("", b"")


def test_a_counter() -> None:
    answer = only(netlink.messages(COUNTER))
    assert messages.packets_of(answer) == 7
    assert messages.counter_of(answer) == ("dropped", 7)


def test_an_error() -> None:
    message = only(netlink.messages(ABSENT))
    assert (message.kind, netlink.error(message)) == (netlink.ERROR, 2)


def test_a_message_shorter_than_its_header_ends() -> None:
    assert list(netlink.messages(bytes(64))) == []


def test_an_error_without_a_number_is_a_success() -> None:
    end = struct.pack("=IHHII", 16, netlink.DONE, 0, 0, 0)
    assert netlink.error(only(netlink.messages(end))) == 0


def test_which_table_a_notification_is_about() -> None:
    for data in (BANS, COUNTER):
        assert messages.table_of(only(netlink.messages(data))) == "throttled"
    generation = struct.pack("=IHHII", 28, 0x0A0F, 0, 0, 0) + b"\0\0\0\0" + b"\x08\0\1\0\0\0\0\1"
    assert messages.table_of(only(netlink.messages(generation))) == ""
    assert messages.table_of(only(netlink.messages(ABSENT))) == ""
    of_family_ip = COUNTER[:16] + b"\2" + COUNTER[17:]
    assert messages.table_of(only(netlink.messages(of_family_ip))) == ""


def test_the_port_of_who_did_it_and_the_number_of_the_request() -> None:
    first = next(netlink.messages(struct.pack("=IHHII", 16, 3, 0, 7, 4711)))
    assert (first.sequence, first.port) == (7, 4711)


@pytest.mark.parametrize("verb", [messages.add, messages.delete])
@given(
    st.lists(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), max_size=50),
    st.integers(1, 2**63),
)
def test_what_is_packed_is_read_back(
    verb: messages.Verb, keys: list[bytes], milliseconds: int
) -> None:
    packed = [messages.element(key, milliseconds) for key in keys]
    data = verb("throttled", "mx_ban4", packed, 9)
    message = only(netlink.messages(data))
    assert message.sequence == 9
    assert messages.table_of(message) == "throttled"
    assert elements(data) == [NftElement(key, milliseconds, 0) for key in keys]


def test_each_verb_is_another_request() -> None:
    packed = [messages.element(bytes(4), 1)]
    add, delete = (
        struct.unpack_from("=HH", verb("t", "s", packed, 1), 4)
        for verb in (messages.add, messages.delete)
    )
    assert add == (0x0A0C, 0x401)  # NEWSETELEM, REQUEST | CREATE
    assert delete == (0x0A0E, 0x1)


def test_questions() -> None:
    packed = messages.element(bytes(4), 1)
    kinds = {
        messages.get_element("t", "s", packed): (0x0A0D, 0x1),
        messages.dump_elements("t", "s"): (0x0A0D, 0x301),
        messages.dump_sets("t"): (0x0A0A, 0x301),
        messages.get_counter("t", "c"): (0x0A13, 0x1),
        messages.dump_counters("t"): (0x0A13, 0x301),
        messages.dump_static("t")[0]: (0x0A01, 0x301),
        messages.dump_static("t")[1]: (0x0A04, 0x301),
        messages.dump_static("t")[2]: (0x0A07, 0x301),
    }
    for data, kind in kinds.items():
        assert struct.unpack_from("=HH", data, 4) == kind
        assert messages.table_of(only(netlink.messages(data))) == "t"


def test_a_transaction_is_framed() -> None:
    inside = messages.dump_sets("t")
    begin, middle, end = netlink.messages(messages.transaction([inside]))
    assert (begin.kind, middle.kind, end.kind) == (0x10, 0x0A0A, 0x11)
    assert begin.data[begin.start : begin.end] == b"\0\0\0\x0a"  # NFNL_SUBSYS_NFTABLES


def test_a_time_that_cannot_be_written() -> None:
    with pytest.raises(OverflowError):
        messages.element(bytes(4), 2**64)


@given(st.binary(max_size=400) | st.sampled_from((BANS, THROTTLES, SETS, COUNTER)), st.data())
def test_garbage_ends(data: bytes, more: st.DataObject) -> None:
    at = more.draw(st.integers(0, len(data)))
    broken = data[:at] + more.draw(st.binary(max_size=8)) + data[at:]
    found = list(netlink.messages(broken))
    assert sum(16 for _ in found) <= len(broken)
    for message in found:
        netlink.error(message)
        messages.table_of(message)
