import pytest

from throttled.decide.sender_peaks import WatchedSenders
from throttled.decide.suggest_senders import Pair, SenderPeak, SenderSuggestion, suggest_senders
from throttled.duration import duration
from throttled.limits import Limit, default_limits

DAY = 86400.0
BOUNCES = default_limits()["account-bounces"]


def suggested(
    limit: Limit,
    *peaks: int,
    name: str = "own",
    idle: int = 10,
    span: float = 9 * DAY,
    missing: str = "",
) -> SenderSuggestion:
    by_name = {f"account:{n}": peak for n, peak in enumerate(peaks)}
    watched = WatchedSenders(name, limit, len(peaks) + idle, by_name, missing)
    (found,) = suggest_senders([watched], span)
    return found


def limit(count: str = "messages", soft: int | None = 100, hard: int | None = None) -> Limit:
    return Limit(of="account", count=count, within=duration("1h"), soft=soft, hard=hard)  # type: ignore[arg-type]


def test_all_of_a_suggestion() -> None:
    found = suggested(BOUNCES, 2, 4, 60, 70, name="account-bounces", idle=9)
    assert found == SenderSuggestion(
        "account-bounces",
        "account",
        "bounces",
        3600.0,
        senders=11,
        usual=0,
        highest=4,
        above=2,
        above_senders=[SenderPeak("account:3", 70), SenderPeak("account:2", 60)],
        now=Pair(10, 0),
        proposed=Pair(5, 0),
        reason=(
            "the highest of 11 senders that were not above the limit is 4; "
            "values up to 10% of the recipients are left out"
        ),
    )


@pytest.mark.parametrize(
    ("now", "peaks", "proposed"),
    [
        (limit(soft=100), (1,), Pair(50, 0)),  # not below half
        (limit(soft=100), (61,), Pair(80, 0)),
        (limit(soft=100), (100, 5000), Pair(150, 0)),
        (limit(soft=100, hard=200), (60,), Pair(80, 200)),
        (limit(soft=None, hard=200), (60,), Pair(0, 120)),
        (limit("bytes", 4_000_000_000), (3_900_000_000,), Pair(4_000_000_000, 0)),
        (limit("bytes", 2_000_000_000), (1_900_000_000,), Pair(2_500_000_000, 0)),
    ],
)
def test_proposals(now: Limit, peaks: tuple[int, ...], proposed: Pair) -> None:
    assert suggested(now, *peaks).proposed == proposed


def test_the_usual_is_the_median() -> None:
    assert suggested(limit(), *range(1, 12), idle=0).usual == 6
    assert suggested(limit(), 7, idle=1).usual == 7


def test_default_thresholds_bound_only_the_limit_they_are_of() -> None:
    tight = Limit(of="account", count="bounces", within=duration("1h"), soft=20)
    assert suggested(tight, 1, name="account-bounces").proposed == Pair(5, 0)
    other = Limit(of="account", count="bounces", within=duration("2h"), soft=20)
    assert suggested(other, 1, name="account-bounces").proposed == Pair(10, 0)


def test_what_is_usual_is_named() -> None:
    found = suggested(default_limits()["account-volume"], 9)
    assert found.reason.endswith("; values up to 10 times the sender's highest day are left out")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (suggested(limit(), 1, idle=8), "only 9 senders below the limit; at least 10 are needed"),
        (suggested(limit(), 1, span=3600.0), "only 1.0 hours seen; at least 24 are needed"),
        (suggested(limit(), 500), "no sender below the limit did it"),
        (suggested(limit(), 1, missing="nothing is stored"), "nothing is stored"),
        (suggested(limit(), idle=0), "only 0 senders below the limit; at least 10 are needed"),
    ],
)
def test_nothing_is_proposed(found: SenderSuggestion, why: str) -> None:
    assert (found.proposed, found.reason) == (None, why)


def test_twenty_are_listed() -> None:
    found = suggested(limit(), *range(101, 126))
    assert (found.above, len(found.above_senders)) == (25, 20)
    assert found.above_senders[0] == SenderPeak("account:24", 125)
