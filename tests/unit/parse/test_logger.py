import pytest

from throttled.parse.header import Origin
from throttled.parse.logger import read

ORIGIN = Origin("mx", "", "rsyslogd", 7)


@pytest.mark.parametrize(
    ("body", "count", "where"),
    [
        ("Suppressed 2345 messages from postfix@-.service", 2345, "postfix@-.service"),
        ("imuxsock lost 432 messages from pid 9832 due to rate-limiting", 432, "9832"),
        ("imuxsock lost 432 messages due to rate-limiting", 432, ""),
        ("imjournal: 236 messages lost due to rate-limiting", 236, ""),
        ("imuxsock[pid 51]: 7 messages lost due to rate-limiting (2 allowed)", 7, "51"),
        ("imuxsock[pid: 51, name: /x]: 7 messages lost due to rate-limiting", 7, "51"),
    ],
)
def test_lines_lost(body: str, count: int, where: str) -> None:
    event = read(body, ORIGIN, 1.5)
    assert event is not None
    assert (event.kind, event.client) == ("lines_lost", "")
    assert (event.count, event.where) == (count, where)
    assert (event.host, event.instance, event.process, event.pid, event.time) == (*ORIGIN, 1.5)


@pytest.mark.parametrize(
    "body", ["", "Journal started", "imuxsock[pid 51]: begin to drop messages"]
)
def test_no_event(body: str) -> None:
    assert read(body, ORIGIN, 0.0) is None
