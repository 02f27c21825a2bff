"""A few decisions in one row, written before they are applied, so that this is soon.

The tables that a decision concerns are a dozen pages, this row is one. Of a process that ended in
between, the next one to open the database completes what the row says: nothing of it is lost, and
its lines are not counted twice. Owns no state.
"""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from throttled.model import Activity, Decision, Evidence
from throttled.store.rows import StoredPosition

#: With what `encode` returns; a single statement is a transaction.
WRITE = "REPLACE INTO write_ahead (number, state) VALUES (1, ?)"
_READ = "SELECT state FROM write_ahead WHERE typeof(state) = 'blob'"
_CLEAR = "DELETE FROM write_ahead"


class Ahead(Struct, frozen=True, array_like=True):
    """What is recorded together; see `Store.record`."""

    now: float
    decisions: Sequence[Decision]
    evidence: Sequence[Evidence]
    positions: Sequence[StoredPosition]
    activity: Sequence[tuple[Activity, int]]


def encode(
    now: float,
    decisions: Sequence[Decision],
    evidence: Sequence[Evidence],
    positions: Sequence[StoredPosition],
    activity: Mapping[Activity, int],
) -> bytes:
    """Return the state to write; see `Store.record`."""
    return _encoder.encode(Ahead(now, decisions, evidence, positions, list(activity.items())))


def read(connection: sqlite3.Connection) -> Ahead | None:
    """Return what is to be completed.

    Raises:
        msgspec.MsgspecError: it was written by another version, or altered.
    """
    row = connection.execute(_READ).fetchone()
    return None if row is None else _decoder.decode(row[0])


def clear(connection: sqlite3.Connection) -> None:
    """Remove the row, as its decisions are in the tables."""
    connection.execute(_CLEAR)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Ahead)
