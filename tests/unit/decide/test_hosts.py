import pytest

from throttled.decide import hosts as module
from throttled.decide.hosts import Hosts, this_one
from throttled.facts import Facts

FACTS = Facts(hostnames=frozenset({"MX.Example.com", "short"}))


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("mx.example.com", True),
        ("MX.EXAMPLE.COM", True),
        ("mx.example.com.", True),
        ("mx", True),
        ("Mx", True),
        ("mx.example.org", False),
        ("mx.example", False),
        ("example.com", False),
        ("short", True),
        ("short.any.example", True),
        ("shorter", False),
        ("198.51.100.1", False),
    ],
)
def test_names(host: str, *, ours: bool) -> None:
    hosts = Hosts(FACTS)
    hosts.see(0, host)
    assert hosts.counts(0, host) is ours


def test_all_count_where_the_hosts_names_or_the_lines_are_not_known() -> None:
    assert Hosts(Facts()).counts(0, "any")
    assert Hosts(FACTS).counts(0, "")


def test_localhost_counts_where_it_is_alone() -> None:
    hosts = Hosts(FACTS)
    for host in ("localhost", "LOCALHOST.localdomain"):
        assert not hosts.see(0, host)
        assert hosts.counts(0, host)
    assert hosts.see(0, "other")
    assert not hosts.counts(0, "localhost")
    assert hosts.counts(1, "localhost")
    assert not hosts.see(0, "mx")


def test_localhost_beside_this_host_does_not_count_even_if_that_is_its_name() -> None:
    hosts = Hosts(Facts(hostnames=frozenset({"localhost", "mx"})))
    hosts.see(0, "mx")
    assert not hosts.counts(0, "localhost")


def test_a_local_log() -> None:
    hosts = Hosts(FACTS)
    hosts.local(3)
    hosts.see(3, "old-name")
    assert hosts.counts(3, "old-name")


def test_logs_of_others_only() -> None:
    hosts = Hosts(FACTS)
    for log, host, count in ((0, "a", 2), (0, "b", 5), (1, "a", 1), (1, "mx", 0), (2, "mx", 3)):
        hosts.see(log, host)
        for _ in range(count):
            hosts.ignore(log, host)  # of "mx": behind a proxy
    assert hosts.others() == {0: {"b": 5, "a": 2}}
    assert list(hosts.others()[0]) == ["b", "a"]
    assert hosts.total() == 8
    hosts.facts = Facts(hostnames=frozenset({"b", "mx"}))
    assert hosts.others() == {}


def test_a_log_of_many_hosts() -> None:
    hosts = Hosts(FACTS)
    for number in range(3 * module._NAMES):
        hosts.see(0, f"host{number}")
        hosts.ignore(0, f"host{number}")
    assert len(hosts.others()[0]) == module._NAMES


def test_this_one() -> None:
    assert [this_one(host, FACTS) for host in ("mx", "localhost", "", "other")] == [
        True,
        True,
        True,
        False,
    ]
    assert this_one("other", Facts())
