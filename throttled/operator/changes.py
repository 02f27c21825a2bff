"""`audit`: the changes that operators made. Owns no state.

Accounts, local users, mailboxes and domains in them are hidden from who may not see these
(`operator.senders`).
"""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import MsgspecError, json
from msgspec.structs import replace

from throttled import address
from throttled.control.requests import Audit
from throttled.control.results import AuditResult
from throttled.control.server import Peer
from throttled.model import Change
from throttled.operator.desk import Desk
from throttled.operator.senders import masked, refuse_invisible, visible

#: A name in a sentence, or in a request that was cut: up to where it may end.
_NAMED = re.compile(r"\b(account|uid|mailbox|domain):(?!\(hidden\))[^\s,;\"]+")


def audit(desk: Desk, request: Audit, peer: Peer) -> AuditResult:
    """Return changes, the latest first.

    Raises:
        NotPermittedError: it asks about an account, which is for root alone.
        StoreError: they cannot be read.
    """
    if request.subject is not None and address.is_named(request.subject):
        refuse_invisible(desk, peer)
    since = desk.clock().wall - request.seconds if request.seconds else 0.0
    spellings = desk.pipeline.senders.queue.spellings
    subjects = None if request.subject is None else spellings(request.subject)
    found = desk.store.audit.changes(since, subjects, request.max)
    return AuditResult(found if visible(desk, peer) else [_without_names(row) for row in found])


def _without_names(change: Change) -> Change:
    try:
        asked = json.decode(change.request)
    except MsgspecError:  # cut
        asked = None
    names = {change.subject, *_strings(asked)}
    outcome = change.outcome
    for name in sorted(filter(address.is_named, names), key=len, reverse=True):
        outcome = outcome.replace(name, masked(name))
    request = _hidden(change.request) if asked is None else json.encode(_masked(asked)).decode()
    return replace(
        change, subject=masked(change.subject), request=request, outcome=_hidden(outcome)
    )


def _hidden(text: str) -> str:
    return _NAMED.sub(r"\1:(hidden)", text)


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts in what JSON was decoded to."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def _masked(value: Any) -> Any:
    """Return what JSON was decoded to without names."""
    if isinstance(value, dict):
        return {key: _masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return masked(value) if isinstance(value, str) else value
