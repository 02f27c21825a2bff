"""When a refresh has anything to report; the rest is in tests/system/test_names.py."""

import pytest

from throttled.cli.allow import changed, matches
from throttled.control.results import AllowRow
from throttled.store.names import GRACE

NOW = 1_700_000_000.0
NAME = "probe.example.net"
ROWS = (
    AllowRow("192.0.2.1", NOW, None, "", NAME),
    AllowRow("192.0.2.2", NOW, None, "", NAME, NOW),
)


@pytest.mark.parametrize(
    ("found", "after", "expected"),
    [
        (["192.0.2.1"], 0.0, False),
        (["192.0.2.1"], GRACE - 1, False),
        (["192.0.2.1"], GRACE, True),  # one is missing for long enough
        (["192.0.2.1", "192.0.2.2"], 0.0, True),  # it is back
        (["192.0.2.3"], 0.0, True),
    ],
)
def test_what_has_to_be_sent(found: list[str], after: float, expected: bool) -> None:  # noqa: FBT001
    assert changed(ROWS, found, NOW + after) is expected


def test_what_a_name_matches() -> None:
    assert "ends in .example.net" in matches(".example.net")
    assert f"throttled allow --resolve {NAME}" in matches(NAME)
