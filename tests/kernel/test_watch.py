"""Distinguishing changes by other programs from our own, on a real kernel."""

import select
import subprocess
from collections.abc import Iterator

import msgspec
import pytest

from lab.daemon.guarded import RULESET
from lab.network.netns import namespace
from throttled.enforce.backend import Drift
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.nftables.watch import TableWatch
from throttled.model import Entry

pytestmark = pytest.mark.root

NOTHING = Drift()
ALL = Drift(rules=True, lost=True)


def elements(*subjects: str) -> Drift:
    return Drift(tuple(Entry(subject, "mx", "ban", 0.0) for subject in subjects))


@pytest.fixture
def backend() -> Iterator[Nftables]:
    with namespace("watch") as place, place.entered():
        made = Nftables()
        made.setup(RULESET)
        yield made


@pytest.fixture
def watch(backend: Nftables) -> Iterator[TableWatch]:
    made = TableWatch()
    backend.apply([Entry("198.18.0.1", "mx", "ban", 60.0)])
    yield made
    made.close()


def nft(command: str) -> None:
    subprocess.run(("nft", "-f", "-"), input=command.encode(), check=True)


def readable(watch: TableWatch) -> bool:
    return bool(select.select([watch], [], [], 0)[0])


@pytest.mark.parametrize(
    ("command", "drift"),
    [
        ("flush ruleset", ALL),
        ("delete table inet throttled", ALL),
        ("flush chain inet throttled mx", Drift(rules=True)),
        ("insert rule inet throttled prerouting accept", Drift(rules=True)),
        ("add element inet throttled mx_ban4 { 198.18.0.2 }", elements("198.18.0.2")),
        ("delete element inet throttled mx_ban4 { 198.18.0.1 }", elements("198.18.0.1")),
        ("flush set inet throttled mx_ban4", elements("198.18.0.1")),
        ("flush set inet throttled protected4", Drift(rules=True)),
        ("add set inet throttled mine { type ipv4_addr; }", Drift(rules=True)),
        ("add table inet throttled { flags dormant; }", ALL),
        ("delete chain inet throttled prerouting", Drift(rules=True)),
    ],
)
def test_what_another_program_does_to_our_table_is_reported_once(
    watch: TableWatch, command: str, drift: Drift
) -> None:
    if command.startswith("delete chain"):
        nft("flush chain inet throttled prerouting")
        assert watch.drain() == Drift(rules=True)
    nft(command)
    assert readable(watch)
    assert watch.drain() == drift
    assert not readable(watch)
    assert watch.drain() == NOTHING


def test_what_another_program_does_elsewhere_is_not(watch: TableWatch) -> None:
    for command in (
        "add table inet throttled2",
        "add chain inet throttled2 mx",
        "add table ip throttled",
        "delete table inet throttled2",
    ):
        nft(command)
        assert watch.drain() == NOTHING


def test_what_we_do_ourselves_is_not(backend: Nftables, watch: TableWatch) -> None:
    backend.apply([Entry(f"198.18.0.{n}", "mx", "ban", 60.0) for n in range(100)])
    backend.apply([Entry("198.18.16.0/20", "mx", "ban", 60.0)])
    backend.setup(msgspec.structs.replace(RULESET, burst=99))
    backend.apply([Entry("198.18.0.1", "mx", "ban", 0.0)])
    backend.teardown()
    backend.setup(RULESET)
    assert watch.drain() == NOTHING


def test_our_batches_do_not_come_up_at_all(backend: Nftables, watch: TableWatch) -> None:
    backend.setup(msgspec.structs.replace(RULESET, size=100_000))
    watch.drain()
    batch = [Entry(f"198.18.{n >> 8}.{n & 255}", "mx", "ban", 60.0) for n in range(10_000)]
    backend.apply(batch)
    assert not readable(watch)
    backend.setup(RULESET)
    assert not readable(watch)


def test_a_backend_made_after_the_watch_is_ours_too(watch: TableWatch) -> None:
    later = Nftables()
    later.setup(msgspec.structs.replace(RULESET, burst=99))
    later.apply([Entry("198.18.0.1", "mx", "ban", 60.0)])
    assert readable(watch)
    assert watch.drain() == NOTHING
    later.apply([Entry("198.18.0.1", "mx", "ban", 70.0)])
    assert not readable(watch)
    nft("flush ruleset")
    assert watch.drain() == ALL


def test_an_element_that_ends_is_nobodys_doing(backend: Nftables, watch: TableWatch) -> None:
    entry = Entry("198.18.0.7", "mx", "ban", 0.01)
    backend.apply([entry])
    while backend.lookup([entry]):
        pass
    assert watch.drain() == NOTHING


def test_when_more_was_announced_than_fits_nobody_knows(
    backend: Nftables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.enforce.nftables.watch._RECEIVE", 100_000)
    watch = backend.watch()
    elements = ", ".join(f"10.{n >> 8}.{n & 255}.0" for n in range(20_000))
    nft(
        f"add table ip other; add set ip other s {{ type ipv4_addr; elements = {{ {elements} }}; }}"
    )
    assert watch.drain() == ALL
    assert watch.drain() == NOTHING
    nft("flush ruleset")
    assert watch.drain() == ALL
    watch.close()


def test_a_long_list_in_another_table_is_read_past(watch: TableWatch) -> None:
    elements = ", ".join(f"10.{n >> 8}.{n & 255}.0" for n in range(20_000))
    nft(
        f"add table ip other; add set ip other s {{ type ipv4_addr; elements = {{ {elements} }}; }}"
    )
    while readable(watch):
        assert watch.drain() == NOTHING
