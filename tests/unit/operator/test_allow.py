"""`allow --resolve`: what it says."""

from throttled.control.requests import Resolve
from throttled.operator.allow import resolved


def test_what_became_of_a_host() -> None:
    asked = Resolve("example.com", ["192.0.2.7"])
    whole = "example.com is allowed by its addresses in DNS (1)"
    assert resolved(asked, [], []) == whole
    assert resolved(asked, ["192.0.2.7"], ["192.0.2.8"]) == (
        f"{whole}; added: 192.0.2.7; removed: 192.0.2.8"
    )
