import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from throttled import address
from throttled.decide.protect import Protection
from throttled.facts import Facts
from throttled.settings import Protect

FACTS = Facts(
    own=frozenset({"198.51.100.1", "2001:db8::1"}),
    gateways=frozenset({"198.51.100.254"}),
    resolvers=frozenset({"203.0.113.53"}),
    relays=frozenset({"203.0.113.25"}),
    mynetworks=("198.18.0.0/24", "2001:db8:5::/48"),
    xclient=("198.18.7.7",),
    xforward=("198.18.7.8",),
)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("198.51.100.1", "this host"),
        ("2001:db8::1", "this host"),
        ("198.51.100.254", "gateway"),
        ("203.0.113.53", "resolver"),
        ("203.0.113.25", "relayhost"),
        ("198.18.0.77", "mynetworks"),
        ("198.18.0.0/25", "mynetworks"),
        ("2001:db8:5:6::7", "mynetworks"),
        ("198.18.7.7", "XCLIENT"),
        ("198.18.7.8", "XFORWARD"),
        ("203.0.113.99", "operator"),
    ],
)
def test_protected(subject: str, reason: str) -> None:
    assert reason in Protection(FACTS, networks=["203.0.113.96/27"]).reason(subject)


@pytest.mark.parametrize(
    "subject", ["198.51.100.2", "198.18.1.0", "198.18.0.0/23", "2001:db8:6::1"]
)
def test_not_protected(subject: str) -> None:
    assert Protection(FACTS).reason(subject) == ""


def test_mynetworks_can_be_left_out() -> None:
    assert Protection(FACTS, mynetworks=False).reason("198.18.0.77") == ""


@pytest.mark.parametrize(
    ("name", "protected"),
    [
        ("mail.example.com", True),
        ("MAIL.example.com", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("notexample.org", False),
        ("evilmail.example.com", False),
        ("mail.example.com.evil.test", False),
        ("", False),
    ],
)
def test_host_names(name: str, *, protected: bool) -> None:
    protection = Protection(Facts(), names=["mail.example.com", ".Example.org"])
    assert bool(protection.reason("198.51.100.7", name)) is protected


def test_configuration_and_allowlist() -> None:
    protect = Protect(networks=("203.0.113.1",), names=("mx.example.com",), mynetworks=False)
    protection = Protection.of(FACTS, protect, ["203.0.113.2", ".example.org"])
    assert protection.reason("203.0.113.1")
    assert protection.reason("203.0.113.2")
    assert protection.reason("203.0.113.3", "mx.example.com")
    assert protection.reason("203.0.113.3", "a.example.org")
    assert not protection.reason("203.0.113.3")
    assert not protection.reason("198.18.0.77")


def test_no_names_protect_nobody_by_name() -> None:
    assert Protection(Facts()).reason("198.51.100.7", "any.example.com") == ""


def test_the_firewall_gets_the_same_list() -> None:
    networks = Protection(FACTS, networks=["203.0.113.96/27"]).networks
    assert {"127.0.0.0/8", "::1", "198.51.100.1", "198.18.0.0/24", "203.0.113.96/27"} <= set(
        networks
    )


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_address_of_a_protected_network_is_protected(value: object, prefix: int) -> None:
    host = str(value)
    assume(not host.startswith("::ffff:"))  # an IPv4 address in other clothes
    length = min(prefix, 32 if "." in host else 128)
    network = address.subject(f"{host}/{length}")
    assert Protection(Facts(), networks=[network]).reason(address.canonical(host))


def test_whether_names_protect() -> None:
    assert not Protection(FACTS).by_name
    assert Protection(FACTS, names=("mx.example.com",)).by_name
    assert Protection(FACTS, names=(".example.com",)).by_name


def test_senders_are_protected_only_where_the_operator_says_so() -> None:
    facts = Facts(mynetworks=("198.51.100.0/24",))
    allowed = ["account:alice", "198.51.100.9", ".example.com"]
    found = Protection.of(facts, Protect(), allowed)
    assert found.reason("account:alice") == "allowed by the operator"
    assert not found.reason("account:bob")
    assert found.reason("198.51.100.7") == "in Postfix's mynetworks"
    assert not found.sender("198.51.100.7")
    assert not found.sender("203.0.113.7")
    assert found.sender("account:alice")
    with_host = Protection.of(Facts(), Protect(), allowed)
    assert with_host.sender("198.51.100.9") == "allowed by the operator"
