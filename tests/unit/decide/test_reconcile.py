from throttled.decide.reconcile import missing
from throttled.model import Entry, Seen


def test_missing() -> None:
    held = [
        Seen("198.51.100.1", "mx", "ban", 600.0),
        Seen("198.51.100.2", "mx", "ban", 60.0),
        Seen("198.51.100.3", "mx", "throttle", 600.0),
        Seen("198.51.100.4", "submission", "ban", 600.0),
    ]
    desired = [Entry(f"198.51.100.{n}", "mx", "ban", 603.0) for n in range(1, 6)]
    assert missing(desired, held) == desired[1:]


def test_nothing_desired() -> None:
    assert missing([], [Seen("198.51.100.1", "mx", "ban", 600.0)]) == []


def test_a_short_entry_is_missing_all_the_same() -> None:
    entry = Entry("198.51.100.1", "mx", "ban", 1.0)
    assert missing([entry], []) == [entry]
