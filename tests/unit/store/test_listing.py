from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lab.daemon.decided import NOW, decide, many
from throttled import address
from throttled.model import Decision, Element, Line, Rate
from throttled.store import listing
from throttled.store.listing import Order
from throttled.store.store import Filter, Store


def subjects(store: Store, what: Filter, order: Order = "subject") -> list[str]:
    return [snapshot.subject for snapshot in store.listing.snapshots(NOW, what, order)]


# For the kernel


# For people


def test_a_row_of_the_list(store: Store) -> None:
    lines = (Line(1, 10), Line(1, 20))
    decision = Decision(NOW, "ban", "2001:db8::7", "mx", "auth", 3, NOW + 60, "why", 9, 8, lines)
    store.record(NOW, [decision])
    store.active.packets([Element("2001:db8::7", "mx", "ban", 1.0, 42)])
    (row,) = store.listing.snapshots(NOW)
    assert row == row.__class__(
        "2001:db8::7", "mx", "ban", "auth", 3, NOW, NOW + 60, "why", 42, lines
    )


def test_filters(store: Store) -> None:
    store.record(
        NOW,
        [
            decide("198.51.100.1"),
            decide("198.51.100.2", "throttle"),
            decide("198.51.100.3", scope="submission"),
            decide("198.51.100.4", limit="auth"),
            decide("198.51.101.5"),
            decide("198.51.100.6", seconds=0),
            decide("198.51.100.0/24", scope="submission"),
        ],
    )
    expected = {
        Filter(): ["0.0/24", "0.1", "0.2", "0.3", "0.4", "1.5"],
        Filter(scope="submission"): ["0.0/24", "0.3"],
        Filter(action="throttle"): ["0.2"],
        Filter(limit="auth"): ["0.4"],
        Filter(within="198.51.100.4"): ["0.4"],
        Filter(within="198.51.100.0/24"): ["0.0/24", "0.1", "0.2", "0.3", "0.4"],
        Filter(within="198.51.100.0/23", action="ban", scope="mx"): ["0.1", "0.4", "1.5"],
        Filter(within="198.51.100.0/25"): ["0.1", "0.2", "0.3", "0.4"],
        Filter(within="2001:db8::/32"): [],
    }
    for what, found in expected.items():
        assert [s.removeprefix("198.51.10") for s in subjects(store, what)] == found
        assert store.listing.total(NOW, what) == len(found)


def test_orders_and_the_number_of_rows(store: Store) -> None:
    store.record(NOW, [decide("198.51.100.3", seconds=300)])
    store.record(NOW + 1, [decide("198.51.100.1", at=NOW + 1, seconds=200)])
    store.record(NOW + 2, [decide("198.51.100.2", at=NOW + 2, seconds=100)])
    store.active.packets(
        [Element("198.51.100.3", "mx", "ban", 1, 5), Element("198.51.100.1", "mx", "ban", 1, 9)]
    )
    ends: dict[Order, str] = {"since": "213", "until": "213", "subject": "123", "packets": "132"}
    for order, expected in ends.items():
        assert "".join(s[-1] for s in subjects(store, Filter(), order)) == expected
        assert [s.subject[-1] for s in store.listing.snapshots(NOW, order=order, count=1)] == [
            expected[0]
        ]


