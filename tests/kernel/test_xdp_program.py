"""The XDP program, packet by packet, without a wire (BPF_PROG_TEST_RUN)."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.daemon.guarded import RULESET
from lab.machine.bpffs import bpffs
from lab.network.netns import CLIENT6, SERVER4, SERVER6, pair
from lab.network.packets import (
    ACK,
    AUTHENTICATION,
    DESTINATION,
    DOT1AD,
    DOT1Q,
    ESP,
    FRAGMENT,
    HOP_BY_HOP,
    PSH,
    ROUTING,
    SYN,
    UDP,
    ethernet,
    extension,
    ip4,
    ip6,
    tcp,
)
from lab.programs.bpf_runs import run
from throttled.bpf.libbpf import Program
from throttled.enforce.xdp.backend import Xdp
from throttled.model import Entry

pytestmark = pytest.mark.root

DROP, PASS = 1, 2
BAD4, BAD6 = "198.18.0.1", "2001:db8:b::1"
GOOD4 = "198.18.0.2"
SLOW4, SLOW6 = "198.18.0.3", "2001:db8:b::3"
PASSED_BY = "203.0.113.9"  # not this host


class Guarded(NamedTuple):
    """A guarded host's program."""

    backend: Xdp
    frames: Program
    packets: Program

    def verdict(self, frame: bytes) -> int:
        return run(self.frames, frame)[0]

    def drops(self, packet: bytes) -> bool:
        """Return what becomes of an IP packet in a plain frame."""
        return self.verdict(ethernet(packet)) == DROP


@pytest.fixture(scope="module")
def program() -> Iterator[Guarded]:
    """Ban BAD4 and BAD6 on port 25, and nobody else."""
    with bpffs() as mounted, pair() as (server, _client), server.entered():
        backend = Xdp(pins=mounted / "throttled")
        backend.setup(RULESET)
        backend.apply([Entry(each, "mx", "ban", 600.0) for each in (BAD4, BAD6)])
        programs = backend._programs
        yield Guarded(backend, programs["ethernet"], programs["internet"])
        backend.teardown()


def four(source: str = BAD4, target: str = SERVER4, port: int = 25, flags: int = SYN) -> bytes:
    return ip4(source, target, tcp(port, flags))


def six(*extensions: bytes, source: str = BAD6, port: int = 25) -> bytes:
    return ip6(source, SERVER6, tcp(port), extensions)


# What is dropped, in every wrapping

OPTIONS = bytes([7, 39, 4]) + bytes(37)  # record route: the most that fits
MANY = [extension(DESTINATION) for _ in range(9)]
EVERY = (HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION, DESTINATION)


@pytest.mark.parametrize("tags", [(), (DOT1Q,), (DOT1AD,), (DOT1AD, DOT1Q), (DOT1Q, DOT1Q)])
@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(four(), id="IPv4"),
        pytest.param(four(flags=ACK | PSH), id="an open session"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), options=OPTIONS[:4]), id="an option"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), options=OPTIONS), id="all options"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), fragment=0x2000), id="the first fragment"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), fragment=0x4000), id="do not fragment"),
        pytest.param(ip4(BAD4, SERVER4, tcp(options=bytes(40)) + bytes(1000)), id="with data"),
        pytest.param(six(), id="IPv6"),
        pytest.param(six(extension(FRAGMENT)), id="the first fragment of IPv6"),
        pytest.param(six(*(extension(kind, size=16) for kind in EVERY)), id="extensions"),
        pytest.param(six(extension(HOP_BY_HOP, size=256), extension(FRAGMENT)), id="a long one"),
        pytest.param(six(extension(AUTHENTICATION, size=28)), id="authentication header"),
        *(
            pytest.param(six(*[extension(kind)] * count), id=f"{count} extensions of {kind}")
            for kind in (DESTINATION, ROUTING)
            for count in (8, 9, 60, 170)
        ),
        pytest.param(ip6(BAD6, SERVER6, b"", [extension(DESTINATION)]), id="no room for TCP"),
        pytest.param(
            ip6(BAD6, SERVER6, b"", [extension(FRAGMENT, more=True)], last=DESTINATION),
            id="a first fragment whose headers go on in the next one",
        ),
    ],
)
def test_a_banned_client_is_found(program: Guarded, packet: bytes, tags: tuple[int, ...]) -> None:
    before = program.backend.dropped()
    assert program.verdict(ethernet(packet, tags)) == DROP
    assert program.backend.dropped() == before + 1


def test_without_a_link_layer(program: Guarded) -> None:
    for packet in (four(), six(), six(extension(FRAGMENT))):
        assert run(program.packets, packet)[0] == DROP
    for packet in (four(GOOD4), six(source="2001:db8:b::2"), ethernet(four())):
        assert run(program.packets, packet)[0] == PASS


# What is passed


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(four(GOOD4), id="somebody else"),
        pytest.param(six(source="2001:db8:b::2"), id="somebody else in IPv6"),
        pytest.param(four(port=26), id="another port"),
        pytest.param(four(port=587), id="another scope"),
        pytest.param(four(target=PASSED_BY), id="to somebody else"),
        pytest.param(ip6(BAD6, "2001:db8:c::1", tcp()), id="to somebody else in IPv6"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), protocol=UDP), id="UDP"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), fragment=1), id="a later fragment"),
        pytest.param(ip4(BAD4, SERVER4, tcp(), fragment=0x2001), id="one in the middle"),
        pytest.param(six(extension(FRAGMENT, offset=1)), id="a later fragment of IPv6"),
        pytest.param(six(extension(FRAGMENT, offset=0x1FE0)), id="a far one"),
        pytest.param(six(*MANY, source="2001:db8:b::2"), id="somebody else behind nine"),
        pytest.param(ip6(BAD6, "2001:db8:c::1", tcp(), MANY), id="to somebody else behind nine"),
        pytest.param(ip6(BAD6, SERVER6, b"", last=UDP), id="no room for UDP"),
        pytest.param(six(*MANY, source=CLIENT6), id="protected, behind nine"),
        pytest.param(six(extension(ESP)), id="encrypted"),
        pytest.param(ip6(BAD6, SERVER6, tcp(), last=59), id="no next header"),
        pytest.param(b"\x45" + bytes(40), id="zeros"),
        pytest.param(b"\x44" + four()[1:], id="a header that is too short"),
        pytest.param(b"\x55" + four()[1:], id="version 5"),
        pytest.param(b"\x75" + six()[1:], id="version 7"),
    ],
)
def test_what_is_passed(program: Guarded, packet: bytes) -> None:
    assert not program.drops(packet)


