from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.tables import Counters, Distinct, Generations


def test_remembers_for_a_lifetime_after_the_last_touch() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    table.put("a", 1, 1000.0)
    table.put("b", 2, 1009.0)
    table.put("c", 3, 1011.0)  # a and b become the old generation
    assert (table.get("a"), table.get("b"), table.get("c")) == (1, 2, 3)
    table.put("d", 4, 1022.0)
    assert (table.get("a"), table.get("b"), table.get("c")) == (None, None, 3)


def test_a_touch_in_the_young_generation_keeps() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    table.put("a", 1, 1000.0)
    table.put("b", 1, 1011.0)
    table.put("a", 2, 1012.0)
    table.put("c", 1, 1022.0)
    assert table.get("a") == 2
    assert len(table) == 3


def test_long_silence_forgets_both_generations() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    table.put("a", 1, 1000.0)
    table.put("b", 2, 1100.0)
    assert table.get("a") is None


def test_swap_returns_what_was_there_in_either_generation() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    assert table.put("a", 1, 1000.0) is None
    assert table.put("a", 2, 1001.0) == 1
    assert table.put("b", 1, 1011.0) is None
    assert table.put("a", 3, 1012.0) == 2
    assert table.get("a") == 3
    assert sorted(table.values()) == [1, 3]


def test_cap_drops_the_longest_silent_and_says_so() -> None:
    table: Generations[str, int] = Generations(1000.0, 10)
    for number in range(100):
        table.put(str(number), number, 5000.0)
        table.put("busy", -1, 5000.0)
        assert len(table) <= table.size() <= 11
    assert table.get("busy") == -1
    assert table.get("0") is None
    assert table.get("99") == 99
    assert table.dropped > 80


def test_pop_takes_the_youngest_value_and_leaves_none() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    table.put("a", 1, 1000.0)
    table.put("b", 1, 1011.0)
    table.put("a", 2, 1012.0)
    assert table.pop("a") == 2
    assert table.pop("a") is None
    assert table.pop("b") == 1
    table.put("c", 1, 1012.0)
    table.clear()
    assert len(table) == 0


def test_an_entry_in_both_generations_is_one() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    for at, key in ((0.0, "a"), (11.0, "b"), (12.0, "a")):
        table.put(key, 1, at)
    assert (len(table), table.size()) == (2, 3)
    table.clear()
    assert (len(table), table.size(), table.get("a")) == (0, 0, None)


def test_a_generation_ends_with_its_lifetime() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    for at, key in ((0.0, "a"), (10.0, "b"), (20.0, "c")):
        table.put(key, 1, at)
    assert [table.get(key) for key in "abc"] == [None, 1, 1]
    table = Generations(10.0, 100)
    table.put("a", 1, 0.0)
    table.put("b", 1, 20.0)
    assert table.get("a") is None


def test_a_generation_holds_half_of_the_cap_and_one_at_least() -> None:
    for cap, half in ((1, 1), (6, 3), (7, 3)):
        table: Generations[int, int] = Generations(10.0, cap)
        for number in range(2 * half + 1):
            assert table.dropped == 0
            table.put(number, 1, 0.0)
        assert (table.dropped, len(table), table.get(0)) == (half, half + 1, None)


def test_counts_by_client_and_forgets_with_the_window() -> None:
    table = Counters(60.0, 100)
    assert [table.add("a", 1000.0 + second, 1) for second in range(3)] == [1, 2, 3]
    assert table.add("b", 1000.0, 5) == 5
    assert table.value("a", 1010.0) == 3
    assert table.value("a", 1075.0) == 0
    assert table.value("nobody", 1000.0) == 0


