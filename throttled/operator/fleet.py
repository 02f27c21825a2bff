"""`throttled fleet`: the hosts of the fleet, and what came from them. Owns no state."""

from throttled.control.requests import FleetRemove, FleetStatus, FleetTrust
from throttled.control.results import Done, FleetPeer, FleetResult
from throttled.control.server import Peer
from throttled.core.fleet import Fleet
from throttled.errors import RefusedError, StoreError
from throttled.health.fleet import error, namesake, server
from throttled.operator.desk import Desk
from throttled.operator.unknown import refuse_unknown_peer


def fleet_status(desk: Desk, _request: FleetStatus, _peer: Peer) -> FleetResult:
    """Return how the fleet is.

    Raises:
        RefusedError: there is none.
        StoreError: entries cannot be counted.
    """
    return _result(_fleet(desk), desk)


def exposed(desk: Desk) -> FleetResult | None:
    """Return the same for the metrics; None: there is no fleet, or entries cannot be counted."""
    fleet = desk.daemon().fleet()
    try:
        return None if fleet is None else _result(fleet, desk)
    except StoreError:  # reported where it is recorded
        return None


def _result(fleet: Fleet, desk: Desk) -> FleetResult:
    now = desk.clock()
    entries = desk.store.fleet.counts(now.wall)
    distrusted = fleet.distrusted()
    peers = []
    for name in sorted({*fleet.inbox.peers, *entries, *distrusted}):
        known = fleet.inbox.peers.get(name)
        outcomes = {what: n for (who, what), n in fleet.inbox.received.items() if who == name and n}
        peers.append(
            FleetPeer(
                name,
                known.version if known else "",
                now.boot - known.heard if known else 0.0,
                entries.get(name, 0),
                fleet.inbox.judge.braked(name, now.wall),
                outcomes,
                name in distrusted,
                known.behind() if known else 0.0,
            )
        )
    wrong, hint = error(fleet.down)
    if not wrong and fleet.outbox.namesake.active(now.boot):
        wrong, hint = namesake(fleet)
    return FleetResult(
        fleet.settings.site,
        fleet.name,
        fleet.up is not None,
        wrong,
        dict(fleet.outbox.published),
        peers,
        hint,
        fleet.outbox.unpublished(),
        fleet.inbox.delay,
        [] if fleet.up is None else list(server(fleet.up.server)),
    )


async def fleet_remove(desk: Desk, request: FleetRemove, _peer: Peer) -> Done:
    """Remove what came from a host.

    Raises:
        RefusedError: there is no fleet, or no such host in it.
        StoreError: what is not removed yet stays.
    """
    fleet = _known(desk, request.subject)
    if request.distrust:
        fleet.distrust(request.subject, desk.clock())
    removed = await fleet.remove(request.subject, desk.clock)
    more = "; it is no longer listened to" if request.distrust else ""
    return Done(f"removed {removed} entries that came from {request.subject}{more}")


def fleet_trust(desk: Desk, request: FleetTrust, _peer: Peer) -> Done:
    """Listen to a host again, and end its brake.

    Raises:
        RefusedError: there is no fleet, or no such host in it.
        StoreError: it cannot be recorded.
    """
    _known(desk, request.subject).trust(request.subject, desk.clock())
    return Done(f"{request.subject} is listened to")


def _fleet(desk: Desk) -> Fleet:
    fleet = desk.daemon().fleet()
    if fleet is None:
        raise RefusedError("this host is in no fleet", "set [fleet] site, see docs/fleet.md")
    return fleet


def peers(desk: Desk) -> set[str]:
    """Return the other hosts of the fleet, as far as they are known; also without a daemon.

    Raises:
        StoreError: the store cannot be read.
    """
    paths = [path for path in desk.store.positions.all() if path.startswith("fleet:")]
    names = {path.removeprefix("fleet:") for path in paths}
    names |= desk.store.fleet.counts(desk.clock().wall).keys()
    fleet = None if desk.running is None else desk.running.fleet()
    if fleet is not None:
        names |= {*fleet.inbox.peers, *fleet.distrusted()}
    return names


def _known(desk: Desk, name: str) -> Fleet:
    """Return the fleet, if it has a host of this name: a mistyped one is refused.

    Raises:
        RefusedError: there is no fleet, or no such host in it.
    """
    fleet = _fleet(desk)
    refuse_unknown_peer(name, peers(desk))
    return fleet
