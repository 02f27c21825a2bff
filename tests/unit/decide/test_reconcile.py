from throttled.decide.reconcile import missing
from throttled.model import Element, Entry, Rate


def test_missing() -> None:
    elements = [
        Element("198.51.100.1", "mx", "ban", 600.0),
        Element("198.51.100.2", "mx", "ban", 60.0),
        Element("198.51.100.3", "mx", "throttle", 600.0),
        Element("198.51.100.4", "submission", "ban", 600.0),
    ]
    desired = [Entry(f"198.51.100.{n}", "mx", "ban", 603.0) for n in range(1, 6)]
    assert missing(desired, elements) == desired[1:]


def test_clocks_that_tick_between_make_no_difference() -> None:
    elements = [Element(f"198.51.100.{n}", "mx", "ban", 600.0) for n in range(4)]
    ends = (594.9, 595.0, 605.0, 605.1)
    desired = [Entry(f"198.51.100.{n}", "mx", "ban", end) for n, end in enumerate(ends)]
    assert missing(desired, elements) == [desired[0], desired[3]]


def test_another_rate_is_another_element() -> None:
    slow, slower = Rate(6, 3600.0, 2), Rate(1, 3600.0, 2)
    elements = [Element(f"198.51.100.{n}", "mx", "throttle", 600.0, 0, slow) for n in range(1, 4)]
    desired = [
        Entry("198.51.100.1", "mx", "throttle", 600.0, slow),
        Entry("198.51.100.2", "mx", "throttle", 600.0, slower),
        Entry("198.51.100.3", "mx", "throttle", 600.0),
    ]
    assert missing(desired, elements) == desired[1:]


def test_nothing_desired() -> None:
    assert missing([], [Element("198.51.100.1", "mx", "ban", 600.0)]) == []


def test_a_short_entry_is_missing_all_the_same() -> None:
    entry = Entry("198.51.100.1", "mx", "ban", 1.0)
    assert missing([entry], []) == [entry]
