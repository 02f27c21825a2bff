"""The system's own resolver, by what needs no network: /etc/hosts and addresses."""

import pytest

from throttled.errors import HostError
from throttled.host.resolve import forward, reverse


def test_localhost() -> None:
    assert set(forward("localhost")) <= {"127.0.0.1", "::1"}
    assert forward("198.51.100.7") == ["198.51.100.7"]
    assert reverse("127.0.0.1").startswith("localhost")


def test_nothing_is_an_error() -> None:
    with pytest.raises(HostError):
        forward("nosuch.invalid")
    with pytest.raises(HostError):
        forward("-n")
    with pytest.raises(HostError):
        reverse("nonsense!")
