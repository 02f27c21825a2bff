"""`list` and its pages, on a desk with a real store and the dry-run backend."""

import logging
import os
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.config.schema import Config
from throttled.control.requests import List
from throttled.control.server import Peer
from throttled.core import behind
from throttled.core.pipeline import Pipeline
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError, RefusedError, UsageError
from throttled.facts import Facts
from throttled.model import Action, Decision, Element, Entry
from throttled.operator.desk import Desk, Running
from throttled.operator.list import active_rows
from throttled.operator.unknown import refuse_unknown_limit
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.listed import Claim
from throttled.store.store import Store, StoredPosition

WALL, BOOT = 1_796_000_000.0, 50_000_000.0
NOW = Moment(WALL, BOOT)
ROOT = Peer(1, os.geteuid(), 0)
OTHER = Peer(1, 4711, 4711)


class Kernel(DryRun):
    """A backend that has counted packets, or cannot be asked."""

    enforces = True

    def __init__(self) -> None:
        super().__init__(lambda: BOOT)
        self.setup(Ruleset({"mx": (25,), "submission": (587,)}, (), 12, 60.0, 6, 1000))
        self.refuses = False
        self.asked: list[Entry] = []

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        if self.refuses:
            raise BackendError("not permitted")
        wanted = list(entries)
        self.asked += wanted
        return [replace(element, packets=7) for element in super().lookup(wanted)]


def decision(number: int, action: Action = "ban", limit: str = "errors", **more: Any) -> Decision:
    known: dict[str, Any] = {"subject": f"198.51.100.{number}", "scope": "mx", **more}
    return Decision(
        WALL + number, action, limit=limit, level=1, until=WALL + 900.0, why="because", **known
    )


OFFENDERS = (
    decision(1, "throttle"),
    decision(2, scope="submission"),
    decision(3, limit="auth"),
    decision(4, subject="203.0.113.4"),
)
#: What of them a request is for.
FILTERED: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"action": "throttle"}, ["198.51.100.1"]),
    ({"scope": "submission"}, ["198.51.100.2"]),
    ({"limit": "auth"}, ["198.51.100.3"]),
    ({"within": "203.0.113.0/24"}, ["203.0.113.4"]),
)


class Lab:
    """A desk of a running daemon."""

    def __init__(self, store: Store) -> None:
        self.kernel = Kernel()
        self.pipeline = Pipeline(Policy(), Facts(), store, self.kernel, Parser(UTC, WALL))
        self.desk = Desk(
            self.pipeline,
            self.kernel,
            cast("Any", None),
            Config,
            lambda: None,
            lambda: NOW,
            cast("Running", object()),  # asked only whether it is there
        )

    def rows(self, peer: Peer = ROOT, **request: Any) -> list[tuple[str, str, int]]:
        found = active_rows(self.desk, List(**request), peer).rows
        return [(row.subject, row.action, row.packets) for row in found]


def calls(monkeypatch: pytest.MonkeyPatch, table: object, name: str) -> list[object]:
    """Return the calls of a method from now on."""
    method, found = getattr(table, name), list[object]()

    def recorded(*args: object) -> object:
        found.append(args)
        return method(*args)

    monkeypatch.setattr(table, name, recorded)
    return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    store = Store.open(str(tmp_path / "t.db"))
    yield Lab(store)
    store.close()


def test_what_was_decided_lately(lab: Lab) -> None:
    old, new = decision(-100), decision(-10, subject="198.51.100.10")
    lab.pipeline.decide([replace(old, subject="198.51.100.100"), new], NOW)
    lab.pipeline.behind._add(behind._snapshot(new), NOW)
    lab.pipeline.behind._add(behind._snapshot(replace(old, subject="198.51.100.100")), NOW)
    for proxied in (False, True):
        found = active_rows(lab.desk, List(seconds=60.0, proxied=proxied), ROOT)
        assert ([row.subject for row in found.rows], found.total) == (["198.51.100.10"], 1)
        assert len(lab.rows(proxied=proxied)) == 2


def test_pages_and_their_total(lab: Lab) -> None:
    lab.pipeline.decide([decision(number) for number in range(1, 4)], NOW)
    first = active_rows(lab.desk, List(max=2), ROOT)
    assert [row.subject for row in first.rows] == ["198.51.100.3", "198.51.100.2"]
    assert (first.total, first.would) == (3, False)
    then = active_rows(lab.desk, List(max=2, after=first.next), ROOT)
    assert [row.subject for row in then.rows] == ["198.51.100.1"]
    assert (then.total, then.next) == (0, ())


def test_packets_are_those_that_the_kernel_counted(lab: Lab) -> None:
    lab.pipeline.decide([decision(1)], NOW)
    assert lab.rows() == [("198.51.100.1", "ban", 7)]
    assert lab.kernel.asked == [Entry("198.51.100.1", "mx", "ban", 0.0)]


def test_the_kernel_is_asked_for_nothing_that_it_has_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = calls(monkeypatch, lab.desk.store.listing, "page")
    writes = calls(monkeypatch, lab.desk.store.active, "packets")
    lab.pipeline.decide([decision(1, "throttle", subject="account:a", scope="submission")], NOW)
    assert lab.rows() == [("account:a", "throttle", 0)]
    assert lab.kernel.asked == []
    assert (len(reads), writes) == (1, [])
    lab.pipeline.decide([decision(2)], NOW)
    assert len(lab.rows()) == 2
    assert [entry.subject for entry in lab.kernel.asked] == ["198.51.100.2"]
    assert (len(reads), len(writes)) == (3, 1)


