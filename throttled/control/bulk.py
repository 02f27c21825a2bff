"""Requests about many subjects, and their results. Pure.

A command about more subjects than one request holds sends several, each a `Part`.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from throttled.control.fields import ListName, Op, Part, Subject, Text
from throttled.model import Scope

#: Subjects that one request unbans.
MAX_UNBANS = 1_000
#: Seconds of an entry of a list by name that states none: whoever fetches a list daily may miss
#: some days.
LASTING = 7 * 86400.0


class UnbanMany(Op, frozen=True, tag="unban-many"):
    """Unban named subjects, or up to `MAX_UNBANS` of those that a filter selects."""

    subjects: Annotated[list[Subject], Meta(max_length=MAX_UNBANS)] = field(default_factory=list)
    within: Subject | None = None  # this subject and, for a network, everything inside it
    limit: Text | None = None
    name: ListName = ""  # what came from this list; its subjects' counts stay
    scope: Scope | None = None  # both
    exempt: Annotated[float, Meta(ge=0, le=3650 * 86400)] = 0.0  # seconds; of named subjects
    part: Part | None = None


class Refusal(Struct, frozen=True):
    """An entry that was not done."""

    index: int  # in the request
    why: str


class UnbanManyResult(Struct, frozen=True, tag_field="kind", tag="unban-many"):
    """What became of `UnbanMany`."""

    done: int  # subjects, of a filter entries
    refused: list[Refusal]
    confirmed: bool  # the kernel was asked, and it is so
    more: bool = False  # the filter selects further entries
    message: str = ""  # what else an operator must know
    would: bool = False  # observing: nothing changed in the kernel
