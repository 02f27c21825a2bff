"""All backends: by the name in the configuration, or the one that works here.

Nothing falls back to enforcing nothing: where no firewall can be used, `check` reports that.
Owns no state.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from throttled.enforce.admission.registry import PURGES
from throttled.enforce.backend import Backend
from throttled.enforce.dispatch import Dispatch
from throttled.enforce.dryrun import DryRun
from throttled.enforce.iptables.backend import Iptables
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.xdp.backend import Mode, Xdp
from throttled.errors import BackendError, ConfigError, NotPermittedError

#: What "auto" tries, in this order.
_AUTO = ("nftables", "iptables")


def backends(xdp_mode: Mode = "generic") -> dict[str, Callable[[], Backend]]:
    """Return the table of all backends, by their names in the configuration.

    The names also are in `config.schema`, which may not import this: a test compares the two.
    """
    return {
        "nftables": Nftables,
        "iptables": Iptables,
        "xdp": partial(Xdp, xdp_mode),
        "dryrun": DryRun,
    }


def choose(name: str, xdp_mode: Mode = "generic", *, observing: bool = False) -> Backend:
    """Return a backend, not yet set up; `check` returns whether it can work.

    Args:
        name: of a backend; "auto" is nftables, or iptables where only that works.
        xdp_mode: where XDP's program runs.
        observing: whatever the name, one that enforces nothing.

    Raises:
        ConfigError: there is no such backend.
    """
    if observing:
        return DryRun()
    known = backends(xdp_mode)
    if name == "auto":
        tried = [known[each]() for each in _AUTO]
        return next(filter(works, tried), tried[0])
    if name not in known:
        raise ConfigError(f"no such backend: {name!r}", f"one of {', '.join(('auto', *known))}")
    return known[name]()


def open_backend(name: str, xdp_mode: Mode, *, observing: bool) -> Backend:
    """Return a backend that works here, with policy answers beside it, not yet set up.

    Args:
        name: see `choose`.
        xdp_mode: see `choose`.
        observing: see `choose`.

    Raises:
        BackendError, NotPermittedError: it cannot be used; says what is missing.
    """
    backend = with_answers(choose(name, xdp_mode, observing=observing))
    errors = [finding for finding in backend.check() if finding.state == "fault"]
    if errors:
        hint = errors[0].hint or "to decide and log without a firewall: --mode observe"
        error = NotPermittedError if os.geteuid() else BackendError
        raise error("; ".join(finding.what for finding in errors), hint)
    return backend


def with_answers(firewall: Backend) -> Backend:
    """Return a backend with policy answers beside it; one that enforces nothing as it is."""
    return Dispatch(firewall) if firewall.enforces else firewall


def answers(backend: Backend) -> Dispatch | None:
    """Return where policy answers come from; None where nothing is enforced."""
    return backend if isinstance(backend, Dispatch) else None


def works(backend: Backend) -> bool:
    """Return whether a backend finds no fault here."""
    return all(finding.state != "fault" for finding in backend.check())


def displace(name: str) -> tuple[list[str], list[BackendError]]:
    """Remove what other backends than this one left in the kernel, for this network namespace.

    Args:
        name: of the backend that stays; if that enforces nothing, all entries go.

    Returns:
        the names of those that left something, and what went wrong.
    """
    displaced, errors = [], []
    for other in _enforcing():
        try:
            if other.name != name and other.present():
                other.teardown()
                displaced.append(other.name)
        except BackendError as error:
            errors.append(error)
    return displaced, errors


def present() -> list[str]:
    """Return the names of the backends that have anything in the kernel, as far as can be seen."""
    found = []
    for each in _enforcing():
        with suppress(BackendError):
            if each.present():
                found.append(each.name)
    return found


def teardown() -> tuple[list[str], list[BackendError]]:
    """Remove what any backend left in the kernel, also one that the configuration names no more.

    Returns:
        the names of the backends of which nothing is left, and what went wrong with the others.
    """
    clean, errors = [], []
    for each in _enforcing():
        try:
            each.teardown()
            PURGES.get(each.name, _nothing)()
        except BackendError as error:
            errors.append(error)
        else:
            clean.append(each.name)
    return sorted(clean), errors


def _nothing() -> None:
    """Nothing of admission control outlives its process there."""


def _enforcing() -> Iterator[Backend]:
    """Yield a new object of each backend that has anything in the kernel when it is in use."""
    return (each for make in backends().values() if (each := make()).enforces)
