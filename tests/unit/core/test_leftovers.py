"""Entries of other backends: removed, and tried again where they are not."""

import asyncio
import os

import pytest

from throttled.core import leftovers
from throttled.core.leftovers import Leftovers
from throttled.enforce.backend import Backend
from throttled.enforce.dryrun import DryRun
from throttled.enforce.nftables.backend import Nftables
from throttled.errors import BackendError


def test_what_cannot_be_removed_is_a_problem_until_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answers = [
        ([], [BackendError("the lock is taken")]),
        (["iptables"], [BackendError("the lock is taken")]),
        (["nftables"], []),
    ]
    monkeypatch.setattr(leftovers, "displace", lambda _name: answers.pop(0))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    left = Leftovers(DryRun())
    assert not left.due(1e9)
    asyncio.run(left.remove(100.0))
    assert left.finding is not None
    assert (left.finding.state, left.finding.key) == ("fault", "firewall-left")
    assert "the lock is taken" in left.finding.what
    assert (left.due(159.0), left.due(160.0)) == (False, True)
    asyncio.run(left.remove(160.0))
    asyncio.run(left.remove(220.0))
    assert not left.due(1e9)
    assert caplog.text.count("removed entries left by the") == 2
    assert caplog.text.count("lock is taken") == 1  # not every minute


@pytest.mark.parametrize(("backend", "wrong"), [(DryRun(), False), (Nftables(), True)])
def test_who_observes_without_rights_is_only_warned(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, *, wrong: bool
) -> None:
    monkeypatch.setattr(leftovers, "displace", lambda _name: ([], [BackendError("not permitted")]))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    left = Leftovers(backend)
    asyncio.run(left.remove(1.0))
    assert (left.finding is not None) == wrong
