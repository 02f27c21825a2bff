"""Compares the kernel with the store and repairs drift, a piece per iteration of the event loop.

At start and after another program changed the table: entries without an element are applied;
elements that the store has never had (a lost database) are adopted; elements of entries that were
released are removed.

Owns nothing: state is the store's and the kernel's.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice

from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.decide.reconcile import missing
from throttled.enforce.backend import Backend
from throttled.model import Action, Decision, Element, Entry, Scope

log = logging.getLogger(__name__)

Kind = tuple[Scope, Action]

#: Elements between two iterations of the event loop: some milliseconds.
_PIECE = 500


async def restore(
    pipeline: Pipeline,
    backend: Backend,
    clock: Callable[[], Moment],
    bare: AbstractSet[Kind] = frozenset(),
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Apply what is stored and not in the kernel, who was active last first; return how many.

    Args:
        pipeline: whose store it is.
        backend: the kernel.
        clock: both clocks.
        bare: of what the kernel holds nothing: no lookup is needed.
        stop: asked between pieces: whether to leave the rest.

    Raises:
        StoreError: the store cannot be read.
        BackendError: the kernel cannot be asked.
    """
    applied = 0
    began = clock()
    for stored in pipeline.recorder.store.active.entries(began.wall, _PIECE):
        # The store reckons from when it was asked; a million take longer than `missing` allows.
        passed = clock().boot - began.boot
        entries = [replace(e, seconds=e.seconds - passed) for e in stored if e.seconds > passed]
        entries = pipeline.recorder.unbans.others(entries)
        asked = [each for each in entries if (each.scope, each.action) not in bare]
        parts = pipeline.skipped.each("row", asked, lambda some: list(backend.lookup(some)))
        absent = missing(entries, [element for part in parts for element in part])
        pipeline.enforcer.apply(absent, clock())
        applied += len(absent)
        await asyncio.sleep(0)
        if stop():
            break
    return applied


async def adopt(pipeline: Pipeline, backend: Backend, clock: Callable[[], Moment]) -> int:
    """Take over, or remove, what the kernel holds and the store does not; return how many.

    Raises:
        StoreError: the store cannot be read.
        BackendError: the kernel cannot be asked.
    """
    unknown = 0
    dump = backend.dump()
    while piece := list(islice(dump, _PIECE)):
        unknown += judge(pipeline, piece, clock())
        await asyncio.sleep(0)
    return unknown


def judge(pipeline: Pipeline, elements: Sequence[Element], now: Moment) -> int:
    """Take over, or remove, those of these elements that the store does not want; return how many.

    Raises:
        StoreError: the store cannot be read.
    """
    return sum(pipeline.skipped.each("row", elements, lambda some: _judge(pipeline, some, now)))


def _judge(pipeline: Pipeline, elements: Sequence[Element], now: Moment) -> int:
    pasts = pipeline.recorder.store.past(
        [(element.subject, element.scope) for element in elements], now.wall
    )
    adopted: list[Decision] = []
    removed: list[Entry] = []
    for element in elements:
        past = pasts.get((element.subject, element.scope))
        in_force = None if past is None else past.action
        # A throttle may outlive the ban's begin.
        if in_force == element.action or (in_force, element.action) == ("ban", "throttle"):
            continue
        known = in_force or pipeline.recorder.store.decisions(element.subject, 1)
        if known or pipeline.ladder.protection.reason(element.subject):
            removed.append(Entry(element.subject, element.scope, element.action, 0.0))
        else:
            until = now.wall + element.seconds
            why = "found in the kernel, not in the database"
            found = (
                now.wall,
                element.action,
                element.subject,
                element.scope,
                "adopted",
                0,
                until,
                why,
            )
            adopted.append(Decision(*found, rate=element.rate))
    pipeline.recorder.record(now, adopted)
    pipeline.enforcer.apply(removed, now)
    if adopted or removed:
        log.info(
            "adopted %d elements that were not in the database, removed %d",
            len(adopted),
            len(removed),
        )
    return len(adopted) + len(removed)
