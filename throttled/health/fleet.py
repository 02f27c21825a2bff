"""What is wrong with the connection to a fleet, and with its hosts. Owns no state."""

from collections.abc import Iterator

from throttled.core.fleet import Fleet
from throttled.core.inbox import Peer
from throttled.fleet import wire
from throttled.fleet.frames import Down, Server
from throttled.model import Finding

_SILENT = 180.0  # seconds without an entry, and after the last forged one
_SHOWN = 600.0  # seconds after the last unban that was ignored
_HINTS = {
    "process": "systemctl enable --now throttled-fleet.service; journalctl -u throttled-fleet",
    "unreachable": "check that it runs, and that this host reaches [fleet] server; docs/fleet.md",
    "refused": "check the name, the password and the ACL of this host there; docs/fleet.md",
    "full": "raise its maxmemory; until then nothing of this host is published",
}
_REPLICA = "[fleet] server has to name the one that it follows"
_SENTINELS = "check the name in [fleet] server, and its sentinel_user and sentinel_password"
_REMOVE = "throttled fleet remove {name} --distrust"
_PEER_HINTS = {
    "forged": "compare `sha256sum {secret}` on both hosts; if equal, another writes to its stream",
    "brake": "throttled list --from {name}; then: throttled fleet trust {name}, or: " + _REMOVE,
    "most": "throttled list --from {name}; then raise [fleet] most, or: " + _REMOVE,
    "unbans": "throttled list --from {name}; to unban all of it: throttled fleet remove {name}",
    "long": "the fleet process looks again every 10 minutes; whoever wrote that is no daemon: "
    + _REMOVE,
    "name": "give each of them its own [fleet] name and user of the ACL; docs/fleet.md",
    "gap": "bans of that time are missing here until they expire; nothing to do",
    "silent": "throttled fleet status, on {name}; if there is no such host now: " + _REMOVE,
    "behind": "throttled fleet status; it publishes more than 5,000 rows/s; or: " + _REMOVE,
}
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
        what, hint = error(down)
        what += "; this host protects itself alone meanwhile" if fleet.up is None else ""
        yield Finding("warning", what, hint, f"fleet-{down.kind}")
    if fleet.crowded:
        what = "the Redis server lists too many hosts: new ones are not found"
        hint = f"there: DEL {wire.roster(fleet.settings.site)}; the hosts announce themselves again"
        yield Finding("warning", what, hint, "fleet-crowded")
    if fleet.outbox.namesake.active(boot):
        yield Finding("warning", *namesake(fleet), "fleet-name")
    if fleet.up is not None:
        yield from (f for f in server(fleet.up.server) if f.key == "fleet-evicts")
    wrong = [
        (name, each) for name, p in fleet.inbox.peers.items() for each in _wrong(fleet, p, boot)
    ]
    what = "its stream has an entry that is longer than any may be, and is not read"
    wrong += [(name, ("long", what)) for name in fleet.too_long]
    for name, (kind, text) in wrong:
        hint = _PEER_HINTS[kind].format(name=name, secret=fleet.settings.secret)
        yield Finding("warning", f"{name}: {text}", hint, f"fleet-{kind}:{name}")


def namesake(fleet: Fleet) -> tuple[str, str]:
    """Return what is wrong where another host has the name of this one, and a hint."""
    what = f"another host publishes as {fleet.name} too: this one publishes heartbeats alone"
    return what, "give each host its own [fleet] name and user of the ACL; docs/fleet.md"


def error(down: Down | None) -> tuple[str, str]:
    """Return what is wrong with the connection, and a hint; empty: nothing is."""
    if down is None:
        return "", ""
    where = "" if down.kind == "process" else "the Redis server of the fleet: "
    hint = _HINTS[down.kind]
    for word, better in (("replica", _REPLICA), ("no Sentinel", _SENTINELS)):
        hint = better if word in down.text else hint
    return f"{where}{down.text.rstrip('.')}", hint


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


def _lately(at: float | None, boot: float) -> bool:
    return at is not None and boot - at < _SHOWN


def _wrong(fleet: Fleet, peer: Peer, boot: float) -> Iterator[tuple[str, str]]:
    many = f"published more than {fleet.settings.most} entries"
    wrong = {
        "forged": (
            bool(peer.forged) and boot - peer.forged_last < _SILENT,
            "its entries are not made with the secret of this host",
        ),
        "brake": (peer.braked, "banned many clients that are good here; its bans are throttles"),
        "most": (peer.most, many),
        "unbans": (
            _lately(peer.ignored, boot),
            "unbanned more than 100 within a minute; the others stay banned here",
        ),
        "name": (
            _lately(peer.doubled, boot),
            "two hosts publish under this name; what one of them publishes is ignored in part",
        ),
        "gap": (peer.missing, "an entry of it never came"),
    }
    yield from ((kind, what) for kind, (so, what) in wrong.items() if so)
    if fleet.up is None:
        return
    if boot - peer.heard > _SILENT:
        yield "silent", "nothing was heard for three minutes"
    if peer.behind_since is not None and boot - peer.behind_since >= _BEHIND:
        yield "behind", f"its entries of {peer.behind():.0f} s are not processed yet"
