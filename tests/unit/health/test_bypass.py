"""Why a banned client gets through. The kernel is the one that only remembers."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pytest

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.decide.protect import Protection
from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError
from throttled.facts import Facts, Service
from throttled.health import bypass
from throttled.model import Decision, Element, Entry, Finding
from throttled.parse.parser import Parser
from throttled.settings import Policy, Protect
from throttled.store.store import Store

START = 1_800_000_000.0
CLIENT = "198.51.100.7"
RULES = Ruleset({"mx": (1,), "submission": ()}, (), 10, 60.0, 10, 100)
SERVICE = Service("/etc/postfix", "25", "smtpd", "postfix", 1, "mx")


class Kernel(DryRun):
    """Says that it is one, and counts what it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.enforces = True
        self.packets = 0
        self.fails = False

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        if self.fails:
            raise BackendError("gone", "")
        return [
            Element(s.subject, s.scope, s.action, s.seconds, self.packets)
            for s in super().lookup(entries)
        ]


class Host:
    """A pipeline that bans, and a log that goes on."""

    def __init__(self, store: Store) -> None:
        self.kernel = Kernel()
        self.kernel.setup(RULES)
        self.facts = Facts(services=(SERVICE,))
        self.rules = RULES
        self.pipeline = Pipeline(Policy(), self.facts, store, self.kernel, Parser(UTC, START))
        self.at = START

    def logs(self, text: str, after: float = 0.0) -> None:
        self.at += after
        moment = Moment(self.at, self.at)
        line = f"{datetime.fromtimestamp(self.at, UTC).isoformat()} mx postfix/smtpd[7]: {text}"
        self.pipeline.counting.read([line], [0], moment)
        self.pipeline.settle(moment)

    def offends(self) -> None:
        for pid in range(12):
            self.logs(f"connect from unknown[{CLIENT}]")
            self.logs(f"warning: non-SMTP command from unknown[{CLIENT}]: GET / {pid}")
            self.logs(f"disconnect from unknown[{CLIENT}] unknown=0/1 commands=0/1")

    def comes_again(self, *after: float) -> None:
        for seconds in after:
            self.logs(f"connect from unknown[{CLIENT}]", seconds)

    def findings(self) -> list[Finding]:
        return bypass.findings(self.pipeline, self.kernel, self.facts, lambda: self.rules, self.at)


@pytest.fixture
def host() -> Iterator[Host]:
    store = Store.open(":memory:")
    yield Host(store)
    store.close()


def test_who_is_banned_and_comes_again_is_reported_until_it_stops(host: Host) -> None:
    host.offends()
    host.comes_again(1.0, 1.0, 1.0, 1.0)  # what waited when it was banned
    assert host.findings() == []
    host.comes_again(5.0, 3.0, 3.0)
    (finding,) = host.findings()
    assert (finding.state, finding.key) == ("warning", "banned-but-seen")
    assert f"{CLIENT} is banned in mx, but began 3 sessions with postfix" in finding.what
    host.at += 301.0
    assert host.findings() == []


def reason(host: Host) -> str:
    host.offends()
    host.comes_again(6.0, 3.0, 3.0)
    (finding,) = host.findings()
    return finding.hint


def test_a_proxy(host: Host) -> None:
    proxied = Service("/etc/postfix", "2525", "smtpd", "postfix", 2525, "mx", "haproxy")
    host.facts = Facts(services=(SERVICE, proxied))
    assert reason(host).startswith("2525 gets its clients from a proxy")


def test_a_port_that_is_not_filtered(host: Host) -> None:
    host.facts = Facts(services=(Service("/etc/postfix", "26", "smtpd", "postfix", 26, "mx"),))
    assert reason(host).startswith("port 26 is not filtered for mx: add it to [firewall.ports]")


def test_a_service_that_nobody_knows(host: Host) -> None:
    host.facts = Facts()
    assert reason(host).startswith("no network service of Postfix logs as postfix")


def test_some_of_its_packets_are_dropped(host: Host) -> None:
    host.kernel.packets = 1234
    assert reason(host).startswith("1,234 of its packets were dropped")


def test_nobody_listens_here(host: Host) -> None:
    # Port 1: nobody has ever seen a tcpmux.
    assert reason(host).startswith(
        "no process listens on port 1 here: Postfix is in another network"
    )


def test_its_packets_do_not_come_by(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bypass, "listened", lambda: {1})
    assert reason(host).startswith("none of its packets reached the rules")

    def refuses() -> set[int]:
        raise OSError

    monkeypatch.setattr(bypass, "listened", refuses)
    assert host.findings()[0].hint.startswith("none of its packets reached the rules")


def test_who_is_allowed_unbanned_or_not_in_the_kernel_is_not_reported(host: Host) -> None:
    reason(host)
    ladder = host.pipeline.ladder
    before, ladder.protection = ladder.protection, Protection.of(host.facts, Protect(), [CLIENT])
    assert host.findings() == []
    ladder.protection = before
    host.kernel.fails = True
    assert host.findings() == []
    host.kernel.fails = False
    assert host.findings() != []
    host.kernel.apply([Entry(CLIENT, "mx", "ban", 0.0)])
    assert host.findings() == []
    host.kernel.apply([Entry(CLIENT, "mx", "ban", 60.0)])
    host.pipeline.engine.reset(CLIENT)
    assert host.findings() == []


def test_where_nothing_is_enforced_nobody_escapes(host: Host) -> None:
    host.kernel.enforces = False
    host.offends()
    host.comes_again(6.0, 3.0, 3.0)
    assert host.findings() == []


def test_who_was_banned_before_a_restart_is_reported_too(host: Host) -> None:
    host.offends()
    again = Host(host.pipeline.recorder.store)
    again.kernel = again.pipeline.enforcer.backend = host.kernel
    again.at = host.at
    again.offends()
    again.comes_again(10, 10, 10)
    assert [finding.key for finding in again.findings()] == ["banned-but-seen"]


@pytest.mark.parametrize("exempt", [False, True])
def test_a_client_of_a_banned_network_is_reported_unless_it_is_exempt(
    host: Host, *, exempt: bool
) -> None:
    network = "198.51.100.0/24"
    what = "network", 0, START + 3600, "many of it"
    bans = [Decision(START, "ban", network, "mx", *what)]
    if exempt:  # as a good sender in it is
        bans.insert(0, Decision(START, "exempt", CLIENT, "mx", *what))
    host.pipeline.decide(bans, Moment(host.at, host.at))
    host.comes_again(1.0, 1.0, 1.0)  # what waited when it was banned
    assert host.findings() == []
    host.comes_again(5.0, 3.0, 3.0)
    found = host.findings()
    if exempt:
        assert found == []
        return
    (finding,) = found
    assert finding.key == "banned-but-seen"
    assert f"{CLIENT} is banned in mx by {network}, but began 3 sessions" in finding.what
    host.pipeline.unban(network, None, Moment(host.at, host.at))
    assert host.findings() == []
