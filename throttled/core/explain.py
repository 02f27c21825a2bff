"""Explanations of decisions for the debug level: what was known, and what followed. Pure."""

from collections.abc import Iterator, Mapping

from throttled.core.recorder import Key
from throttled.decide.ladder import Ruling
from throttled.model import NetworkPast, Past
from throttled.notify import line


def explain(
    ruling: Ruling, pasts: Mapping[Key, Past], networks: Mapping[Key, NetworkPast]
) -> Iterator[str]:
    """Yield a text for each decision, and for each crossing that led to none.

    Args:
        ruling: what was decided.
        pasts: what was known of the clients.
        networks: what was known of the networks.
    """
    for decision in ruling.decisions:
        known = _known((decision.subject, decision.scope), pasts, networks)
        lines = " ".join(f"{each.source}:{each.offset}" for each in decision.lines)
        where = f"; log lines (source:offset) {lines}" if lines else ""
        yield f"decided: {line.line(decision, would=False)}; {decision.why}; {known}{where}"
    for crossing, why in ruling.spared:
        known = _known((crossing.subject, crossing.scope), pasts, networks)
        which = "hard" if crossing.action == "ban" else "soft"
        yield (
            f"no action: {crossing.subject} scope={crossing.scope} limit={crossing.limit} "
            f"value={crossing.value} {which}={crossing.threshold}; {why}; {known}"
        )


def _known(key: Key, pasts: Mapping[Key, Past], networks: Mapping[Key, NetworkPast]) -> str:
    """Return the history of a subject in words."""
    past, network = pasts.get(key), networks.get(key)
    if past is not None:
        return (
            f"history: {past.offences} bans, {past.deliveries} deliveries on "
            f"{past.delivery_days} days, {past.logins} logins"
        )
    if network is not None:
        return f"history: {network.banned} addresses banned, {network.good} good senders"
    return "no history"