def test_a_meter_survives_the_change_of_generations() -> None:
    table = Counters(60.0, 100)
    table.add("a", 1000.0, 1)
    for second in range(1, 60):
        table.add(f"other{second}", 1000.0 + second, 1)
    assert table.add("a", 1059.0, 1) == 2


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(1, 50)), min_size=1, max_size=80))
def test_error_is_at_most_an_eighth_of_the_window(events: list[tuple[float, int]]) -> None:
    """Never fewer than lie within T, never more than within 9/8 T: in order of time."""
    table = Counters(80.0, 1000)
    seen: list[tuple[float, int]] = []
    for at, count in sorted(events):
        value = table.add("a", 1000.0 + at, count)
        seen.append((at, count))
        assert sum(c for t, c in seen if t > at - 80) <= value
        assert value <= sum(c for t, c in seen if t >= at - 90 - 1e-6)


def test_distinct_names() -> None:
    table = Distinct(600.0, 100, most=5)
    assert [table.add("a", 1000.0, name) for name in ("x", "y", "x", "x", "z")] == [1, 2, 2, 2, 3]
    assert table.value("a", 1100.0) == 3
    assert table.value("a", 1700.0) == 0
    assert table.value("b", 1000.0) == 0


def test_distinct_names_are_forgotten_one_by_one() -> None:
    table = Distinct(80.0, 100, most=5)
    table.add("a", 1000.0, "x")
    table.add("a", 1050.0, "y")
    assert table.add("a", 1100.0, "z") == 2


def test_distinct_names_are_capped() -> None:
    table = Distinct(600.0, 100, most=5)
    assert max(table.add("a", 1000.0, f"user{number}") for number in range(1000)) == 5
    assert len(table.get("a") or b"") == 5 * 8


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from("uvwxyz")), max_size=40))
def test_distinct_names_are_exact_in_eighths_in_any_order(events: list[tuple[int, str]]) -> None:
    table = Distinct(80.0, 100, most=7)
    latest: dict[str, int] = {}  # the eighth in which each was used last
    for at, name in events:
        tick = (1000 + at) // 10
        latest = {each: last for each, last in latest.items() if last >= tick - 8}
        latest[name] = max(tick, latest.get(name, 0))
        assert table.add("a", 1000.0 + at, name) == len(latest)


def test_counts_are_subtracted_at_their_time_in_either_generation() -> None:
    table = Counters(80.0, 100)
    table.add("a", 1000.0, 5)
    table.add("b", 1095.0, 1)  # a is old now
    table.subtract("a", 1000.0, 2)
    assert table.value("a", 1000.0) == 3
    table.add("a", 1060.0, 1)
    table.subtract("a", 1000.0, 9)
    assert table.value("a", 1060.0) == 1
    table.subtract("nobody", 1000.0, 1)
    assert table.value("nobody", 1000.0) == 0


def test_a_name_is_removed_in_either_generation() -> None:
    table = Distinct(80.0, 100, 5)
    for name in ("x", "y"):
        table.add("a", 1000.0, name)
    table.remove("a", "x")
    assert table.value("a", 1000.0) == 1
    table.add("b", 1095.0, "x")
    table.remove("a", "y")
    table.remove("nobody", "y")
    assert (table.value("a", 1000.0), table.value("b", 1095.0)) == (0, 1)
    table.remove("b", "y")
    assert table.value("b", 1095.0) == 1


#: A history: (seconds since the latest event, seconds by which the line is late, client, name).
T = 80.0
HISTORY = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, 9.9, 30.0, 79.0, 81.0, 95.0, 200.0]),
        st.sampled_from([0.0, 0.0, 0.0, 2.0, 11.0]),
        st.sampled_from("aaab") | st.integers(0, 9).map(str),
        st.sampled_from("uvwxyz"),
    ),
    max_size=120,
)


