"""Says why a banned client gets through, as far as facts tell. Owns nothing.

`throttled.decide.escapes` finds the clients; a session that the kernel should have refused must
have arrived another way than through the hook.
"""

from collections.abc import Callable, Sequence

from throttled.core.pipeline import Pipeline
from throttled.decide.escapes import Escape
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.sockets import listened
from throttled.errors import BackendError
from throttled.facts import Facts
from throttled.model import Entry, Finding

#: Subjects of which it is asked whether the kernel has them.
_ASKED = 16


def findings(
    pipeline: Pipeline, backend: Backend, facts: Facts, ruleset: Callable[[], Ruleset], at: float
) -> list[Finding]:
    """Return one warning if banned clients get through.

    Args:
        pipeline: whose engine has seen them.
        backend: the kernel.
        facts: of this host.
        ruleset: tells what the kernel filters.
        at: now, on the boot clock.
    """
    reason = pipeline.ladder.protection.reason
    escapes = [e for e in pipeline.engine.escapes.found(at) if not reason(e.client)][:_ASKED]
    if not escapes:
        return []
    try:
        elements = backend.lookup(
            [
                *(Entry(e.banned, e.scope, "ban", 0.0) for e in escapes),
                *(Entry(e.client, e.scope, "exempt", 0.0) for e in escapes),
            ]
        )
    except BackendError:
        return []  # reported by itself
    packets = {(s.subject, s.scope): s.packets for s in elements if s.action == "ban"}
    exempt = {(s.subject, s.scope) for s in elements if s.action == "exempt"}
    # What the kernel does not have is restored, and reported by that.
    counted = [
        e for e in escapes if (e.banned, e.scope) in packets and (e.client, e.scope) not in exempt
    ]
    if not counted:
        return []
    first = counted[0]
    others = f" (and {len(counted) - 1} more)" if len(counted) > 1 else ""
    by = "" if first.banned == first.client else f" by {first.banned}"
    what = (
        f"{first.client}{others} is banned in {first.scope}{by}, but began {first.sessions} "
        f"sessions with {first.instance}"
    )
    why = _cause(first, packets[first.banned, first.scope], facts, ruleset())
    return [Finding("warning", what, why, "banned-but-seen")]


def _cause(escape: Escape, packets: int, facts: Facts, ruleset: Ruleset) -> str:
    services = [service for service in facts.services if service.tag == escape.instance]
    if proxied := [service for service in services if service.proxy]:
        names = ", ".join(service.name for service in proxied)
        return f"{names} gets its clients from a proxy: run throttled there, not here"
    filtered = ruleset.ports[escape.scope]
    if unfiltered := sorted({service.port for service in services} - set(filtered)):
        ports = _listing(unfiltered)
        return f"port {ports} is not filtered for {escape.scope}: add it to [firewall.ports]"
    if not services:
        return (
            f"no network service of Postfix logs as {escape.instance}: is it behind a "
            "proxy on this host, or in a container? name the ports in [firewall.ports]"
        )
    if packets:
        return (
            f"{packets:,} of its packets were dropped, so others arrive another way: a proxy or a "
            "tunnel on this host, an interface that is not filtered?"
        )
    return _unseen(filtered)


def _unseen(filtered: Sequence[int]) -> str:
    """Say why no packet of a client came by."""
    try:
        listening = not filtered or not listened().isdisjoint(filtered)
    except OSError:
        listening = True  # not known
    if not listening:
        return (
            f"no process listens on port {_listing(filtered)} here: Postfix is in another network "
            "namespace (a container?); run throttled in that one"
        )
    return (
        "none of its packets reached the rules: is there a proxy, docker-proxy or a tunnel in "
        "front of Postfix?"
    )


def _listing(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
