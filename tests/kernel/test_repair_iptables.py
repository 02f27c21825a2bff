"""The real daemon, and somebody who damages what it put into iptables: how long is it open?"""

import logging
import time
from collections.abc import Iterator

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.figures import latency
from lab.machine.legacy import legacy_path
from lab.network.netns import Namespace, directory, pair, until
from throttled.control import client as client_of
from throttled.control import requests
from throttled.core.reconciler import _CHECK

log = logging.getLogger(__name__)
pytestmark = pytest.mark.root

BANNED = "198.18.7.7"


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Daemon, Namespace, Namespace]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        legacy_path() as path,
        pair() as (server, client),
        directory("nopostfix") as postfix,
        daemon(server, postfix) as guard,
    ):
        patch.setenv("PATH", path)
        logged = guard.home / "mail.log"
        logged.touch()
        guard.configure(
            f'[log]\nfiles = ["{logged}"]\n'
            '[firewall]\nbackend = "iptables"\nports = { mx = [25], submission = [587] }\n'
        )
        guard.start()
        client_of.request(guard.socket, requests.Ban(BANNED, "mx"))
        yield guard, server, client


@pytest.mark.parametrize(
    "damage",
    [
        "iptables-legacy -w -t raw -F",
        "iptables-legacy -w -t raw -D PREROUTING -p tcp -j throttled",
        "iptables-legacy -w -t raw -I throttled_mx 1 -j ACCEPT",
        "ipset flush",
    ],
)
def test_drift_is_repaired(guarded: tuple[Daemon, Namespace, Namespace], damage: str) -> None:
    guard, server, client = guarded
    with latency.knocking(client, BANNED) as heard:
        server.run(*damage.split())
        until(lambda: heard, "it is open")
        until(lambda: time.monotonic() - heard[-1] > 0.1, "it is silent")
    log.info("%s: open for %.1f ms", damage, (heard[-1] - heard[0]) * 1e3)
    assert heard[-1] - heard[0] < _CHECK / 2  # by an early look, not by the next one
    status = guard.status()
    assert (status.desired, status.enforced) == (1, 1)
    assert [finding for finding in status.health if finding.state == "fault"] == []
