"""What the results have in common."""

from typing import get_args

from throttled.control.results import OBSERVED, Result


def test_what_says_whether_the_daemon_observes_has_a_place_for_it() -> None:
    said = {each for each in get_args(Result) if "would" in each.__struct_fields__}
    assert said == set(get_args(OBSERVED))