def test_a_rate_is_stored_with_a_throttle(store: Store) -> None:
    rate = Rate(6, 3600.0, 2)
    own = replace(decide("198.51.100.1", "throttle"), rate=rate)
    network = replace(decide("198.51.100.0/24", "throttle"), rate=rate)
    store.record(NOW, [own, network, decide("198.51.100.2", "throttle")])
    expected = {"198.51.100.0/24": rate, "198.51.100.1": rate, "198.51.100.2": None}
    assert {e.subject: e.rate for chunk in store.active.entries(NOW) for e in chunk} == expected
    assert {s.subject: s.rate for s in store.listing.snapshots(NOW)} == expected
    assert {s.subject: s.rate for chunk in store.listing.rows(NOW) for s in chunk} == expected
    assert {s.subject: s.rate for chunk in store.active.ended(NOW + 600) for s in chunk} == expected
    assert {d.subject: d.rate for d in store.decisions("")} == expected
    assert {e.rate for _ in range(50) for e in store.active.sample(NOW, 3)} == {rate, None}
    past, networks = store.pasts([("198.51.100.1", "mx")], [("198.51.100.0/24", "mx")], NOW)
    assert past["198.51.100.1", "mx"].rate == networks["198.51.100.0/24", "mx"].rate == rate
    store.record(NOW, [decide("198.51.100.1", "throttle", seconds=700)])
    assert store.past([("198.51.100.1", "mx")], NOW)["198.51.100.1", "mx"].rate is None


# Inside


SUBJECTS = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)).map(
    address.unpack
)
SHORT = st.sampled_from(["2001:db8::", "2001:db8:0:1::", "::", "1::", "198.51.100.0", "0.0.0.0"])


@given(st.one_of(SUBJECTS, SHORT), st.integers(0, 128), st.integers(0, 128), st.binary(max_size=16))
def test_everything_inside_lies_in_the_span(
    base: str, outer_prefix: int, inner_prefix: int, noise: bytes
) -> None:
    packed = address.pack(base)
    bits = len(packed) * 8
    outer_prefix, inner_prefix = sorted((min(outer_prefix, bits), min(inner_prefix, bits)))
    outer = address.subject(f"{base}/{outer_prefix}")
    # The same network part, other host bits.
    host = int.from_bytes(noise) & ((1 << bits - outer_prefix) - 1)
    number = int.from_bytes(address.mask(packed, outer_prefix)) | host
    inner = address.subject(f"{address.unpack(number.to_bytes(len(packed)))}/{inner_prefix}")
    if ("." in inner) != ("." in outer):  # ::ffff:0:0/96 has become IPv4
        return
    low, high = listing.span(outer)
    assert address.inside(inner, outer)
    assert low <= inner < high


def test_a_span_is_narrow() -> None:
    assert listing.span("198.51.100.0/24") == ("198.51.100.", "198.51.100.\x7f")
    assert listing.span("198.51.100.0/22") == ("198.51.", "198.51.\x7f")
    assert listing.span("198.51.100.7") == ("198.51.100.7", "198.51.100.7\0")
    assert listing.span("2001:db8:0:1::/64") == ("2001:db8:", "2001:db8:\x7f")
    assert listing.span("2001:db8:a:b::/64") == ("2001:db8:a:b:", "2001:db8:a:b:\x7f")
    assert listing.span("::/0") == ("", "\x7f")
    assert listing.span("fd00::/8") == ("fd", "fd\x7f")
    assert listing.span("2001:db8:a000::/36") == ("2001:db8:a", "2001:db8:a\x7f")
    assert listing.span("2001:db8:a00::/40") == ("2001:db8:", "2001:db8:\x7f")


def test_pages_together_are_all_rows_of_every_order_and_filter(store: Store) -> None:
    store.record(
        NOW, [*many(25), *(decide(f"198.18.0.{n}", "throttle", "submission") for n in range(9))]
    )
    store.active.packets([Element(f"198.18.0.{n}", "mx", "ban", 1.0, n // 3) for n in range(25)])
    orders: tuple[Order, ...] = ("since", "until", "subject", "packets")
    for order in orders:
        for what in (
            Filter(),
            Filter(scope="mx"),
            Filter(within="198.18.0.0/28"),
            Filter(subject="198.18.0.1"),
        ):
            found, after = store.listing.page(NOW, what, order, 4)
            while after:
                more, after = store.listing.page(NOW, what, order, 4, after)
                found += more
            assert found == store.listing.snapshots(NOW, what, order)
            assert len(found) == store.listing.total(NOW, what)
