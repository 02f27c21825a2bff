from throttled.tail.backoff import Backoff


def test_works_until_it_fails() -> None:
    retry = Backoff()
    assert retry.due(0.0)
    assert retry.error == ""


def test_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    retry = Backoff(first=1.0, most=5.0)
    at, waits = 100.0, []
    for _ in range(5):
        retry.failed(at, "no")
        begin = at
        while not retry.due(at):
            at += 0.5
        waits.append(at - begin)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert (retry.error, retry.since) == ("no", 100.0)


def test_begins_anew_once_it_worked() -> None:
    retry = Backoff(first=1.0)
    retry.failed(0.0, "no")
    retry.failed(1.0, "no")
    retry.succeeded()
    assert retry.due(1.0)
    retry.failed(50.0, "again")
    assert retry.since == 50.0
    assert not retry.due(50.9)
    assert retry.due(51.0)
