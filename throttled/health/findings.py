"""Findings of the running daemon, for `status`, metrics, the hook and the service's status line.

Each finding has a `key` that stays the same while it lasts and names its kind: lower-case words,
for findings about one log followed by `:` and its path. No client-written text is in a key.
`docs/monitoring.md` lists them. A finding disappears when its cause is over.

Reporters are functions of the boot clock that return what is wrong with what they know; this module
only asks them all. Owns no state.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from throttled.errors import ThrottledError
from throttled.model import Action, Finding, Scope
from throttled.printable import blanked
from throttled.skipped import Skipped

Reporter = Callable[[float], Iterable[Finding]]


def findings(reporters: Sequence[Reporter], skipped: Skipped, at: float) -> list[Finding]:
    """Return what is wrong; nothing when all is well. A reporter that raises hides no other.

    Args:
        reporters: all there are.
        skipped: where those that raise are counted.
        at: now, on the boot clock.
    """
    found: list[Finding] = []
    skipped.run("probe", reporters, lambda reporter: found.extend(reporter(at)))
    return found


def failures(
    state: Literal["warning", "fault"], errors: Mapping[str, ThrottledError | None]
) -> Iterator[Finding]:
    """Yield a problem for each error that lasts, by its key."""
    for key, error in errors.items():
        if error is not None:
            yield Finding(state, error.message, error.hint, key)


def worst(wrong: Sequence[Finding]) -> str:
    """Return one line for `systemctl status`: the worst of what is wrong, at least one."""
    first = next((p for p in wrong if p.state == "fault"), wrong[0])
    more = f" (and {len(wrong) - 1} more: throttled status)" if len(wrong) > 1 else ""
    # A syslog tag, which a local user may write, can be in it; systemctl shows it as it is.
    return blanked(f"{first.label}: {first.what}{more}")


def summary(counts: Mapping[tuple[Scope, Action], int], *, observing: bool) -> str:
    """Return one line for `systemctl status` where nothing is wrong.

    Args:
        counts: how many elements of each kind are active.
        observing: nothing is enforced.
    """
    banned, throttled = (
        sum(count for (_, action), count in counts.items() if action == wanted)
        for wanted in ("ban", "throttle")
    )
    if observing:
        return f"ok, observing: would ban {banned}, would throttle {throttled}"
    return f"ok, {banned} banned, {throttled} throttled"
