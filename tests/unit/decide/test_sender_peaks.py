"""Peaks of senders, from lines and from stored days."""

import pytest
from msgspec.structs import replace

from throttled.decide import sender_peaks as room
from throttled.decide.sender_peaks import SenderPeaks, WatchedSenders
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import Limit, Override, default_limits
from throttled.settings import Accounts, Policy
from unit.decide.test_senders import DAY, Host

BOUNCES = default_limits()["account-bounces"]


class Log(Host):
    """A host whose senders are only watched."""

    def __init__(self, **limits: Limit) -> None:
        super().__init__(**limits)
        self.senders: SenderPeaks = SenderPeaks(
            Policy(limits={**default_limits(), **limits}),
            Facts(mynetworks=("198.51.100.0/24",), sasl_domain="example.test"),
        )


def watched(peaks: SenderPeaks, limit: str, *, stored: bool = False) -> WatchedSenders:
    return next(one for one in peaks.watched(stored=stored) if one.name == limit)


def row(subject: str, recipients: int, **did: int) -> tuple[str, dict[str, int]]:
    return subject, {"recipients": recipients, **did}


def test_peaks_below_and_above_the_thresholds() -> None:
    host = Log()
    for n in range(3):
        host.send(100.0 * n, "alice", recipients=4, bounces=2)
    host.send(2 * 3600.0, "alice", recipients=4, bounces=3)
    host.send(1.0, "mallory", recipients=90, bounces=60)
    host.send(1.0, "carol")
    found = watched(host.senders, "account-bounces")
    assert (found.limit, found.senders, found.missing) == (BOUNCES, 3, "")
    assert found.peaks == {"account:alice": 6, "account:mallory": 60}
    assert watched(host.senders, "account-networks").peaks["account:carol"] == 1
    assert host.reported() == []


def test_what_the_share_excuses_is_no_peak() -> None:
    host = Log()
    host.send(1.0, "news", recipients=1000, bounces=60)
    found = watched(host.senders, "account-bounces")
    assert (found.senders, found.peaks) == (1, {})


def test_what_is_usual_is_no_peak() -> None:
    host = Log()
    host.send(1.0, "alice", recipients=30)
    assert watched(host.senders, "account-volume").peaks == {}  # no day to compare with
    host.send(2.5 * DAY, "alice", recipients=300)
    assert watched(host.senders, "account-volume").peaks == {}
    host.send(4.5 * DAY, "alice", recipients=3001)
    assert watched(host.senders, "account-volume").peaks == {"account:alice": 3001}
    assert host.senders.days()[0].day == 4


def test_who_has_an_entry_of_its_own_says_nothing() -> None:
    own = {
        "account:alice@example.test": Override(soft=50),
        "account:carol": Override(enabled=False),
    }
    host = Log(**{"account-bounces": replace(BOUNCES, for_=own)})
    for user in ("alice", "carol", "bob"):
        host.send(1.0, user, recipients=60, bounces=60)
    found = watched(host.senders, "account-bounces")
    assert (found.senders, found.peaks) == (1, {"account:bob": 60})


def test_stored_days() -> None:
    limits = {
        "day": Limit(of="account", count="bounces", within=duration("1d"), soft=10, share="10%"),
        "mail": Limit(of="mailbox", count="messages", within=duration("1d"), soft=10),
        "hosts": Limit(of="inside", count="connections", within=duration("1d"), soft=10),
    }
    peaks = Log(**limits).senders
    assert isinstance(peaks, SenderPeaks)
    peaks.add_day(
        7,
        [
            row("account:alice", 50, bounces=9),
            row("account:news", 1000, bounces=100),
            row("mailbox:a@b.test", 0, messages=0, received=8),
        ],
    )
    peaks.add_day(8, [row("account:alice", 501, bounces=51)])
    day = watched(peaks, "day", stored=True)
    assert (day.senders, day.peaks, day.missing) == (2, {"account:alice": 51}, "")
    assert watched(peaks, "mail", stored=True).peaks == {"mailbox:a@b.test": 8}
    assert watched(peaks, "account-volume", stored=True).peaks == {"account:alice": 501}
    hour = watched(peaks, "account-bounces", stored=True)
    assert (hour.senders, hour.peaks) == (2, {})
    assert hour.missing == "the database has whole days only"
    for limit, count in (("account-networks", "networks"), ("hosts", "connections")):
        missing = watched(peaks, limit, stored=True).missing
        assert missing == f"the database has no {count} of senders"


def test_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CAP", 2)
    host = Log()
    for day in (0, 1):
        for user in ("alice", "bob", "carol"):
            host.send(day * DAY + 1, user, recipients=2, bounces=2)
    found = watched(host.senders, "account-bounces")
    assert (found.senders, sorted(found.peaks)) == (2, ["account:alice", "account:bob"])


def test_accounts_that_are_disabled() -> None:
    peaks = SenderPeaks(Policy(accounts=Accounts(enabled=False)), Facts())
    peaks.add_day(1, [row("account:alice", 5)])
    assert peaks.watched() == []