@given(HISTORY)
def test_counts_against_a_slow_and_exact_model(
    history: list[tuple[float, float, str, str]],
) -> None:
    """Never fewer than happened within T, nothing older than 9/8 T, whoever else comes or not."""
    table = Counters(T, 1000)
    seen: dict[str, list[float]] = defaultdict(list)
    clock = 1000.0
    for pause, late, client, _ in history:
        clock += pause
        seen[client].append(clock - late)
        value = table.add(client, clock - late, 1)
        newest = max(seen[client])
        assert value >= sum(t > newest - T for t in seen[client])
        assert value <= sum(t >= newest - T * 9 / 8 - 11.0 for t in seen[client])
        for each, times in seen.items():
            shown = table.value(each, clock)
            assert sum(t > clock - T for t in times) <= shown
            assert shown <= sum(t >= clock - T * 9 / 8 for t in times)
    assert table.dropped == 0


@given(HISTORY)
def test_distinct_names_against_a_slow_and_exact_model(
    history: list[tuple[float, float, str, str]],
) -> None:
    """Right up to `most`, whatever names came while the client's list was full."""
    table = Distinct(T, 1000, most=3)
    seen: dict[str, list[tuple[float, str]]] = defaultdict(list)
    clock = 1000.0
    for pause, late, client, name in history:
        clock += pause
        seen[client].append((clock - late, name))
        assert 1 <= table.add(client, clock - late, name) <= 3
        for each, uses in seen.items():
            within = len({n for t, n in uses if t > clock - T})
            about = len({n for t, n in uses if t >= clock - T * 9 / 8})
            assert min(3, within) <= table.value(each, clock) <= min(3, about)


@given(HISTORY)
def test_at_the_cap_a_count_falls_short_only_where_it_says_so(
    history: list[tuple[float, float, str, str]],
) -> None:
    table = Counters(T, 6)
    seen: dict[str, list[float]] = defaultdict(list)
    clock = 1000.0
    for pause, _, client, _ in history:
        clock += pause
        seen[client].append(clock)
        value = table.add(client, clock, 1)
        assert value <= sum(t >= clock - T * 9 / 8 for t in seen[client])
        assert table.dropped or value >= sum(t > clock - T for t in seen[client])
        assert len(table) <= 6


def test_a_count_outlives_a_time_without_newcomers() -> None:
    """The next newcomer's first event does not clear what was counted a second before."""
    table = Counters(T, 1000)
    for second in range(300):
        table.add("busy", 1000.0 + second, 1)
    before = table.add("busy", 1300.0, 1)
    table.add("new", 1301.0, 1)
    assert table.add("busy", 1301.0, 1) == before + 1


def test_names_tried_while_the_list_is_full_are_not_lost() -> None:
    table = Distinct(T, 1000, most=3)
    for second in range(60):
        table.add("a", 1000.0 + second, f"name{second}")
    assert table.add("a", 1000.0 + T + 50, "another") == 3
    table.more = lambda _key, _at: 2
    assert table.add("a", 1000.0 + T + 51, "more") == 4


def test_items_are_those_of_both_generations() -> None:
    table: Generations[str, int] = Generations(10.0, 100)
    table.put("a", 1, 1.0)
    table.put("b", 2, 1.0)
    table.put("a", 3, 11.0)
    assert sorted(table.items()) == [("a", 3), ("b", 2)]


def test_another_cap_evicts_what_was_entered_first() -> None:
    table: Generations[str, int] = Generations(10.0, 8)
    for number in range(7):
        table.put(f"k{number}", number, 1000.0)  # four in the old generation, three in the young
    table.resize(100)
    assert len(table) == 7
    table.resize(4)
    assert sorted(table.values()) == [2, 3, 5, 6]
    table.put("k7", 7, 1000.0)
    assert sorted(table.values()) == [5, 6, 7]


def test_in_how_many_eighths_something_was_counted() -> None:
    table = Counters(80.0, 100)
    for at in (1000.0, 1001.0, 1030.0):
        table.add("a", at, 1)
    assert (table.eighths("a", 1030.0), table.eighths("a", 1095.0), table.eighths("b", 0.0)) == (
        2,
        1,
        0,
    )
