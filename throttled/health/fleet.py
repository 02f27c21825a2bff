"""What is wrong with the connection to a fleet, and with its hosts. Owns no state."""

from collections.abc import Iterator

from throttled.core.fleet import Fleet
from throttled.core.inbox import PAUSE, Peer
from throttled.model import Finding

_SILENT = 180.0
#: A connection that is lost for less is no finding.
_PATIENCE = 10.0
#: A peer whose entries have been waiting for less is not behind.
_BEHIND = 60.0


def findings(fleet: Fleet, boot: float) -> Iterator[Finding]:
    """Yield what is wrong at a time of the boot clock."""
    down = fleet.down
    if down is not None and boot - (fleet.down_since or boot) >= _PATIENCE:
        hint = "this host protects itself alone meanwhile; see docs/fleet.md"
        what = f"the Redis server of the fleet: {down.text}"
        yield Finding("warning", what, hint, f"fleet-{down.kind}")
    if fleet.up is not None and fleet.up.eviction not in {"", "noeviction"}:
        what = f"the Redis server evicts keys (maxmemory-policy {fleet.up.eviction})"
        yield Finding("warning", what, "set maxmemory-policy noeviction", "fleet-evicts")
    for name, peer in fleet.inbox.peers.items():
        for kind, what in _wrong(fleet, peer, boot):
            hint = "see: throttled fleet status"
            yield Finding("warning", f"{name}: {what}", hint, f"fleet-{kind}:{name}")


def _wrong(fleet: Fleet, peer: Peer, boot: float) -> Iterator[tuple[str, str]]:
    if peer.forged and boot - peer.forged_since < PAUSE:
        yield "forged", f"{peer.forged} entries are not made with the secret of the fleet"
    if peer.braked:
        yield "brake", "banned many clients that are good here; its bans are throttles"
    if peer.most:
        yield "most", f"published more than {fleet.settings.most} entries"
    if peer.missing:
        yield "gap", "an entry of it never came"
    if fleet.up is None:
        return
    if boot - peer.heard > _SILENT:
        yield "silent", "nothing was heard for three minutes"
    if peer.behind_since is not None and boot - peer.behind_since >= _BEHIND:
        yield "behind", f"its entries of {peer.behind():.0f} s are not processed yet"
