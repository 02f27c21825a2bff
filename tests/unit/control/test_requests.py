"""What the requests have in common."""

from typing import get_args

from throttled.control.requests import READS, Request


def test_a_look_is_a_request_and_each_has_its_own_name_on_the_wire() -> None:
    requests = get_args(Request)
    assert set(get_args(READS)) < set(requests)
    assert len({each.__struct_config__.tag for each in requests}) == len(requests)
