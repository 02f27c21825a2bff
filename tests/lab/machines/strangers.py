"""The check of admission control: at the cap strangers wait, and known good clients do not."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from shlex import quote
from typing import Any

from lab.machines.guest import Failed
from lab.machines.site import CONFIG, PATIENCE, Site
from lab.network.netns import SERVER4, SERVER6, until

#: Nobody's session is ended for being idle: an emulated Postfix is slow to greet.
_CAP = r's/^\[overload\]$/&\ncap = 2\nidle = "1h"/'

#: Writes into the database that addresses delivered mail on two days.
_GOOD = """\
import sys, time
sys.path[:0] = ["/usr/lib/throttled", "/usr/lib/throttled/vendor"]
from throttled.model import Evidence
from throttled.store.store import Store
store, now = Store.open("/var/lib/throttled/throttled.db"), time.time()
for at in (now - 2 * 86400, now - 86400):
    store.record(now, (), [Evidence(address, at, 3) for address in sys.argv[1:]])
store.close()
"""


def strangers(site: Site) -> str:
    """Let two strangers have all places, see others wait, and one of them admitted afterwards."""
    known = [site.source(), site.source(v6=True)]
    site.run(f"cp -p {CONFIG} /var/tmp/throttled.toml")
    with site.undone(f"mv /var/tmp/throttled.toml {CONFIG}; systemctl restart throttled"):
        site.run(f"sed -i {quote(_CAP)} {CONFIG}; systemctl stop throttled")
        site.run(f"python3 -IB -c {quote(_GOOD)} {' '.join(known)}; systemctl start throttled")
        by_bpf(site)
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            first = _connected(site, stack, site.source())
            _connected(site, stack, site.source(v6=True))
            _until(site, lambda row: row["open"] == 2, "both are counted")
            for v6 in (False, True):
                site.stopped(site.source(v6=v6))
            for source in known:
                _connected(site, stack, source)
            _killed(site, stack, known)
            waiting = pool.submit(_connected, site, stack, site.source())
            dropped = _mx(site)["over_cap"]
            _until(site, lambda row: row["over_cap"] > dropped, "another one waits")
            first.close()
            waiting.result(PATIENCE)
        row = _mx(site)
    return f"{row['over_cap']} SYNs dropped at a cap of {row['cap']}"


def _killed(site: Site, stack: ExitStack, known: Sequence[str]) -> None:
    """Kill the daemon, and see strangers wait until systemd has started it again."""
    restarts = int(site.show("NRestarts"))
    site.run("kill -9 $(systemctl show --value -p MainPID throttled)")
    site.stopped(site.source())
    for source in known:
        _connected(site, stack, source)
    site.until(
        f"[ $(systemctl show --value -p NRestarts throttled) -gt {restarts} ] "
        "&& systemctl is-active --quiet throttled",
        "systemd started it again",
    )
    by_bpf(site)
    _until(site, lambda row: row["open"] == 2, "both are counted again")


def by_bpf(site: Site) -> None:
    """Wait until strangers are counted, and check that the best means does it.

    Raises:
        Failed: another one does.
    """
    _until(site, lambda row: row["means"], "strangers are counted")
    row = _mx(site)
    if row["means"] != "bpf":
        raise Failed(f"strangers are counted by {row['means']}: {row['unusable']}")


def _connected(site: Site, stack: ExitStack, source: str) -> socket.socket:
    """Return a client's connection, which ends with the stack, once Postfix has greeted it."""
    target = SERVER6 if ":" in source else SERVER4
    made = stack.enter_context(site.client.connect(source, target, 25, PATIENCE))
    if not made.recv(100).startswith(b"220"):
        raise Failed(f"{source} is not greeted")
    return made


def _until(site: Site, so: Callable[[Any], object], what: str) -> None:
    """Wait until something is so in what `status` says of mx."""
    until(lambda: so(_mx(site)), what, PATIENCE)


def _mx(site: Site) -> Any:
    return next(row for row in site.json("status")["overload"] if row["scope"] == "mx")
