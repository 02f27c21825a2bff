"""Requests and the commands that answer them."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from throttled.control import requests
from throttled.control.bulk import UnbanMany
from throttled.control.requests import Request
from throttled.control.results import OBSERVED, Done, Result
from throttled.control.server import Peer
from throttled.errors import BackendError
from throttled.health.probes.firewall import prove
from throttled.operator.allow import allow, allowed, disallow, resolve
from throttled.operator.ban import ban
from throttled.operator.changes import audit
from throttled.operator.desk import Desk
from throttled.operator.explain import explain
from throttled.operator.fleet import fleet_remove, fleet_status, fleet_trust
from throttled.operator.import_ import import_list
from throttled.operator.list import active_rows
from throttled.operator.senders import accounts, find
from throttled.operator.status import status
from throttled.operator.top import top
from throttled.operator.unban import unban
from throttled.operator.unban_all import unban_all
from throttled.operator.unban_many import unban_many


async def answer(desk: Desk, request: Request, peer: Peer) -> Result:
    """Do what is asked.

    Raises:
        ThrottledError: it cannot be done; says why.
    """
    done = _COMMANDS[type(request)](desk, _counted(desk, request), peer)
    result = await done if isinstance(done, Awaitable) else done
    if desk.observing and isinstance(result, OBSERVED):
        return replace(result, would=True)
    return result


def _counted(desk: Desk, request: Request) -> Request:
    """Return a request whose account is named as it is counted: without the local domain."""
    counted = desk.pipeline.senders.queue.counted
    match request:
        case requests.Explain() | requests.Unban() | requests.Ban() | requests.Throttle():
            return replace(request, subject=counted(request.subject))
        case UnbanMany():
            return replace(request, subjects=[counted(each) for each in request.subjects])
        case requests.Allow() | requests.Disallow():
            return replace(request, what=counted(request.what))
        case requests.Import():
            entries = [replace(e, subject=counted(e.subject)) for e in request.entries]
            return replace(request, entries=entries)
        case _:
            return request


def _ping(_desk: Desk, _request: requests.Ping, _peer: Peer) -> Done:
    return Done()


def _prove(desk: Desk, _request: requests.Prove, _peer: Peer) -> Done:
    if not desk.backend.intact():
        hint = "they are restored within seconds; if this lasts see: throttled status"
        raise BackendError("another program changed the rules in the kernel", hint)
    return Done(prove(desk.backend))


def _add_host(desk: Desk, request: requests.AddHost, _peer: Peer) -> Done:
    desk.store.hosts.add(request.name, desk.clock().wall)
    if desk.running is None:
        return Done(f"the lines of {request.name} count when the daemon runs")
    desk.reconfigure()
    return Done(f"the lines of {request.name} count")


async def _reload(desk: Desk, _request: requests.Reload, _peer: Peer) -> Done:
    return Done(await desk.daemon().reload())


async def _reach(desk: Desk, _request: requests.Reach, _peer: Peer) -> Done:
    return Done(await desk.daemon().reach())


async def _test_notify(desk: Desk, _request: requests.NotifyTest, _peer: Peer) -> Done:
    return Done(await desk.daemon().test_notify())


def _asked(desk: Desk, request: requests.Asked, _peer: Peer) -> Done:
    asked = desk.daemon().asked(request.client, request.port, request.about)
    return Done("asked" if asked else "")


_COMMANDS: dict[type, Callable[[Desk, Any, Peer], Result | Awaitable[Result]]] = {
    requests.Ping: _ping,
    requests.Status: status,
    requests.Prove: _prove,
    requests.Top: top,
    requests.List: active_rows,
    requests.Explain: explain,
    requests.Accounts: accounts,
    requests.Find: find,
    requests.Allowed: allowed,
    requests.Audit: audit,
    requests.Ban: ban,
    requests.Throttle: ban,
    requests.Unban: unban,
    requests.UnbanAll: unban_all,
    UnbanMany: unban_many,
    requests.Allow: allow,
    requests.Resolve: resolve,
    requests.Disallow: disallow,
    requests.Import: import_list,
    requests.AddHost: _add_host,
    requests.Reload: _reload,
    requests.Reach: _reach,
    requests.NotifyTest: _test_notify,
    requests.FleetStatus: fleet_status,
    requests.FleetRemove: fleet_remove,
    requests.FleetTrust: fleet_trust,
    requests.Asked: _asked,
}
