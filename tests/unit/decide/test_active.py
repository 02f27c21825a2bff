from math import inf

from throttled.decide.active import Active, Excuse, InForce

A = "198.51.100.7"


def test_a_ban_and_a_throttle_stand_beside_each_other() -> None:
    active = Active(100)
    assert active.get(A) is None
    assert active.until(A, 1000.0) == 0.0
    active.throttle(A, 1600.0, 1000.0, 0.5)
    assert active.get(A) == InForce(0.0, inf, 1600.0, 0.5)
    active.ban(A, 1300.0, 1010.0, enforced=True)
    assert active.get(A) == InForce(1300.0, 1010.0, 1600.0, 0.5)
    active.ban(A, 2000.0, 1020.0, enforced=False)
    assert active.get(A) == InForce(2000.0, inf, 1600.0, 0.5)
    active.throttle(A, 1700.0, 1030.0, 0.1)
    assert active.get(A) == InForce(2000.0, inf, 1700.0, 0.1)
    assert active.until(A, 1999.0) == 2000.0
    assert active.until(A, 2000.0) == 0.0


def test_after_a_release_nothing_is_in_force() -> None:
    active = Active(100)
    active.ban(A, 2000.0, 1010.0, enforced=True)
    active.excuse(A, "errors", Excuse("ban", 60, 1060.0), 1000.0)
    active.release(A)
    assert active.get(A) is None
    assert active.excuses(A, "errors", "ban", 60, 1059.0)


def test_what_was_excused_is_judged_again_above_its_value_or_after_its_time() -> None:
    active = Active(100)
    assert not active.excuses(A, "errors", "ban", 51, 1000.0)
    active.excuse(A, "errors", Excuse("ban", 60, 1060.0), 1000.0)
    assert active.excuses(A, "errors", "ban", 60, 1059.0)
    assert not active.excuses(A, "errors", "ban", 61, 1059.0)
    assert not active.excuses(A, "errors", "ban", 60, 1060.0)


def test_what_one_limit_spared_says_nothing_of_another() -> None:
    active = Active(100)
    active.excuse(A, "errors", Excuse("ban", 60, 1060.0), 1000.0)
    assert not active.excuses(A, "auth", "ban", 1, 1000.0)
    assert not active.excuses("198.51.100.8", "errors", "ban", 1, 1000.0)


def test_a_throttle_that_was_excused_excuses_no_ban_and_the_other_way_round() -> None:
    active = Active(100)
    active.excuse(A, "auth", Excuse("throttle", 60, 1060.0), 1000.0)
    assert active.excuses(A, "auth", "throttle", 60, 1000.0)
    assert not active.excuses(A, "auth", "ban", 60, 1000.0)
    active.excuse(A, "auth", Excuse("ban", 60, 1060.0), 1000.0)
    assert active.excuses(A, "auth", "throttle", 60, 1000.0)


def test_forget() -> None:
    active = Active(100)
    for subject in (A, "198.51.100.8"):
        active.ban(subject, 2000.0, 1000.0, enforced=True)
        active.excuse(subject, "errors", Excuse("ban", 60, 2000.0), 1000.0)
    active.excuse("198.51.100.9", "errors", Excuse("ban", 60, 2000.0), 1000.0)
    active.ban("198.51.100.10", 2000.0, 1000.0, enforced=True)
    assert active.subjects() == {A, *(f"198.51.100.{n}" for n in (8, 9, 10))}
    active.reset(A, {"errors", "auth"})
    assert A not in active.subjects()
    assert active.get(A) is None
    assert not active.excuses(A, "errors", "ban", 60, 1000.0)
    assert active.excuses("198.51.100.8", "errors", "ban", 60, 1000.0)
    active.clear()
    assert active.get("198.51.100.8") is None
    assert not active.excuses("198.51.100.8", "errors", "ban", 60, 1000.0)


def test_a_ban_alone_is_no_throttle() -> None:
    active = Active(100)
    active.ban(A, 1300.0, 1010.0, enforced=True)
    assert active.get(A) == InForce(1300.0, 1010.0, 0.0, inf)


def test_what_is_active_is_remembered_for_a_day() -> None:
    active = Active(100)
    active.ban(A, 1e9, 0.0, enforced=True)
    active.throttle("198.51.100.8", 1e9, 86400.0, 0.5)
    assert active.get(A) is not None
    active.throttle("198.51.100.9", 1e9, 172_800.0, 0.5)
    assert active.get(A) is None


def test_memory_is_bounded() -> None:
    active = Active(100)
    for number in range(1000):
        active.ban(str(number), 2000.0, 1000.0, enforced=True)
        active.excuse(A, str(number), Excuse("ban", 60, 2000.0), 1000.0)
    assert sum(active.get(str(number)) is not None for number in range(1000)) <= 100
    assert active.get("999") is not None
