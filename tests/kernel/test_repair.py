"""The real daemon, and somebody who damages what it put into the kernel: how long is it open?

A banned client knocks all the time: from the first answer to the last the protection was away.
"""

import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.figures import latency
from lab.network.netns import Namespace, directory, pair, until
from throttled.control import client as client_of
from throttled.control import requests
from throttled.core.reconciler import _CHECK
from throttled.enforce.nftables.backend import Nftables
from throttled.errors import BackendError
from throttled.model import Entry

log = logging.getLogger(__name__)
pytestmark = pytest.mark.root

BANNED, THROTTLED = "198.18.7.7", "198.18.7.8"
BANS = (BANNED, "198.18.8.1", "198.18.8.0/24", "2001:db8:b::1")

#: What firewalld and the like do: all is thrown away, and a file of their own loaded.
RELOAD = """\
flush ruleset
table inet filter {
    set trusted { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
    chain input { type filter hook input priority 0; policy accept; ip saddr @trusted accept; }
}
"""
#: A table of our name that has nothing to do with us, in its place.
REPLACED = """\
delete table inet throttled
table inet throttled {
    set mx_ban4 { type ipv6_addr; }
    set protected4 { type inet_service; }
    chain prerouting { type filter hook input priority 5; policy accept; }
    chain mx { accept; }
}
"""
#: Whatever the rules call, so that a set of theirs can be deleted.
UNUSED = "\n".join(
    f"flush chain inet throttled {c}" for c in ("prerouting", "mx", "mx_new", "submission")
)

DAMAGE = {
    "all flushed": "flush ruleset",
    "table deleted": "delete table inet throttled",
    "table emptied": "flush table inet throttled",
    "table asleep": "add table inet throttled { flags dormant; }",
    "table replaced": REPLACED,
    "ruleset reloaded": RELOAD,
    "chain emptied": "flush chain inet throttled prerouting",
    "chain deleted": "flush chain inet throttled prerouting\n"
    "delete chain inet throttled prerouting",
    "rule inserted": "insert rule inet throttled mx accept",
    "set deleted": f"{UNUSED}\ndelete set inet throttled mx_ban4",
    "set emptied": "flush set inet throttled mx_ban4",
    "element deleted": f"delete element inet throttled mx_ban4 {{ {BANNED} }}",
}


class Guarded(NamedTuple):
    guard: Daemon
    server: Namespace
    client: Namespace

    def in_kernel(self, *subjects: str) -> dict[str, int]:
        """Return the subjects that the kernel holds as banned, and the packets dropped of each."""
        entries = [Entry(subject, "mx", "ban", 0.0) for subject in subjects]
        try:
            elements = self.server.call(Nftables().lookup, entries)
        except BackendError:  # another program's set of that name
            return {}
        return {each.subject: each.packets for each in elements}

    def repairs(self) -> int:
        """Return how often the daemon said that it put something right."""
        said = self.guard.log.read_text()
        return said.count("restoring them") + said.count(": restored")

    def nft(self, commands: str) -> None:
        """Do something to the firewall as another program."""
        self.server.run("nft", "-f", "-", stdin=commands)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with (
        pair() as (server, client),
        directory("nopostfix") as postfix,
        daemon(server, postfix) as guard,
    ):
        log = guard.home / "mail.log"
        log.touch()
        guard.configure(
            f'[log]\nfiles = ["{log}"]\n[firewall]\nports = {{ mx = [25], submission = [587] }}\n'
        )
        guard.start()
        for subject in BANS:
            client_of.request(guard.socket, requests.Ban(subject, "mx"))
        client_of.request(guard.socket, requests.Throttle(THROTTLED, "mx"))
        yield Guarded(guard, server, client)


@pytest.mark.parametrize("damage", DAMAGE)
def test_drift_is_repaired(guarded: Guarded, damage: str) -> None:
    began, repairs = time.monotonic(), guarded.repairs()
    with latency.knocking(guarded.client, BANNED) as heard:
        guarded.nft(DAMAGE[damage])
        until(lambda: guarded.repairs() > repairs, "the repair is logged")
        until(lambda: guarded.in_kernel(*BANS).keys() == set(BANS), "every ban is held")
        # Counted there, since it was put back or all the time: packets came, and were dropped.
        until(lambda: guarded.in_kernel(BANNED).get(BANNED), "packets are dropped")
        until(lambda: time.monotonic() - (heard or [began])[-1] > 0.1, "it is silent")
    was_open = heard[-1] - heard[0] if heard else 0.0
    log.info("%s: open for %.1f ms", damage, was_open * 1e3)
    assert was_open < _CHECK / 2  # by the kernel's notification, not by the next look
    counts = bool(guarded.server.call(Nftables().fill))  # Linux 6.16 and later do
    if not counts:  # judged by the latest sample, which may have been taken before
        until(lambda: guarded.guard.status().enforced == 5, "a sample finds all")
    status = guarded.guard.status()
    assert (status.desired, status.enforced, status.counted) == (5, 5, counts)
    assert [finding for finding in status.health if finding.state == "fault"] == []
    assert guarded.guard.status().packets_dropped > 0
