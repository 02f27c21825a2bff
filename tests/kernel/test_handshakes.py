"""From a handshake in the kernel to a throttle: the daemon's loop, without the daemon."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC

import pytest

from lab.network.netns import DEADMAN, SERVER4, Namespace, pair
from throttled.config import schema
from throttled.core.pipeline import Pipeline
from throttled.enforce.dryrun import DryRun
from throttled.facts import Facts, Service
from throttled.model import Decision
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.sources import handshakes as module
from throttled.sources.handshakes import Handshakes, direct
from throttled.sources.sensor import Sensor
from throttled.store.store import Store

pytestmark = pytest.mark.root

V4 = "198.18.7.7"
MX = Service("/etc/postfix", "smtp", "smtpd", "postfix", 25, "mx")
PROXIED = Service("/etc/postfix", "587", "smtpd", "postfix/587", 587, "submission", "haproxy")
FACTS = Facts(services=(MX, PROXIED))
MUST = schema.Sensor(handshakes=True)


@pytest.fixture
def pipeline() -> Pipeline:
    kernel = DryRun()
    return Pipeline(Policy(), FACTS, Store.open(":memory:"), kernel, Parser(UTC, 0.0))


async def happens(what: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADMAN):
        while not what():  # noqa: ASYNC110 - it has no event for us
            await asyncio.sleep(0.01)


def connect(server: Namespace, client: Namespace, port: int, count: int) -> None:
    with server.listen(SERVER4, port):
        for _ in range(count):
            client.connect(V4, SERVER4, port).close()


def test_ports_behind_a_proxy_are_left_out() -> None:
    assert direct(FACTS) == {"mx": [25], "submission": []}


def test_from_handshakes_to_a_throttle_and_on_without_a_sensor(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    reported: list[Decision] = []
    made: list[Sensor] = []

    class Known(Sensor):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    def report(decisions: Sequence[Decision]) -> None:
        reported.extend(decisions)

    async def run(server: Namespace, client: Namespace) -> None:
        ours = Handshakes(pipeline, report)
        with server.entered():
            ours.follow(MUST, FACTS)
        ours.start()
        assert ours.finding().what == "completed handshakes are counted at ports 25"
        connect(server, client, 587, 130)
        connect(server, client, 25, 61)
        await happens(lambda: reported)
        assert [(d.subject, d.scope, d.action) for d in reported] == [(V4, "mx", "throttle")]
        assert pipeline.counts.events == {"handshake": 61}
        made[0].missed = 3
        assert [finding.key for finding in ours.findings()] == ["sensor-missed"]
        # It fails: that is reported, and it is tried again.
        made[0]._link.detach()
        await happens(ours.findings)
        await happens(lambda: "detached" in ours.finding().what)
        assert ours.finding().state == "warning"
        assert [finding.key for finding in ours.findings()] == ["sensor"]
        monkeypatch.setattr(module, "_PATIENCE", 0.0)
        await happens(lambda: len(made) == 2)
        assert ours.findings() == []
        # Switched off, and with nothing to look at.
        ours.follow(schema.Sensor(handshakes=False), FACTS)
        assert ours.finding().what == "off; connections are counted from the log alone"
        ours.follow(MUST, Facts())
        assert ours.finding().what.startswith("no service of Postfix is known")
        ours.close()

    monkeypatch.setattr(module, "Sensor", Known)
    with pair() as (server, client):
        asyncio.run(run(server, client))
    assert sum("detached" in record.message for record in caplog.records) == 1
