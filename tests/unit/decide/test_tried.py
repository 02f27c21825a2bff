"""Tags of user names, and those that are to be published."""

from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.tried import MOST, Tried

A, B = "198.51.100.7", "203.0.113.9"


def made(since: float = 0.0, secret: bytes = b"s" * 32) -> Tried:
    return Tried(secret, since)


@given(st.text(max_size=50))
def test_a_tag_is_the_same_on_all_hosts_of_a_fleet_and_no_other(name: str) -> None:
    text = name.encode("utf-8", "replace").decode()
    assert made().tag(text) == made().tag(text) < 1 << 32
    assert made().tag("info") != made(secret=b"t" * 32).tag("info")


def test_names_that_are_no_utf_8_have_tags() -> None:
    assert made().tag("caf\udce9") != made().tag("cafe")


def test_what_was_tried_is_collected_once_by_client_and_scope() -> None:
    tried = made()
    for tag in (1, 2, 1):
        tried.add(A, "submission", tag, 1000.0)
    tried.add(A, "mx", 1, 1000.0)
    tried.add(B, "mx", 1, 1000.0)
    assert len(tried) == 4
    assert tried.drain() == [(A, "submission", [1, 2]), (A, "mx", [1]), (B, "mx", [1])]
    assert (len(tried), tried.drain()) == (0, [])


def test_a_name_that_is_tried_again_is_published_again_after_a_minute() -> None:
    tried = made()
    tried.add(A, "mx", 1, 1000.0)
    tried.drain()
    tried.add(A, "mx", 1, 1030.0)
    assert tried.drain() == []
    tried.add(A, "mx", 1, 1200.0)
    assert tried.drain() == [(A, "mx", [1])]


def test_names_of_before_the_start_are_not_collected() -> None:
    tried = made(since=1000.0)
    tried.add(A, "mx", 1, 999.0)
    assert len(tried) == 0


def test_what_is_too_much_is_counted_and_not_published() -> None:
    tried = made()
    for tag in range(MOST + 5):
        tried.add(A, "mx", tag, 1000.0)
    assert (len(tried), tried.dropped) == (MOST, 5)
