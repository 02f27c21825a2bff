import pytest
from msgspec.structs import replace

from throttled.facts import Facts, Service


def service(tag: str, port: int, scope: str) -> Service:
    return Service("/etc/postfix", str(port), "smtpd", tag, port, scope)  # type: ignore[arg-type]


FACTS = Facts(
    services=(
        service("postfix", 25, "mx"),
        service("postfix/submission", 587, "submission"),
        service("postfix/submissions", 465, "submission"),
        service("out", 2587, "submission"),
    )
)


@pytest.mark.parametrize(
    ("instance", "scope"),
    [
        ("postfix", "mx"),
        ("out", "submission"),
        ("postfix/submission", "submission"),
        ("postfix/smtps", "submission"),
        ("postfix-in", "mx"),
        ("", "mx"),
    ],
)
def test_scope_of_a_tag(instance: str, scope: str) -> None:
    assert FACTS.scope_of(instance) == scope


def test_the_operators_word_on_a_tag_comes_first() -> None:
    facts = replace(FACTS, scopes={"postfix": "submission"})
    assert facts.scope_of("postfix") == "submission"


def test_ports() -> None:
    assert FACTS.ports("mx") == (25,)
    assert FACTS.ports("submission") == (465, 587, 2587)


def test_a_tag_all_of_whose_services_are_behind_a_proxy() -> None:
    behind = Service("/etc/postfix", "smtp", "smtpd", "postfix", 25, "mx", "haproxy")
    direct = Service("/etc/postfix", "587", "smtpd", "postfix", 587, "submission")
    assert Facts(services=(behind,)).proxied("postfix")
    assert not Facts(services=(behind, direct)).proxied("postfix")
    assert not Facts(services=(behind,)).proxied("postfix/other")


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("mx.EXAMPLE.com", True),
        ("mx.example.com.", True),
        ("MX", True),
        ("short.example.org", True),
        ("mx.example.org", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_names_of_this_host(host: str, *, ours: bool) -> None:
    assert Facts(hostnames=frozenset({"mx.example.com", "Short"})).ours(host) is ours
