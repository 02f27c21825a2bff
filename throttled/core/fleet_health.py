"""What is known of a peer, and what is wrong with the fleet, in words. Owns no state."""

from collections.abc import Iterator

from msgspec import Struct

from throttled.config.schema import Fleet as Settings
from throttled.fleet.frames import Down
from throttled.model import Finding

BEGIN = "0-0"
#: Rows of a peer that are processed at once after a silence.
BURST = 100_000.0
_SILENT = 180.0  # seconds without an entry, and after the last forged one
_HINTS = {
    "process": "systemctl enable --now throttled-fleet.service; journalctl -u throttled-fleet",
    "unreachable": "check that it runs, and that this host reaches [fleet] server; docs/fleet.md",
    "refused": "check the name, the password and the ACL of this host there; docs/fleet.md",
    "full": "raise its maxmemory; until then nothing of this host is published",
}
_REPLICA = "it is a replica: [fleet] server has to name the one that it follows"
_REMOVE = "throttled fleet remove {name} --distrust"
_PEER_HINTS = {
    "forged": "compare `sha256sum {secret}` on both hosts; if equal, another writes to its stream",
    "brake": "throttled list --from {name}; then: throttled fleet trust {name}, or: " + _REMOVE,
    "most": "throttled list --from {name}; then raise [fleet] most, or: " + _REMOVE,
    "gap": "bans of that time are missing here until they expire; nothing to do",
    "silent": "throttled fleet status, on {name}; if there is no such host now: " + _REMOVE,
}


class Peer(Struct):
    """What is known of a peer since the start."""

    id: str = BEGIN  # of the last entry that was read
    number: int = 0  # of that entry
    heard: float = 0.0  # boot clock
    version: str = ""
    entries: int = 0  # active there, by its own count
    missing: bool = False  # an entry before the last one never came
    braked: bool = False  # its bans are throttles
    most: bool = False  # it published more than may be active
    forged: int = 0  # since `forged_since`
    forged_since: float = 0.0  # boot clock
    forged_last: float = 0.0  # boot clock
    paused_until: float = 0.0  # boot clock
    allowance: float = BURST  # rows that may come at once
    counted: float = 0.0  # boot clock, when that was


def error(down: Down | None) -> tuple[str, str]:
    """Return what is wrong with the connection, and a hint; empty: nothing is."""
    if down is None:
        return "", ""
    where = "" if down.kind == "process" else "the Redis server of the fleet: "
    hint = _REPLICA if "ReadOnlyError" in down.text else _HINTS[down.kind]
    return f"{where}{down.text}", hint


def unconnected(down: Down, *, alone: bool) -> Finding:
    """Return the finding of a connection that is lost, or of entries that are refused."""
    what, hint = error(down)
    what += "; this host protects itself alone meanwhile" if alone else ""
    return Finding("warning", what, hint, f"fleet-{down.kind}")


def evicting(policy: str) -> Finding:
    """Return the finding of a server that deletes entries when it is full."""
    what = f"the Redis server evicts keys (maxmemory-policy {policy})"
    return Finding("warning", what, "set maxmemory-policy noeviction", "fleet-evicts")


def of_peer(
    name: str, peer: Peer, boot: float, settings: Settings, *, connected: bool
) -> Iterator[Finding]:
    """Yield what is wrong with a peer."""
    for kind, what in _wrong(peer, boot, settings, connected=connected):
        hint = _PEER_HINTS[kind].format(name=name, secret=settings.secret)
        yield Finding("warning", f"{name}: {what}", hint, f"fleet-{kind}:{name}")


def _wrong(
    peer: Peer, boot: float, settings: Settings, *, connected: bool
) -> Iterator[tuple[str, str]]:
    if peer.forged and boot - peer.forged_last < _SILENT:
        yield "forged", "its entries are not made with the secret of this host"
    if peer.braked:
        yield "brake", "banned many clients that are good here; its bans are throttles"
    if peer.most:
        yield "most", f"published more than {settings.most} entries"
    if peer.missing:
        yield "gap", "an entry of it never came"
    if connected and boot - peer.heard > _SILENT:
        yield "silent", "nothing was heard for three minutes"
