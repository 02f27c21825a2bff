import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.address import canonical
from throttled.parse.client import Client, address_only, address_or_network, client


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unknown[203.0.113.8]", Client("203.0.113.8", "", 0)),
        ("mail.example.net[203.0.113.8]", Client("203.0.113.8", "mail.example.net", 0)),
        ("a_b-c.example[2001:DB8::0:7]:", Client("2001:db8::7", "a_b-c.example", 0)),
        ("unknown[203.0.113.8]:41234", Client("203.0.113.8", "", 41234)),
        ("unknown[203.0.113.8]:41234:", Client("203.0.113.8", "", 41234)),
        ("[203.0.113.8]:41234", Client("203.0.113.8", "", 41234)),
        ("x[::ffff:203.0.113.8]", Client("203.0.113.8", "x", 0)),
    ],
)
def test_client(text: str, expected: Client) -> None:
    assert client(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "unknown[unknown]",
        "unknown[]",
        "unknown[203.0.113.8",
        "unknown[203.0.113.256]",
        "unknown[203.0.113.8]x",
        "unknown[203.0.113.8]:123456",
        "a b[203.0.113.8]",
        "a[203.0.113.8][203.0.113.9]",
        "unknown[fe80::1%eth0]",
        "x" * 256 + "[203.0.113.8]",
        "caf\u00e9[203.0.113.8]",
        "x[\u0661.2.3.4]",
    ],
)
def test_no_client(text: str) -> None:
    assert client(text) is None


@given(st.ip_addresses())
def test_every_address_becomes_canonical(address: object) -> None:
    found = client(f"unknown[{address}]")
    assert found is not None
    assert found.address == canonical(str(address))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.8", "203.0.113.8"),
        ("2001:db8:b::/84", "2001:db8:b::/84"),
        ("unknown", ""),
    ],
)
def test_address_or_network(text: str, expected: str) -> None:
    assert address_or_network(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("::ffff:203.0.113.8", "203.0.113.8"),
        ("198.51.100.0/24", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_address_only(text: str, expected: str) -> None:
    assert address_only(text) == expected
