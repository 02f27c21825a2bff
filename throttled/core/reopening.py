"""Opens the store, replaces it by one in memory if it cannot be used, and reopens it when it can.

A file is never deleted or changed to "repair" it. As soon as the file can be used (there is space,
no other process locks it, the damaged one was moved away), or another one is at its path, the
active entries, unbans and allowlist of the time without it are written to it.

Owns what is wrong with the file.
"""

import logging
from contextlib import closing, suppress
from pathlib import Path
from time import time

from throttled.clock import Moment
from throttled.core.pipeline import Pipeline
from throttled.errors import RefusedError, StoreError
from throttled.model import Decision, Snapshot
from throttled.store.store import Allowed, Store

log = logging.getLogger("throttled")

#: What is taken along to another store, at most: of more, the latest.
_ROWS = 100_000
#: An end that differs by less is the same: the kernel's clock has other digits.
_SAME = 5.0


class StoreFile:
    """The store's file, used or not.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.error: StoreError | None = None  # why it is not used; None: it is

    def open(self) -> Store:
        """Return the store, or one in memory if the file cannot be used.

        A file that can at least be read (no room, locked, read-only) still says how far the logs
        were read, so that no line is missed meanwhile. The file's directory is made where its
        parent exists.
        """
        try:
            Path(self.path).parent.mkdir(mode=0o750, exist_ok=True)
        except OSError as error:
            log.warning("%s", error)
        try:
            store, self.error = Store.open(self.path), None
        except StoreError as error:
            log.error("%s; continuing without it. %s", error.message, error.hint)
            self.error = error
        else:
            return store
        memory = Store.open(":memory:")
        with suppress(StoreError), closing(Store.open(self.path, readonly=True)) as file:
            memory.record(time(), (), (), list(file.positions.all().values()))
        return memory

    def reopen(self, pipeline: Pipeline, now: Moment) -> bool:
        """Use the file as soon as that can be, or the one that is there now.

        Returns:
            Whether the pipeline has another store now.
        """
        if self.error is None and pipeline.recorder.error is None:
            return False
        if self.error is None and not pipeline.recorder.store.gone():
            return False  # it is the right one, and is tried again every second
        try:
            reopen(pipeline, self.path, now)
        except StoreError as error:
            if self.error is not None:
                self.error = error
            return False
        self.error = None
        return True


def reopen(pipeline: Pipeline, path: str, now: Moment) -> None:
    """Let the file at `path` take over from the store that the pipeline has.

    Good evidence and offences of the one before are lost. It is closed when nobody reads it any
    more; SQLite then leaves the files at its path alone, as they are another's.

    Raises:
        StoreError: it still cannot be used; nothing has changed.
    """
    before = pipeline.recorder.store
    vanished = before.gone()
    # Read first: the new file's -shm may be the one that the old one still uses.
    rows = _rows(before, now) if vanished else []
    after = Store.open(path)
    if vanished:
        rows = pipeline.recorder.unbans.others(rows)
    else:  # what operators did without the file, whose bans are all older
        rows = _rows(before, now)
        _manual(before, after, pipeline, now)
    keys = [(row.subject, row.scope) for row in rows]
    past = pipeline.recorder.unbans.pasts(after.past(keys, now.wall))
    carried = [
        _decision(row)
        for row in reversed(rows)
        if past[row.subject, row.scope].until < row.until - _SAME
    ]
    pipeline.change_store(after, now, carried)
    log.warning("reopened database %s; carried over %d active entries", path, len(carried))


def _rows(store: Store, now: Moment) -> list[Snapshot]:
    try:
        return store.listing.snapshots(now.wall, count=_ROWS)
    except StoreError as error:
        log.error("%s; active entries cannot be read. %s", error.message, error.hint)
        return []


def _manual(before: Store, after: Store, pipeline: Pipeline, now: Moment) -> None:
    names: dict[str, list[Allowed]] = {}
    for row in before.allowlist.entries(now.wall):
        if row.name:
            names.setdefault(row.name, []).append(row)
            continue
        with suppress(RefusedError):  # the list is full
            after.allowlist.allow(row.what, row.until, row.note, row.since)
    for name, entries in names.items():
        kept = entries[0].until, entries[0].note
        with suppress(RefusedError):
            after.allowlist.resolve(name, [row.what for row in entries], kept, now.wall)
    for (subject, scope), (at, exempt_until) in before.unbans.all().items():
        pipeline.recorder.unbans.add([(subject, scope)], at, exempt_until)


def _decision(row: Snapshot) -> Decision:
    return Decision(
        row.since,
        row.action,
        row.subject,
        row.scope,
        row.limit,
        row.level,
        row.until,
        row.why,
        rate=row.rate,
        origin=row.origin,
        name=row.name,
    )
