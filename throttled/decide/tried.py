"""User names that clients tried here, as tags, until the other hosts of the fleet have them. Pure.

A tag is a keyed hash of 32 bits: equal names have equal tags on all hosts of a fleet, and without
the fleet's secret a tag says nothing of its name. Tags count in place of names where a fleet is on,
so that names tried here and elsewhere add up.

Owns the tags that are pending. Limits: `MOST` of them; the latest beyond that count here alone.
"""

from hashlib import blake2b

from throttled.decide.tables import Generations
from throttled.model import Scope

#: Tags that may be pending; they are collected for a second.
MOST = 1_000
_TAG = 4  # bytes
_PERSON = b"throttled-names"
#: Seconds after which a name that a client tries again and again is published again: the window in
#: which it counts begins anew.
_AGAIN = 60.0
_CLIENTS = 65_536

Rows = list[tuple[str, Scope, list[int]]]


class Tried:
    """Makes tags, and collects those to be published."""

    def __init__(self, secret: bytes, since: float) -> None:
        """Begin with none.

        Args:
            secret: of the fleet.
            since: names tried before are not collected: lines that are counted again.
        """
        self.dropped = 0
        self._secret, self._since = secret, since
        self._pending: dict[tuple[str, Scope], dict[int, None]] = {}
        self._count = 0
        self._recent: Generations[tuple[str, Scope, int], float] = Generations(_AGAIN, _CLIENTS)

    def tag(self, name: str) -> int:
        """Return the tag of a user name."""
        text = name.encode("utf-8", "surrogateescape")
        digest = blake2b(text, digest_size=_TAG, key=self._secret, person=_PERSON).digest()
        return int.from_bytes(digest)

    def add(self, client: str, scope: Scope, tag: int, at: float) -> None:
        """Collect what a client tried, unless that was published lately."""
        before = self._recent.get((client, scope, tag))
        if at < self._since or (before is not None and at < before + _AGAIN):
            return
        if self._count >= MOST:
            self.dropped += 1
            return
        self._recent.put((client, scope, tag), at, at)
        self._pending.setdefault((client, scope), {})[tag] = None
        self._count += 1

    def __len__(self) -> int:
        """Return how many tags are pending."""
        return self._count

    def drain(self) -> Rows:
        """Return what was collected since the last call, by client and scope."""
        pending, self._pending, self._count = self._pending, {}, 0
        return [(client, scope, list(tags)) for (client, scope), tags in pending.items()]
