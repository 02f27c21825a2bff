"""Which backend: by its name in the configuration, or the one that works here.

Nothing falls back to enforcing nothing: a host whose firewall cannot be used is told so by `check`.
"""

from collections.abc import Callable
from contextlib import suppress

from throttled.enforce.backend import Backend
from throttled.enforce.dryrun import DryRun
from throttled.enforce.iptables.backend import Iptables
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.xdp.backend import Mode, Xdp
from throttled.errors import BackendError, ConfigError

_BACKENDS: dict[str, Callable[[], Backend]] = {
    "nftables": Nftables,
    "iptables": Iptables,
    "dryrun": DryRun,
}
#: What "auto" tries, in this order.
_AUTO = ("nftables", "iptables")


def choose(name: str, xdp_mode: Mode = "generic") -> Backend:
    """Return a backend, not yet set up; `check` tells whether it can work.

    Args:
        name: of a backend; "auto" is nftables, or iptables where only that works.
        xdp_mode: where XDP's program runs.

    Raises:
        ConfigError: there is no such backend.
    """
    if name == "auto":
        tried = [_BACKENDS[each]() for each in _AUTO]
        return next(filter(works, tried), tried[0])
    if name == "xdp":
        return Xdp(xdp_mode)
    make = _BACKENDS.get(name)
    if make is None:
        known = ", ".join(("auto", *_BACKENDS, "xdp"))
        raise ConfigError(f"no such backend: {name!r}", f"one of {known}")
    return make()


def works(backend: Backend) -> bool:
    """Tell whether a backend finds no fault here."""
    return all(problem.state != "fault" for problem in backend.check())


def displace(name: str) -> tuple[list[str], list[BackendError]]:
    """Remove what other backends than this one left in the kernel, for this network namespace.

    Args:
        name: of the backend that stays; "dryrun" has nothing in the kernel, so all entries go.

    Returns:
        the names of those that left something, and what went wrong.
    """
    displaced, faults = [], []
    for other in (Nftables(), Iptables(), Xdp()):
        try:
            if other.name != name and other.present():
                other.teardown()
                displaced.append(other.name)
        except BackendError as error:
            faults.append(error)
    return displaced, faults


def present() -> list[str]:
    """Return the names of the backends that have anything in the kernel, as far as can be seen."""
    found = []
    for each in (Nftables(), Iptables(), Xdp()):
        with suppress(BackendError):
            if each.present():
                found.append(each.name)
    return found


def teardown() -> tuple[list[str], list[BackendError]]:
    """Remove what any backend left in the kernel, also one that the configuration names no more.

    Returns:
        the names of the backends of which nothing is left, and what went wrong with the others.
    """
    clean, faults = [], []
    for name in _BACKENDS.keys() - {"dryrun"} | {"xdp"}:
        try:
            choose(name).teardown()
        except BackendError as error:
            faults.append(error)
        else:
            clean.append(name)
    return sorted(clean), faults
