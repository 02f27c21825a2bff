"""What is wrong with recording and enforcing, by its key."""

from datetime import UTC

from throttled.clock import Moment
from throttled.core.leftovers import Leftovers
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.reopening import StoreFile
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError, StoreError
from throttled.facts import Facts
from throttled.health.enforcement import EnforcementReporter
from throttled.model import Finding, Scope
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

NOW = Moment(1_800_000_000.0, 5_000.0)


def test_each_error_has_its_key_while_it_lasts() -> None:
    backend, file = DryRun(), StoreFile(":memory:")
    pipeline = Pipeline(Policy(), Facts(), Store.open(":memory:"), backend, Parser(UTC, NOW.wall))
    maintenance = Maintenance(pipeline, lambda: NOW, lambda _ended, _count: None)
    leftovers = Leftovers(backend)
    ports: dict[Scope, tuple[int, ...]] = {"mx": (25,), "submission": ()}
    reporter = EnforcementReporter(pipeline, file, maintenance, leftovers, lambda: ports)
    assert list(reporter(NOW.boot)) == []
    file.error = pipeline.recorder.error = maintenance.error = StoreError("no room", "")
    pipeline.enforcer.error = BackendError("refused", "")
    leftovers.finding = Finding("fault", "left", "", "firewall-left")
    ports.clear()
    assert [finding.key for finding in reporter(NOW.boot)] == [
        "store-unusable",
        "store-unwritten",
        "store-unread",
        "firewall",
        "firewall-left",
        "no-ports",
    ]
    pipeline.recorder.store.close()
