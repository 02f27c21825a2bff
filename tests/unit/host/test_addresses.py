"""Addresses, gateways and resolvers of real network namespaces, and word of their changes."""

import asyncio
import select
import socket
from pathlib import Path

import pytest

from lab.network.netns import Namespace
from throttled.errors import HostError
from throttled.host import addresses
from throttled.host.addresses import AddressWatch
from throttled.linux import rtnetlink


@pytest.mark.root
def test_own_addresses(networked: Namespace) -> None:
    networked.run("ip", "address", "add", "fe80::7/64", "dev", "eth0", "nodad")
    found = networked.call(addresses.own)
    assert found == {"127.0.0.1", "::1", "198.51.100.7", "2001:db8::7", "fe80::7"}


@pytest.mark.root
def test_gateways_of_all_tables(networked: Namespace) -> None:
    assert networked.call(addresses.gateways) == frozenset()
    for route in (
        "default via 198.51.100.1",
        "default via 198.51.100.2 table 100",
        "default via 2001:db8::1",
        "default via fe80::99 dev eth0 table 100",
        "default metric 9 nexthop via 198.51.100.3 nexthop via 198.51.100.4",
        "default metric 10 via inet6 2001:db8::2",
        "203.0.113.0/24 via 198.51.100.9",
    ):
        networked.run(
            "ip",
            *(["-6"] if "via 2001" in route or "fe80" in route else []),
            "route",
            "add",
            *route.split(),
        )
    networked.run("ip", "route", "add", "unreachable", "default", "table", "101")
    assert networked.call(addresses.gateways) == {
        "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4",
        "2001:db8::1", "2001:db8::2", "fe80::99",
    }  # fmt: skip


@pytest.mark.root
def test_gateways_can_be_asked_within_an_event_loop(networked: Namespace) -> None:
    networked.run("ip", "route", "add", "default", "via", "198.51.100.1")

    async def ask() -> frozenset[str]:
        found: frozenset[str] = networked.call(addresses.gateways)
        return found

    assert asyncio.run(ask()) == {"198.51.100.1"}


def test_resolvers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(
        b"# nameserver 203.0.113.1\nsearch example.com\nnameserver 198.51.100.53\n"
        b"nameserver\t2001:DB8::53 # x\nnameserver fe80::1%eth0\nnameserver\nnameserver junk\n"
        b"\xff\xfe\noptions ndots:1\n"
    )
    assert addresses.resolvers(str(path)) == {"198.51.100.53", "2001:db8::53", "fe80::1"}


def test_resolvers_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"resolvers: .*No such file"):
        addresses.resolvers(str(tmp_path / "absent"))


def test_what_the_kernel_refuses_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocks: no kernel here refuses to name addresses, or netlink."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(rtnetlink, "Netlink", refuse)
        with pytest.raises(HostError, match="own addresses: "):
            addresses.own()
        with pytest.raises(HostError, match="default routes: "):
            addresses.gateways()
    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(HostError, match="changes of addresses: "):
        AddressWatch()


def readable(watch: AddressWatch, seconds: float) -> bool:
    return bool(select.select([watch], [], [], seconds)[0])


@pytest.mark.root
@pytest.mark.parametrize(
    "change",
    [
        "address add 198.51.100.8/24 dev eth0",
        "address del 198.51.100.7/24 dev eth0",
        "address add 2001:db8::8/64 dev eth0 nodad",
        "link set eth0 down",
        "link add eth2 type veth peer name eth3",
        "route add default via 198.51.100.1",
        "-6 route add default via 2001:db8::1",
    ],
)
def test_changes_are_seen(networked: Namespace, change: str) -> None:
    watch = networked.call(AddressWatch)
    try:
        # IPv6 may still be settling: what comes before the change is drained.
        while readable(watch, 0.1):
            watch.drain()
        assert not watch.drain()
        networked.run("ip", *change.split())
        assert readable(watch, 5)
        assert watch.drain()
    finally:
        watch.close()


@pytest.mark.root
def test_more_changes_than_the_kernel_keeps_are_a_change(networked: Namespace) -> None:
    watch = networked.call(AddressWatch)
    try:
        batch = "".join(f"route add 203.0.113.{n}/32 dev eth0\n" for n in range(250))
        undo = batch.replace("add", "del")
        for _ in range(4):
            networked.run("ip", "-batch", "-", stdin=batch + undo)
        drained = 0
        while watch.drain():
            drained += 1
        assert 1 < drained < 100
    finally:
        watch.close()
