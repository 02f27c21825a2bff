"""Fingerprints."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from throttled.tail.position import HEAD, Position, covered, fingerprint, fits, recognisable

heads = st.binary(max_size=HEAD)


@given(heads, heads)
def test_fits_the_file_it_was_taken_of_and_what_that_grows_to(head: bytes, more: bytes) -> None:
    mark = fingerprint(head)
    assert covered(mark) == len(head)
    assert fits(mark, head)
    assert fits(mark, head + more)


@given(heads, heads)
def test_fits_no_other_file(head: bytes, other: bytes) -> None:
    assert fits(fingerprint(head), other) == other.startswith(head)


@given(st.binary(max_size=20), heads)
def test_garbage_from_a_store_fits_nothing(mark: bytes, head: bytes) -> None:
    assert not fits(mark, head) or mark == fingerprint(head[: covered(mark)])


def test_a_few_bytes_are_not_recognisable() -> None:
    assert not recognisable(fingerprint(b"Nov 22 16:12:00 host"))
    assert recognisable(fingerprint(b"Nov 22 16:12:00 host postfix/smtpd[1]: "))


def test_position_survives_the_store() -> None:
    older = Position("/var/log/mail.log", 1, 2, 3, fingerprint(b"old"))
    position = Position("/var/log/mail.log", 1, 4, 5, fingerprint(b"new"), (older,))
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(position), type=Position) == position


def test_an_empty_file_may_have_become_any_a_longer_one_no_shorter() -> None:
    assert fits(fingerprint(b""), b"Nov 22")
    assert not fits(fingerprint(b"Nov 22"), b"Nov")
