"""relayhost as addresses, by the system's own resolver."""

import pytest

from lab.network.netns import Namespace, namespace
from throttled.host.relays import relays


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("[198.51.100.7]:587", "198.51.100.7"),
        ("[198.51.100.7]", "198.51.100.7"),
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:25", "198.51.100.7"),
        ("[2001:DB8::7]:submission", "2001:db8::7"),
        ("[IPv6:2001:db8::7]", "2001:db8::7"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    assert relays([host], 0) == ({address}, [])


def test_a_name_in_brackets_is_resolved() -> None:
    found, warnings = relays(["[localhost]:1025", "[localhost]:1025"], 5)
    assert found <= {"127.0.0.1", "::1"}
    assert found
    assert warnings == []


def test_a_name_without_brackets_may_have_mx_hosts() -> None:
    found, [warning] = relays(["localhost:1025"], 5)
    assert found
    assert warning == (
        "relayhost localhost:1025: its MX hosts are not known; see [protect] networks"
    )


@pytest.mark.root
def test_a_name_that_does_not_resolve() -> None:
    with namespace("relays") as host:  # no way to any name server
        found, warnings = host.call(relays, ["[no.example.com]", "[198.51.100.7]"], 5.0)
    assert found == {"198.51.100.7"}
    [warning] = warnings
    assert "no.example.com does not resolve (getent ahosts -- no.example.com: exit" in warning


@pytest.mark.root
def test_time_is_bounded(networked: Namespace) -> None:
    networked.run("ip", "route", "add", "default", "dev", "eth0")  # to silent name servers
    found, [warning] = networked.call(relays, ["[no.example.com]"], 0.2)
    assert found == set()
    assert "no answer within 0.2 s" in warning


@pytest.mark.parametrize("host", ["[", "[]", ":", "[-x]", "[a\0b]", "[::1"])
def test_nonsense(host: str) -> None:
    found, warnings = relays([host], 5)
    assert found <= {"::1"}
    assert found or warnings
