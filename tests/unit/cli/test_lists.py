"""Lists of addresses: text and JSON, good and bad entries."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.cli import lists, output
from throttled.cli.lists import Bad, Wanted
from throttled.control.requests import Entered
from throttled.control.results import AllowRow, ListResult
from throttled.errors import UsageError
from throttled.model import Snapshot

NOW = 1_800_000_000.0
BAN = Wanted(action="ban")


def read(text: str | bytes, wanted: Wanted = BAN) -> list[Any]:
    data = text.encode() if isinstance(text, str) else text
    return list(lists.read(data, wanted, NOW))


def test_a_line_says_whom_what_where_how_long_and_why() -> None:
    text = (
        "# bad ones\r\n\n"
        "198.51.100.7\r\n"
        "\t198.51.100.0/24 4h throttle submission # spam; often\n"
        f"2001:DB8::1 mx {output.iso(NOW + 60)}\n"
        ".Example.com allow 1d #office\n"
    )
    untold = "it names no action: use --as ban, throttle or allow"
    assert read(text, Wanted()) == [
        Bad(3, "198.51.100.7", untold),
        (4, Entered("198.51.100.0/24", "throttle", "submission", 14400.0, "spam; often")),
        Bad(5, f"2001:DB8::1 mx {output.iso(NOW + 60)}", untold),
        (6, Entered(".example.com", "allow", None, 86400.0, "office")),
    ]
    assert read(text)[2] == (5, Entered("2001:db8::1", "ban", "mx", 60.0))


def test_the_command_line_has_the_last_word() -> None:
    (found,) = read("198.51.100.7 throttle 1h mx", Wanted("allow", 60.0))
    assert found == (1, Entered("198.51.100.7", "allow", None, 60.0))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "not an IP address: 'nonsense'"),
        ("198.51.100.7 mx mx", "'mx': said twice"),
        ("198.51.100.7 1h 2h", "'2h': said twice"),
        ("198.51.100.7 soon", "'soon' is no action, scope, duration or time"),
        ("198.51.100.7 2020-01-01T00:00:00+00:00", "it ended 2020-01-01T00:00:00+00:00"),
        ("198.0.0.0/8", "198.0.0.0/8 is wider than /16"),
        ("198.51.100.7" + " " * lists.LINE, "longer than 2000 characters"),
        ('[7, "198.51.100.7"]', "neither an address nor an object"),
        ('[{"subject": 7}, "198.51.100.7"]', "Expected `str`, got `int` - at `$.subject`"),
        ('[{"subject": "x", "scope": "mars"}]', "Invalid enum value 'mars' - at `$.scope`"),
    ],
)
def test_a_bad_entry_is_named_with_its_reason(text: str, why: str) -> None:
    bad = read(text)[0]
    assert isinstance(bad, Bad)
    assert (bad.line, bad.why) == (1, why)
    assert len(bad.text) <= 100


def test_an_exemption_that_list_prints_is_named() -> None:
    row = Snapshot("198.51.100.7", "mx", "exempt", "operator", 0, NOW - 5, NOW + 600, "because")
    (bad,) = read(json.dumps(output.plain(ListResult([row], 1))), Wanted())
    assert bad.why == "an exemption is not imported: `throttled unban --for` makes one"
    assert read(json.dumps(output.plain(ListResult([row], 1))))[0][1].action == "ban"


def test_force_lets_wide_networks_in() -> None:
    assert read("198.0.0.0/8", Wanted("ban", None, force=True))[0][1].subject == "198.0.0.0/8"


@pytest.mark.parametrize("text", ["{", "[", '{"rows": 7}', '{"total": 0}', "[" * 100_000])
def test_json_that_is_no_list_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        read(text)


def test_what_list_and_allow_print_is_read() -> None:
    row = Snapshot("198.51.100.7", "mx", "ban", "auth", 2, NOW - 5, NOW + 600, "61 > 60", 9)
    printed = json.dumps(output.plain(ListResult([row], 1)))
    expected = Entered("198.51.100.7", "ban", "mx", 600.0, "61 > 60")
    assert read(printed, Wanted()) == [(1, expected)]
    assert read(lists.line(row), Wanted()) == [(1, expected)]
    rows = [AllowRow(".example.com", NOW, None, "us"), AllowRow("198.51.100.7", NOW, NOW + 60)]
    printed = json.dumps({"rows": output.plain(rows)})
    expected_rows = [
        (1, Entered(".example.com", "allow", None, None, "us")),
        (2, Entered("198.51.100.7", "allow", None, 60.0)),
    ]
    assert read(printed, Wanted()) == expected_rows
    text = "\n".join(lists.allowed_line(row.what, row.until or 0.0, row.note) for row in rows)
    assert read(text, Wanted()) == expected_rows


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_entries_bad_entries_or_a_usage_error(data: bytes) -> None:
    try:
        found = read(data, Wanted())
    except UsageError:
        return
    assert all(isinstance(each, Bad) or each[0] > 0 for each in found)


@pytest.mark.parametrize(
    "data",
    [
        b"198.51.100.7 would-ban mx 1h # seen\n",
        b'{"rows": [{"subject": "198.51.100.7", "action": "ban", "scope": "mx"}], "would": true}',
    ],
)
def test_what_was_only_observed_is_not_done_unless_that_is_said(data: bytes) -> None:
    (bad,) = lists.read(data, Wanted(), NOW)
    assert isinstance(bad, Bad)
    assert "would-ban: it was only observed" in bad.why
    (done,) = lists.read(data, Wanted("throttle"), NOW)
    assert not isinstance(done, Bad)
    assert done[1].action == "throttle"


def test_a_line_of_what_was_only_observed() -> None:
    row = Snapshot("198.51.100.7", "mx", "ban", "auth", 1, NOW, NOW + 3600, "x")
    assert lists.line(row, would=True).startswith("198.51.100.7 would-ban mx ")
