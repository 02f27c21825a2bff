"""What the requests and results have in common."""

from typing import get_args

from throttled.control.protocol import OBSERVED, READS, Request, Result


def test_a_look_is_a_request_and_each_has_its_own_name_on_the_wire() -> None:
    requests = get_args(Request)
    assert set(get_args(READS)) < set(requests)
    assert len({each.__struct_config__.tag for each in requests}) == len(requests)


def test_what_says_whether_the_daemon_observes_has_a_place_for_it() -> None:
    said = {each for each in get_args(Result) if "would" in each.__struct_fields__}
    assert said == set(get_args(OBSERVED))
