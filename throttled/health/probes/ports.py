"""Whether every port on which Postfix listens is one that the installed rules filter."""

from collections.abc import Iterable, Iterator, Mapping

import psutil

from throttled import address
from throttled.model import Finding, Scope


def check(filtered: Mapping[Scope, Iterable[int]]) -> Iterator[Finding]:
    """Compare what Postfix listens on with what is filtered.

    Args:
        filtered: ports of the rules that are installed, or would be.
    """
    listening = postfix()
    if not listening:
        return  # not running, in a container, or not ours to see
    filters = {port for ports in filtered.values() for port in ports}
    if unfiltered := listening - filters:
        what = f"ports: Postfix listens on {_text(unfiltered)}, which is not filtered"
        hint = "banned clients can connect there; throttled reload, or name it in [firewall] ports"
        yield Finding("fault", what, hint)
    else:
        yield Finding("ok", f"ports: all on which Postfix listens are filtered: {_text(listening)}")


def postfix() -> set[int]:
    """Return the TCP ports on which Postfix listens to the network, in this network namespace.

    Empty where the sockets' processes are not known to this user.
    """
    try:
        sockets = psutil.net_connections("tcp")
    except (OSError, psutil.Error):
        return set()
    found: dict[int, set[int]] = {}
    for socket in sockets:
        if socket.status != psutil.CONN_LISTEN or socket.pid is None or not socket.laddr:
            continue
        host, port = socket.laddr
        if not address.is_loopback(host):
            found.setdefault(socket.pid, set()).add(port)
    return {port for pid, ports in found.items() if _is_postfix(pid) for port in ports}


def _is_postfix(pid: int) -> bool:
    """Return whether it is a process of Postfix: master, or one that shares a socket with it."""
    try:
        return "postfix" in psutil.Process(pid).exe()
    except psutil.Error:
        return False


def _text(ports: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
