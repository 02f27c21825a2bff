import pytest

from throttled.parse.anvil import read
from throttled.parse.header import Origin

ORIGIN = Origin("mx", "postfix", "anvil", 7)


@pytest.mark.parametrize(
    ("ident", "service", "client"),
    [
        ("smtp:203.0.113.8", "smtp", "203.0.113.8"),
        ("smtp:2001:DB8::8", "smtp", "2001:db8::8"),
        ("10025:2001:db8::8", "10025", "2001:db8::8"),
        ("smtp:2001:db8:b::/84", "smtp", "2001:db8:b::/84"),
        ("127.0.0.1:10025:203.0.113.8", "127.0.0.1:10025", "203.0.113.8"),
        ("127.0.0.1:25:2001:db8::8", "127.0.0.1:25", "2001:db8::8"),
        ("[::1]:25:2001:db8::8", "[::1]:25", "2001:db8::8"),
        ("localhost:25:2001:db8::8", "localhost:25", "2001:db8::8"),
        ("mx.example.net:smtp:203.0.113.8", "mx.example.net:smtp", "203.0.113.8"),
    ],
)
def test_service_and_client(ident: str, service: str, client: str) -> None:
    event = read(
        f"statistics: max connection rate 61/60s for ({ident}) at Aug 22 10:00:01", ORIGIN, 1.5
    )
    assert event is not None
    assert (event.kind, event.service, event.client) == ("peak", service, client)
    assert (event.count, event.where) == (61, "connection rate")
    assert (event.host, event.instance, event.process, event.pid, event.time) == (*ORIGIN, 1.5)


@pytest.mark.parametrize(
    "body",
    [
        "statistics: max cache size 637 at Nov 22 14:16:49",
        "statistics: max connection rate 61/60s for (smtp:unknown) at Aug 22 10:00:01",
        "statistics: max connection rate 61/60s for (203.0.113.8) at Aug 22 10:00:01",
        "statistics: max connection rate 61/60s for (:203.0.113.8) at Aug 22 10:00:01",
        "statistics: max connection rate 61/60s for () at Aug 22 10:00:01",
        "",
    ],
)
def test_no_event(body: str) -> None:
    assert read(body, ORIGIN, 0.0) is None
