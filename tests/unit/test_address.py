import ast
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled import address


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_subject(text: str, canonical: str) -> None:
    assert address.subject(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "x", "192.0.2", "192.0.2.7/33", "192.0.2.7/-1", "192.0.2.7/", "192.0.2.7/1e1", "::/129",
     "::ffff:192.0.2.7/64", "192.0.2.7/24/24", "192.0.2.7\0", "é", "192.0.2.7/²", "01.2.3.4"],
)  # fmt: skip
def test_not_a_subject(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a|out of range"):
        address.subject(text)


def test_canonical() -> None:
    assert address.canonical("2001:DB8::0:1") == "2001:db8::1"


def test_version_and_kind() -> None:
    assert address.version("192.0.2.0/24") == 4
    assert address.version("2001:db8::1") == 6
    assert address.is_network("192.0.2.0/24")
    assert not address.is_network("192.0.2.1")


@pytest.mark.parametrize(
    ("subject", "kind", "network"),
    [
        ("192.0.2.7", "address", "192.0.2.0/24"),
        ("2001:db8::1", "address", "2001:db8::/64"),
        ("192.0.2.0/24", "network", ""),
        ("2001:db8::/64", "network", ""),
        ("account:alice/sales@example.com", "account", ""),
        ("uid:33", "uid", ""),
        ("mailbox:bob@example.com", "mailbox", ""),
        ("domain:example.com", "domain", ""),
    ],
)
def test_kind(subject: str, kind: str, network: str) -> None:
    assert address.kind(subject) == kind
    assert address.is_network(subject) == (kind == "network")
    assert address.network_of(subject) == network
    assert address.is_subject(subject) == (kind in {"address", "network"})


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.0/8", "::1", "::1/128", "::ffff:127.0.0.1"])
def test_loopback(text: str) -> None:
    assert address.is_loopback(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "0.0.0.0/0", "::", "::1234", "127.example", ""])
def test_not_loopback(text: str) -> None:
    assert not address.is_loopback(text)


def test_private() -> None:
    for text in ("10.0.0.2", "172.31.255.1", "192.168.0.0/24", "100.64.0.1", "fd00::1"):
        assert address.is_private(text)
    for text in ("172.32.0.1", "100.128.0.1", "10.0.0.0/7", "2001:db8::1", "fe80::1", "account:a"):
        assert not address.is_private(text)


def test_the_first_table_of_what_contains_a_subject_counts() -> None:
    tables = {
        24: {address.pack("198.51.100.0"): "wide"},
        32: {address.pack("198.51.100.7"): "narrow", address.pack("2001:db8::"): "six"},
    }
    for subject in ("198.51.100.7", "198.51.100.0/24", "198.51.100.8/31"):
        assert address.covering(tables, subject) == "wide"
        narrow = dict(reversed(tables.items()))
        assert address.covering(narrow, subject) == ("wide" if "/" in subject else "narrow")
    assert address.covering(tables, "2001:db8:1::7") == "six"
    for subject in ("198.51.0.0/16", "203.0.113.7", "2001:db9::", "2001::/16"):
        assert address.covering(tables, subject) is None
    assert address.covering({64: {address.pack("2001:db8::"): ""}}, "198.51.100.7") is None
    with pytest.raises(ValueError, match="not an IP address"):
        address.covering(tables, "mx.example.org")


# Nobody else reads or makes the text of a subject

PACKAGE = Path(address.__file__).parent
#: What variables with a subject are called.
SUBJECTS = {"address", "canonical", "client", "far", "network", "own", "peer", "subject"}
#: Methods that read text.
READING = {"count", "endswith", "find", "partition", "removeprefix", "rpartition", "rsplit",
           "split", "startswith"}  # fmt: skip


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def readers(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that look into the text of a subject."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=ast.Constant(value=":" | "/"), ops=[ast.In() | ast.NotIn()]):
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=of, attr=method), args=[what, *_]):
                zone = isinstance(what, ast.Constant) and what.value == "%"  # of a system's answer
                if method in READING and _name(of) in SUBJECTS and not zone:
                    yield node.lineno


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        ('":" in client', True),
        ('"/" not in subject', True),
        ('event.client.startswith("::ffff:")', True),
        ('network.partition("/")', True),
        ("address.parse(network)", False),
        ('listen.startswith("/")', False),
        ('"x" in subject', False),
    ],
)  # fmt: skip
def test_what_reads_a_subject(line: str, *, reads: bool) -> None:
    assert bool(list(readers(ast.parse(line)))) == reads


