"""Addresses and routes of a real network namespace."""

import errno
from socket import AF_INET6, inet_aton, inet_pton

import pytest

from lab.network.netns import Namespace
from throttled.linux import rtnetlink
from throttled.linux.rtnetlink import Address, Route


@pytest.mark.root
def test_addresses_are_ours_also_of_a_point_to_point_link(networked: Namespace) -> None:
    networked.run("ip", "address", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "eth0")
    found = networked.call(lambda: set(rtnetlink.addresses()))
    assert found == {
        Address(inet_aton("127.0.0.1"), 8),
        Address(inet_pton(AF_INET6, "::1"), 128),
        Address(inet_aton("198.51.100.7"), 24),
        Address(inet_aton("192.0.2.1"), 32),
        Address(inet_pton(AF_INET6, "2001:db8::7"), 64),
    }


@pytest.mark.root
def test_routes_of_every_table_with_all_their_hops(networked: Namespace) -> None:
    for route in (
        "default via 198.51.100.1 table 1000",
        "203.0.113.0/24 nexthop via 198.51.100.3 nexthop via 198.51.100.4",
        "192.0.2.0/25 via inet6 2001:db8::2",
        "unreachable default table 101",
    ):
        networked.run("ip", "route", "add", *route.split())
    found = networked.call(lambda: list(rtnetlink.routes()))
    one, three, four = (inet_aton(f"198.51.100.{n}") for n in (1, 3, 4))
    for wanted in (
        Route(0, (one,)),
        Route(24, (three, four)),
        Route(25, (inet_pton(AF_INET6, "2001:db8::2"),)),
        Route(0, ()),
        Route(64, ()),  # of the interface, IPv6
    ):
        assert wanted in found


def test_a_refusal_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtnetlink, "_GET_ROUTE", 0x7FFF)  # the kernel knows no such message
    with pytest.raises(OSError, match="not supported") as caught:
        list(rtnetlink.routes())
    assert caught.value.errno == errno.EOPNOTSUPP
