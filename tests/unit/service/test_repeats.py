from throttled.service.repeats import _KEYS, QUIET, Repeats


def test_the_first_is_written_and_what_follows_is_counted() -> None:
    repeats = Repeats()
    assert repeats.due("a", 10.0) == 1
    assert [repeats.due("a", 10.0 + i / 100) for i in range(99)] == [0] * 99
    assert repeats.due("b", 11.0) == 1
    assert repeats.due("a", 10.0 + QUIET) == 100
    assert repeats.due("a", 10.1 + QUIET) == 0


def test_it_knows_only_so_many() -> None:
    repeats = Repeats()
    assert all(repeats.due(str(key), 0.0) for key in range(_KEYS))
    assert repeats.due("0", 1.0) == 0
    assert repeats.due("another", 1.0) == 1
    assert repeats.due("0", 1.0) == 1
