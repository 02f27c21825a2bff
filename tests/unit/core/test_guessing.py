"""A store that cannot be read: the account is reported, and throttles expire by themselves.

What a store answers: test_pipeline.py.
"""

import pytest

from throttled.clock import Moment
from throttled.core.guessing import acquitted, reports
from throttled.decide.guessing import Target
from throttled.errors import StoreError
from throttled.settings import Guessing
from throttled.store.store import Store

NOW = Moment(1_796_000_000.0, 5_000.0)


def test_a_store_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the disk is gone", "look at it")

    store = Store.open(":memory:")
    monkeypatch.setattr(store.senders, "reports", fails)
    monkeypatch.setattr(store.listing, "snapshots", fails)
    target = Target("account:boss", 31, 20, attacked=True)
    [report] = reports([target], Guessing(), store, NOW)
    assert (report.subject, report.value, report.threshold) == ("account:boss", 31, 30)
    assert acquitted([("198.51.100.7", "mx")], store, NOW) == []
    store.close()
