"""A container's port behind DNAT and masquerading, as a swarm's ingress does it: a real Postfix.

The client's namespace is the router: what is sent to the published address goes to the container's,
and comes from the ingress's. So Postfix sees one private address for all.
"""

from collections.abc import Iterator

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import banned
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4, SOURCES4

CONTAINER, INGRESS, BOT = "10.11.0.5", "10.11.0.2", "10.11.0.66"
SENDERS = [f"198.18.3.{n}" for n in range(1, 9)]
ATTACKERS = [f"198.18.4.{n}" for n in range(1, 9)]
RULES = f"""
table ip ingress {{
    chain published {{
        type nat hook output priority -100;
        ip saddr {SOURCES4} ip daddr {SERVER4} dnat to {CONTAINER}
    }}
    chain sources {{
        type nat hook postrouting priority 100;
        ip saddr {SOURCES4} ip daddr {CONTAINER} snat to {INGRESS}
    }}
}}
"""


@pytest.fixture
def ingress(lab: Lab) -> Iterator[None]:
    with (
        lab.server.added("address", f"{CONTAINER}/24", "dev", "eth0"),
        lab.client.added("address", f"{INGRESS}/24", "dev", "eth0"),
        lab.client.added("address", f"{BOT}/24", "dev", "eth0"),
    ):
        lab.client.run("nft", RULES)
        yield
        lab.client.run("nft", "delete table ip ingress")


@pytest.mark.usefixtures("ingress")
def test_an_address_that_stands_for_everybody(lab: Lab, guard: Daemon) -> None:
    guard.start()
    honest = Bot(lab.client, "sender", netns.DEADMAN, SENDERS)
    hostile = None
    try:

        def recognised() -> bool:
            return any(p.key == "shared-address" for p in guard.status().health)

        netns.until(recognised, "the ingress delivers for many")
        hostile = Bot(lab.client, "garbage", netns.DEADMAN, ATTACKERS)

        def above() -> bool:
            meters = guard.ask("explain", INGRESS)["meters"]
            return any(m["hard"] and m["value"] > 2 * m["hard"] for m in meters)

        netns.until(above, "it is far above a limit")
        known = guard.ask("explain", INGRESS)
        assert known["protected"] == "many clients share it: a NAT or proxy in front"
        assert (known["active"], known["decisions"]) == ([], [])
        # An inside bot, of the same network, that delivers nothing.
        banned(lab, guard, [BOT], "garbage", "mx")
    finally:
        for bot in filter(None, (honest, hostile)):
            bot.end()
    assert {row.subject for row in guard.rows()} == {BOT}
    assert lab.mail.log.read_text().count(f"[{INGRESS}]") > 100