def test_no_other_module_reads_the_text_of_subjects() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path != Path(address.__file__)
        for line in readers(ast.parse(path.read_text()))
    ]
    assert not found, "ask throttled.address"


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("64:ff9b::c000:207", ""),
        ("64:ff9b:1::c000:207", ""),
        ("2002:c000:207::1", ""),
        ("2001:0:1:2::3", ""),
    ],
)
def test_network_of(client: str, network: str) -> None:
    assert address.network_of(client) == network


def test_is_subject() -> None:
    assert address.is_subject("192.0.2.0/24")
    assert not address.is_subject(".example.com")


def test_contains() -> None:
    network = address.parse("192.0.2.0/24")
    assert address.contains(network, address.pack("192.0.2.99"))
    assert not address.contains(network, address.pack("192.0.3.99"))
    assert not address.contains(address.parse("::/0"), address.pack("192.0.2.99"))


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("198.51.100.7", "198.51.100.0/24", True),
        ("198.51.100.0/24", "198.51.100.0/24", True),
        ("198.51.100.0/23", "198.51.100.0/24", False),
        ("198.51.101.7", "198.51.100.0/24", False),
        ("2001:db8::1", "198.51.100.0/24", False),
        ("198.51.100.7", "::/0", False),
        ("198.51.100.7", ".example.com", False),
    ],
)
def test_inside(inner: str, outer: str, expected: bool) -> None:  # noqa: FBT001 - parametrized
    assert address.inside(inner, outer) is expected


@given(st.ip_addresses(), st.integers(0, 128))
def test_around_is_every_network_that_contains_it(
    value: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int
) -> None:
    subject = address.subject(f"{address.canonical(str(value))}/{min(prefix, 32)}")
    found = address.around(subject)
    assert found[0] == subject
    assert all(address.inside(subject, each) for each in found)
    assert len(set(found)) == address.parse(subject)[1] + 1
    assert found == [address.subject(each) for each in found]


@given(st.ip_addresses())
def test_canonical_as_the_standard_library_has_it(
    value: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    mapped = value.ipv4_mapped if isinstance(value, ipaddress.IPv6Address) else None
    text = address.canonical(str(value))
    assert ipaddress.ip_address(text) == (mapped or value)
    assert address.canonical(text) == text


#: What is often an address or a network, and often nearly one.
PARTS = ("198.51.100.", "7", "00", "300", "2001:DB8:", ":", "::ffff:", "a", "/", "24", "64", " ")


@given(st.text(max_size=60) | st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
@example("198.51.100.7/24")
@example("::FFFF:198.51.100.7")
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address.subject(text)
    except ValueError:
        return
    assert address.subject(address.subject(text)) == address.subject(text)


@pytest.mark.parametrize(
    ("subject", "narrowest", "widest"),
    [
        ("198.51.100.7", ["198.51.100.7", "198.51.100.6/31"], "0.0.0.0/0"),
        ("198.51.100.0/24", ["198.51.100.0/24", "198.51.100.0/23"], "0.0.0.0/0"),
        ("2001:db8::7", ["2001:db8::7", "2001:db8::6/127"], "::/0"),
    ],
)
def test_around(subject: str, narrowest: list[str], widest: str) -> None:
    found = address.around(subject)
    assert (found[:2], found[-1]) == (narrowest, widest)
    assert len(found) == address.parse(subject)[1] + 1


def test_the_network_of_an_address_that_no_other_test_asked_for() -> None:
    assert address.network_of("192.0.2.213") == "192.0.2.0/24"


def test_subjects_that_are_no_address() -> None:
    assert address.is_named("account:a/b@example.test")
    assert not address.is_named("2001:db8::7")
    assert address.around("account:alice") == ["account:alice"]
    assert address.inside("account:alice", "account:alice")
    assert not address.inside("account:alice", "198.51.100.0/24")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("198.51.100.7/24", True),
        ("198.51.100.0/24", False),
        ("198.51.100.7/32", False),
        ("198.51.100.7", False),
        ("2001:DB8::1/64", True),
        ("2001:DB8:0::/64", False),
    ],
)
def test_host_bits_of_what_was_written(written: str, *, expected: bool) -> None:
    assert address.host_bits(written, address.subject(written)) is expected
