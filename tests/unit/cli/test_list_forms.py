"""Lists as others publish them: Spamhaus DROP as text and JSON lines, CSV."""

from typing import Any

import pytest

from throttled.cli import lists
from throttled.cli.lists import Bad, Wanted
from throttled.control.requests import Entered

NOW = 1_800_000_000.0

DROP = b"""; Spamhaus DROP List 2026/11/29 - (c) 2026 The Spamhaus Project SLU
; https://www.spamhaus.org/drop/drop.txt
1.10.16.0/20 ; SBL256894
2.56.192.0/22 ; SBL459831
"""
DROP_JSON = b"""{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}
{"cidr":"2a06:e480::/29","sblid":"SBL301771","rir":"ripencc"}

{"type":"metadata","timestamp":1764374583,"size":2,"records":2,"copyright":"(c)"}
"""
CSV = b"""# Feodo Tracker
"first_seen_utc","dst_ip","dst_port","malware"
"2026-11-01 00:00:00","198.51.100.7","443","QakBot, or so"

"2026-11-02 00:00:00","198.51.100.300","443","Pikabot"
"""


def read(data: bytes) -> list[Any]:
    return list(lists.read(data, Wanted(default="throttle"), NOW))


def test_spamhaus_drop_as_text() -> None:
    assert read(DROP) == [
        (3, Entered("1.10.16.0/20", "throttle", why="SBL256894")),
        (4, Entered("2.56.192.0/22", "throttle", why="SBL459831")),
    ]


def test_spamhaus_drop_as_json_lines() -> None:
    first, wide = read(DROP_JSON)
    assert first == (1, Entered("1.10.16.0/20", "throttle", why="SBL256894"))
    assert (wide.why, wide.refused) == ("2a06:e480::/29 is wider than /32", True)
    cut = DROP_JSON.replace(b'"records":2', b'"records":3')
    assert read(cut)[-1] == Bad(0, "", "it has 2 entries and should have 3: a part is missing")
    plain = DROP_JSON.replace(b',"records":2', b"")
    assert len(read(plain)) == 2


def test_json_lines_with_other_things() -> None:
    found = read(b'{"ip": "198.51.100.7", "action": "ban"}\n{"ip": 7}\n[]\n{"ip"\n{"a": 1}')
    assert found[0] == (1, Entered("198.51.100.7", "ban"))
    assert [bad.why.split(":")[0] for bad in found[1:]] == [
        "there is no address in it",
        "not an object",
        "not JSON",
        "there is no address in it",
    ]


def test_csv_with_names_and_without() -> None:
    good, bad = read(CSV)
    assert good == (3, Entered("198.51.100.7", "throttle", why="QakBot, or so"))
    assert bad.line == 5
    assert read(b"198.51.100.7,spam,3\n198.51.100.8") == [
        (1, Entered("198.51.100.7", "throttle")),
        (2, Entered("198.51.100.8", "throttle")),
    ]
    (broken,) = read(b'ip,why\n"198.51.100.7"x,y')
    assert broken.why.startswith("not CSV: ")


def test_csv_of_crowdsec() -> None:
    """What `cscli decisions list -o raw` writes."""
    text = b"""id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id
7,crowdsec,Ip:198.51.100.7,crowdsecurity/postfix-spam,ban,,,11,3h59m,false,2
8,cscli,Range:198.51.100.0/24,manual,ban,,,1,3h59m,false,3
"""
    assert read(text) == [
        (2, Entered("198.51.100.7", "ban", why="crowdsecurity/postfix-spam")),
        (3, Entered("198.51.100.0/24", "ban", why="manual")),
    ]


@pytest.mark.parametrize(
    "text", [b"198.51.100.7\r\n", b"ip,why\r\n198.51.100.7,\r\n", b'["198.51.100.7"]\r\n']
)
def test_a_byte_order_mark_is_skipped(text: bytes) -> None:
    (found,) = read(b"\xef\xbb\xbf" + text)
    assert found[1] == Entered("198.51.100.7", "throttle")


def test_what_is_wrong_is_short() -> None:
    (bad,) = read(b'{"ip": "' + b"1" * 100_000 + b'"}\n')
    assert len(bad.text) <= 100
    assert len(bad.why) <= lists.WHY


@pytest.mark.parametrize("text", [b"198.51.100.7 # a, b", b"198.51.100.7 ; a, b"])
def test_a_comma_in_a_comment_is_no_csv(text: bytes) -> None:
    assert read(text) == [(1, Entered("198.51.100.7", "throttle", why="a, b"))]


def test_a_first_line_that_is_neither_is_a_bad_line() -> None:
    for text in (b"nonsense, more\n198.51.100.7", b'"a"b,c\n198.51.100.7'):
        bad, good = read(text)
        assert (bad.line, good) == (1, (2, Entered("198.51.100.7", "throttle")))


def test_host_bits_are_warned_of() -> None:
    wanted = Wanted("ban")
    list(lists.read(b"198.51.100.7/24\n198.51.100.0/24\n198.51.100.7/32\n", wanted, NOW))
    assert wanted.warnings == [
        "198.51.100.7/24 is an address in 198.51.100.0/24, which is what is meant here"
    ]
