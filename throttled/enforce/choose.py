"""Which backend: by its name in the configuration, or the one that works here.

Nothing falls back to enforcing nothing: a host whose firewall cannot be used is told so by `check`.
"""

from collections.abc import Callable

from throttled.enforce.backend import Backend
from throttled.enforce.dryrun import DryRun
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.xdp.backend import Mode, Xdp
from throttled.errors import BackendError, ConfigError

_BACKENDS: dict[str, Callable[[], Backend]] = {
    "nftables": Nftables,
    "dryrun": DryRun,
}


def choose(name: str, xdp_mode: Mode = "generic") -> Backend:
    """Return a backend, not yet set up; `check` tells whether it can work.

    Args:
        name: "auto", "nftables", "xdp" or "dryrun".
        xdp_mode: where XDP's program runs.

    Raises:
        ConfigError: there is no such backend.
    """
    if name == "xdp":
        return Xdp(xdp_mode)
    make = _BACKENDS.get("nftables" if name == "auto" else name)
    if make is None:
        known = ", ".join(("auto", *_BACKENDS, "xdp"))
        raise ConfigError(f"no such backend: {name!r}", f"one of {known}")
    return make()


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