def test_without_a_daemon_nothing_is_recorded(lab: Lab) -> None:
    lab.pipeline.decide([decision(1)], NOW)
    lab.desk = replace(lab.desk, running=None)
    assert lab.rows() == [("198.51.100.1", "ban", 0)]
    assert lab.kernel.asked == []


def test_counters_that_cannot_be_read_are_as_they_were(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.pipeline.decide([decision(1)], NOW)
    reads = calls(monkeypatch, lab.desk.store.listing, "page")
    lab.kernel.refuses = True
    with caplog.at_level(logging.WARNING):
        assert lab.rows() == [("198.51.100.1", "ban", 0)]
    assert "packet counters are not up to date: not permitted" in caplog.text
    assert len(reads) == 1


def test_names_are_shown_to_root_alone(lab: Lab) -> None:
    lab.pipeline.decide([decision(1, "throttle", subject="account:a", scope="submission")], NOW)
    assert [subject for subject, *_ in lab.rows()] == ["account:a"]
    assert [subject for subject, *_ in lab.rows(OTHER)] != ["account:a"]


def test_filters(lab: Lab) -> None:
    lab.pipeline.decide(
        OFFENDERS,
        NOW,
    )
    for wanted, subjects in FILTERED:
        assert [subject for subject, *_ in lab.rows(**wanted)] == subjects
        assert active_rows(lab.desk, List(**wanted), ROOT).total == 1


def test_a_limit_without_rows_is_refused_only_if_there_is_none(lab: Lab) -> None:
    assert lab.rows(limit="auth") == []
    with pytest.raises(UsageError):
        lab.rows(limit="autj")
    assert lab.rows(limit="autj", after=(WALL, 1)) == []
    lab.pipeline.decide([decision(1, limit="gone")], NOW)  # of an earlier configuration
    assert len(lab.rows(limit="gone")) == 1


def test_clients_behind_a_proxy(lab: Lab) -> None:
    for one in OFFENDERS:
        lab.pipeline.behind._add(behind._snapshot(one), NOW)
    found = active_rows(lab.desk, List(proxied=True, max=3), ROOT)
    assert [row.subject for row in found.rows] == ["203.0.113.4", "198.51.100.3", "198.51.100.2"]
    assert (found.total, found.would, found.next) == (4, True, ())
    for wanted, subjects in FILTERED:
        assert [subject for subject, *_ in lab.rows(proxied=True, **wanted)] == subjects


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "autj",
            "did you mean auth? limits: auth, errors, network, guessing, operator, ladder, adopted",
        ),
        (
            "erroth",
            (
                "did you mean errors? limits: auth, errors, network, guessing, operator, ladder, "
                "adopted"
            ),
        ),
        ("xyz", "limits: auth, errors, network, guessing, operator, ladder, adopted"),
    ],
)
def test_the_name_of_a_limit_that_there_is_not(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_unknown_limit(name, ["errors", "auth"])
    assert caught.value.hint == hint
    refuse_unknown_limit("operator", [])


def test_a_mistyped_host_of_the_fleet_is_refused(lab: Lab) -> None:
    """Also without a daemon; one that is known may well have nothing active."""
    desk = replace(lab.desk, running=None)
    lab.pipeline.decide([decision(1, origin="peer:mx2")], NOW)
    lab.desk.store.record(WALL, (), (), [StoredPosition("fleet:mx3", b"")])
    for peer, count in (("mx2", 1), ("mx3", 0)):
        assert active_rows(desk, List(peer=peer), ROOT).total == count
    with pytest.raises(RefusedError, match="no host mx22 is known in the fleet") as raised:
        active_rows(desk, List(peer="mx22"), ROOT)
    assert raised.value.hint == "did you mean mx2? known: mx2, mx3"
    with pytest.raises(RefusedError):
        active_rows(desk, List(peer=""), ROOT)


def test_a_mistyped_list_is_refused(lab: Lab) -> None:
    """One that names only what is active for another reason is known, and so is a new one."""
    lab.pipeline.decide([decision(1, origin="list:drop")], NOW)
    claim = Claim("bad-hosts", "198.51.100.1", "mx", "ban", WALL + 60, "")
    lab.desk.store.claims.add([claim, replace(claim, list="ended", until=WALL)])
    for name, count in (("drop", 1), ("bad-hosts", 0)):
        assert active_rows(lab.desk, List(name=name), ROOT).total == count
    with pytest.raises(RefusedError, match="nothing is active from a list drip") as raised:
        active_rows(lab.desk, List(name="drip"), ROOT)
    assert raised.value.hint == "did you mean drop? lists: bad-hosts, drop"
    assert active_rows(lab.desk, List(name="drip", new=True), ROOT).total == 0


@pytest.mark.parametrize("wrong", [{"limit": "x"}, {"peer": "x"}, {"name": "x"}])
def test_mistyped_names_are_refused_of_clients_behind_a_proxy_too(
    lab: Lab, wrong: dict[str, Any]
) -> None:
    lab.desk = replace(lab.desk, running=None)
    lab.pipeline.behind._add(behind._snapshot(decision(1)), NOW)
    with pytest.raises((RefusedError, UsageError)):
        active_rows(lab.desk, List(proxied=True, **wrong), ROOT)
