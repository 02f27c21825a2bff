"""What is wrong with the connection to a fleet, and with its hosts. Owns no state."""

from collections.abc import Iterator

from throttled.core.fleet import Fleet
from throttled.core.inbox import PAUSE, Peer
from throttled.fleet.frames import Server
from throttled.model import Finding

_SILENT = 180.0
#: A connection that is lost for less is no finding.
_PATIENCE = 10.0
#: A peer whose entries have been waiting for less is not behind.
_BEHIND = 60.0
#: The oldest version of Redis that has what the ACL needs; Valkey began at 7.2.
_OLDEST = 7


def findings(fleet: Fleet, boot: float) -> Iterator[Finding]:
    """Yield what is wrong at a time of the boot clock."""
    down = fleet.down
    if down is not None and boot - (fleet.down_since or boot) >= _PATIENCE:
        hint = "this host protects itself alone meanwhile; see docs/fleet.md"
        what = f"the Redis server of the fleet: {down.text}"
        yield Finding("warning", what, hint, f"fleet-{down.kind}")
    if fleet.up is not None:
        yield from (f for f in server(fleet.up.server) if f.key == "fleet-evicts")
    for name, peer in fleet.inbox.peers.items():
        for kind, what in _wrong(fleet, peer, boot):
            hint = "see: throttled fleet status"
            yield Finding("warning", f"{name}: {what}", hint, f"fleet-{kind}:{name}")


def server(about: Server) -> Iterator[Finding]:
    """Yield what is wrong with the Redis server, for `throttled check`; all but one are no fault.

    Args:
        about: what the fleet process saw when it connected.
    """
    if about.eviction not in {"", "noeviction"}:
        what = f"the Redis server evicts keys (maxmemory-policy {about.eviction})"
        yield Finding("warning", what, "set maxmemory-policy noeviction", "fleet-evicts")
    if _major(about.version) < _OLDEST:
        what = f"the Redis server is of version {about.version}"
        hint = f"ACLs that name keys to be written need version {_OLDEST}.0, or Valkey"
        yield Finding("warning", what, hint, "fleet-version")
    if not about.persistent:
        what = "the Redis server loses its data when it ends (appendonly no)"
        hint = "set appendonly yes: else each host publishes its bans again after that"
        yield Finding("warning", what, hint, "fleet-persistence")
    if about.wide:
        what = f"the ACL of the Redis server is too wide: this host may {', '.join(about.wide)}"
        hint = "allow what fleet-acl.conf of the examples does: a host that is taken over may so "
        hint += "harm the others"
        yield Finding("warning", what, hint, "fleet-acl")
    if about.open:
        what = "the Redis server answers without a password"
        hint = "set: user default off"
        yield Finding("warning", what, hint, "fleet-open")


def _major(version: str) -> int:
    major = version.partition(".")[0]
    return int(major) if major.isascii() and major.isdigit() else _OLDEST


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