def test_more_tags_than_two(program: Guarded) -> None:
    assert program.verdict(ethernet(four(), (DOT1AD, DOT1Q, DOT1Q))) == PASS


def test_a_version_that_the_frame_denies(program: Guarded) -> None:
    frame = ethernet(four())
    assert program.verdict(frame[:12] + b"\x86\xdd" + frame[14:]) == PASS


@pytest.mark.parametrize("packet", [four(), six(), six(extension(ROUTING), extension(FRAGMENT))])
@pytest.mark.parametrize("tags", [(), (DOT1AD, DOT1Q)])
def test_what_is_cut_short(program: Guarded, packet: bytes, tags: tuple[int, ...]) -> None:
    """Where the ports are not there they may be any, once it is known from whom it is."""
    whole = ethernet(packet, tags)
    known = 14 + 4 * len(tags) + (20 if packet[0] >> 4 == 4 else 40)
    for length in range(14, len(whole) + 1):
        assert program.verdict(whole[:length]) == (DROP if length >= known else PASS)


WHOLE = [
    *(ethernet(four(), tags) for tags in ((), (DOT1Q,), (DOT1AD, DOT1Q))),
    ethernet(ip4(BAD4, SERVER4, tcp(), options=OPTIONS)),
    ethernet(six()),
    ethernet(six(*(extension(kind, size=16) for kind in EVERY))),
]
_NOBODY = (bytes([198, 18, 0, 1]), bytes.fromhex("20010db8000b") + bytes(9) + b"\1")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    st.integers(14, 300),
)
@example(WHOLE[0], [(23, 17)], 300)
def test_whatever_comes_only_who_is_banned_is_dropped(
    program: Guarded, frame: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    made = bytearray(frame)
    for at, value in changes:
        made[at % len(made)] = value
    verdict = program.verdict(bytes(made[:length]))
    assert verdict in (DROP, PASS)
    if verdict == DROP:
        assert any(each in made[:length] for each in _NOBODY)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=14, max_size=200))
def test_noise_is_passed(program: Guarded, data: bytes) -> None:
    assert program.verdict(data) == PASS
    assert run(program.packets, data)[0] == PASS


# Who is throttled


@pytest.mark.parametrize("source", [SLOW4, SLOW6])
def test_only_what_opens_a_connection_counts(program: Guarded, source: str) -> None:
    program.backend.apply([Entry(source, "mx", "throttle", 600.0)])
    target, wrap = (SERVER6, ip6) if ":" in source else (SERVER4, ip4)

    def passes(flags: int, port: int = 25) -> bool:
        return not program.drops(wrap(source, target, tcp(port, flags)))

    assert all(passes(flags) for flags in (ACK, ACK | PSH, SYN | ACK, 0x11, 0x04) for _ in range(9))
    assert [passes(SYN) for _ in range(5)] == [True] * 3 + [False] * 2
    assert passes(ACK)
    assert passes(SYN, 587)


def test_behind_nine_extensions_it_counts_as_a_new_connection_in_every_scope(
    program: Guarded,
) -> None:
    slow = "2001:db8:b::4"
    program.backend.apply([Entry(slow, "submission", "throttle", 600.0)])
    packet = ip6(slow, SERVER6, tcp(25, ACK), MANY)
    assert [program.drops(packet) for _ in range(5)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("padding", [0, 18])
def test_a_first_fragment_without_the_flags_opens_a_connection(
    program: Guarded, padding: int
) -> None:
    """The kernel puts it together with the rest; so nobody gets by in pieces."""
    tiny = ethernet(ip4(SLOW4, SERVER4, tcp(25, SYN)[:8], fragment=0x2000)) + bytes(padding)
    program.backend.apply([Entry(SLOW4, "mx", "throttle", 0.0)])
    program.backend.apply([Entry(SLOW4, "mx", "throttle", 600.0)])
    assert [program.verdict(tiny) for _ in range(5)] == [PASS, PASS, PASS, DROP, DROP]


def test_a_forged_flood_begins_and_lengthens_nothing(program: Guarded) -> None:
    """The program never makes an element, and never changes when one ends."""
    before = {(element.subject, element.action) for element in program.backend.dump()}
    ends = min(element.seconds for element in program.backend.dump())
    for n in range(2000):
        program.verdict(ethernet(four(f"198.18.{n >> 8}.{n & 255}")))
    assert {(element.subject, element.action) for element in program.backend.dump()} == before
    assert min(element.seconds for element in program.backend.dump()) < ends


def test_it_is_quick(program: Guarded) -> None:
    """As a multiple of what is no IP, the least of many: 7, of 21 ns."""
    banned, other = ethernet(four()), bytes(12) + b"\x08\x06" + bytes(46)
    least = [
        min(run(program.frames, frame, repeat=10_000)[1] for _ in range(20))
        for frame in (banned, other)
    ]
    assert least[0] < 60 * least[1], least  # a microsecond
