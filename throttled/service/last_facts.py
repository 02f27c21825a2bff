"""What was last known of Postfix, retained in the store: a start with a broken main.cf needs it.

Only what `postconf` returns: ports, networks and names. What the kernel knows (own addresses,
routes) is asked of the kernel at each start. Owns no state.
"""

import logging

import msgspec
from msgspec.structs import replace

from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.store.store import Store

log = logging.getLogger(__name__)

_NAME = "facts"


def load(store: Store) -> Facts:
    """Return the facts of the last time; none where nothing usable is in the store."""
    try:
        value = store.known.get(_NAME)
        return msgspec.json.decode(value, type=Facts) if value else Facts()
    except StoreError as error:
        log.error("%s; the last known ports are not used. %s", error.message, error.hint)
    except msgspec.MsgspecError as error:  # written by a later release
        log.warning("the last known facts about Postfix are unreadable: %s", error)
    return Facts()


def save(store: Store, facts: Facts, now: float) -> None:
    """Retain the facts for the next start, unless nothing is known of Postfix.

    Args:
        store: written only if they differ from what is in it.
        facts: as they are now.
        now: wall clock.
    """
    if not facts.services:
        return
    none = Facts()
    lasting = replace(
        facts,
        own=none.own,
        gateways=none.gateways,
        resolvers=none.resolvers,
        former=none.former,
        scopes={},
        warnings=(),
    )
    value = msgspec.json.encode(lasting, order="deterministic")
    try:
        if store.known.get(_NAME) != value:
            store.known.put(_NAME, value, now)
    except StoreError as error:
        log.error("%s; Postfix's ports are not recorded. %s", error.message, error.hint)
