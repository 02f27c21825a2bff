"""Exemptions of good senders in a network end with what was active against the network.

Owns no state.
"""

from collections.abc import Collection, Sequence

from throttled import address
from throttled.errors import StoreError
from throttled.model import RESTRICTING, Decision
from throttled.store.store import Key, Store


def released(decisions: Sequence[Decision]) -> set[Key]:
    """Return what decisions recorded together release."""
    found = {(d.subject, d.scope) for d in decisions if d.action == "release"}
    return found and found - {(d.subject, d.scope) for d in decisions if d.action in RESTRICTING}


def ended(released: Collection[Key], store: Store, now: float) -> list[Decision]:
    """Return the ends of exemptions in networks that are no longer throttled or banned.

    One that another network around its subject still needs continues; so do all while the store
    cannot be read: they expire by themselves.

    Args:
        released: subjects and scopes; addresses among them have none inside.
        store: of what is active.
        now: wall clock.
    """
    networks = [key for key in released if address.is_network(key[0])]
    if not networks:
        return []
    found = []
    try:
        for network, scope in networks:
            why = f"{network} is no longer throttled or banned"
            for subject in store.exempted(network, scope, now):
                around = [(each, scope) for each in address.around(subject) if each != subject]
                pasts = store.past([key for key in around if key not in released], now)
                if not any(past.action in RESTRICTING for past in pasts.values()):
                    found.append(Decision(now, "release", subject, scope, "network", 0, now, why))
    except StoreError:  # reported where it is written
        return []
    return list({(d.subject, d.scope): d for d in found}.values())
