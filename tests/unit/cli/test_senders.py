"""What `explain` prints of a sender: the first line answers."""

import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.control.results import ExplainResult, SenderFacts, SenderMeterRow
from throttled.model import Past, Report, SenderRow, Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

ALICE = "account:alice"
NOW = 1_790_000_000.0
ABOVE = SenderMeterRow("account-bounces", "bounces", 11, 10, None, 3600.0, "report", above=True)
BELOW = SenderMeterRow("x", "bytes", 11, None, 20_000, 3600.0, "enforce", above=False)
REPORT = Report(NOW, ALICE, "account-bounces", "bounces", 11, 10, 3600.0, "account:Alice")


def result(
    *meters: SenderMeterRow, reports: tuple[Report, ...] = (), days: int = 3
) -> ExplainResult:
    today = SenderRow(ALICE, 1 if days else 0, 1200, 30_000, 11, 0, 40, 50)
    if not days:
        today = SenderRow(ALICE, 0, 0, 0, 0, 0, 0, 0)
    sender = SenderFacts("account:Alice", today, days, list(meters), list(reports))
    return ExplainResult(ALICE, "", "", [], [], 0, [], [], Past(), [], "nothing", sender=sender)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            result(ABOVE, BELOW, reports=(REPORT,)),
            "above account-bounces: 11 bounces within 1h, reported above 10",
        ),
        (result(BELOW), "within its limits now"),
        (result(), "no active entries"),
        (result(days=0), "not known: no mail in 35 days"),
    ],
)
def test_the_first_line(cli: "Cli", daemon: "Daemon", known: ExplainResult, said: str) -> None:
    daemon.answer = known
    assert cli("explain", ALICE).out.splitlines()[0] == f"account:Alice: {said}"


def test_all_of_it(cli: "Cli", daemon: "Daemon") -> None:
    until = time.time() + 9030
    row = Snapshot(ALICE, "submission", "throttle", "account-bounces", 0, NOW, until, "11 > 10", 0)
    known = result(ABOVE, BELOW, reports=(REPORT,))
    daemon.answer = replace(known, active=[row], would=True)
    lines = cli("explain", ALICE).out.splitlines()
    assert lines[0].startswith(
        "account:Alice: would be throttled for 2h30m more (account-bounces);"
    )
    assert "Usual: 40 recipients a day, at most 50 (3 earlier days with mail)" in lines
    rows = [line.split() for line in lines]
    assert ["x", "bytes", "11", "-", "20,000", "1h", "throttled", "or", "banned"] in rows
    assert lines[-2].endswith("account-bounces: 11 bounces within 1h, soft 10")
    assert lines[-1] == "Next: nothing"
    assert " in submission" not in cli("explain", ALICE).out
    assert "packets" not in cli("explain", ALICE).out
    assert "Sessions" not in cli("explain", ALICE).out


def test_from_how_many_addresses_an_account_is_guessed(cli: "Cli", daemon: "Daemon") -> None:
    known = result(replace(ABOVE, limit="guessing", count="guesses", value=1234))
    assert known.sender is not None
    daemon.answer = replace(known, sender=replace(known.sender, guessed_from=1205))
    lines = cli("explain", ALICE).out.splitlines()
    assert lines[0].endswith("above guessing: 1,234 guesses within 1h, reported above 10")
    from_where = "Failed logins: from 1,205 addresses (IPv6: /64) that did not log in themselves"
    assert from_where in lines
    daemon.answer = replace(known, sender=replace(known.sender, guessed_from=1))
    assert "from 1 address (IPv6: /64) that" in cli("explain", ALICE).out
