"""A store that has many entries before its daemon starts. Owns nothing.

200,000 take 4 s: through the store itself, in its transactions, so that nothing of it is guessed.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from throttled.model import Decision
from throttled.store.store import Store

_CHUNK = 20_000


def clients(count: int) -> list[str]:
    """Return distinct addresses of 198.18.0.0/15, 250 in each /24."""
    return [f"198.{18 + n // 64_000}.{n // 250 % 256}.{n % 250 + 1}" for n in range(count)]


def fill(home: Path, count: int) -> list[str]:
    """Store `count` active entries for some hours, decided one a second; return their subjects.

    Every third is a throttle, every tenth has a host name.

    Args:
        home: of the daemon: see `lab.daemon.daemon`.
        count: at most 120,000 of each scope, so 240,000.
    """
    store = Store.open(str(home / "throttled.db"))
    subjects = clients(count // 2)
    entries = _decisions(subjects, time.time())
    while some := list(islice(entries, _CHUNK)):
        store.record(time.time(), some)
    store.close()
    return subjects


def _decisions(subjects: list[str], now: float) -> Iterator[Decision]:
    for number, subject in enumerate(subjects):
        name = f"host{number}.example.net" if number % 10 == 0 else ""
        since = now - (len(subjects) - number)
        about = ("errors", 1, now + 43_200.0, "55 points for errors within 10m, hard limit 50")
        if number % 3 == 0:
            about = ("auth", 0, now + 43_200.0, "11 failed logins within 10m, soft limit 10")
        action = "ban" if number % 3 else "throttle"
        for scope in ("mx", "submission"):
            yield Decision(since, action, subject, scope, *about, name=name)  # type: ignore[arg-type]
