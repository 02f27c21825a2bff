"""What requests are made of: their base, and the types of their fields. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=500)]
Subject = Annotated[str, Meta(min_length=1, max_length=300)]
Seconds = Annotated[float, Meta(ge=1, le=3650 * 86400)]
#: The name of a list that is imported, as a pattern.
LIST_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
#: The same; "": no such list.
ListName = Annotated[str, Meta(pattern=rf"\A(?:{LIST_NAME})?\Z")]


class Op(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="op"):
    """A request; its operation is in `op`."""


class Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which part of an operator's command a request is: all parts have one audit record."""

    id: Annotated[str, Meta(min_length=8, max_length=40)]  # of the command
    number: Annotated[int, Meta(ge=1)]
    last: bool
    done: Annotated[int, Meta(ge=0)] = 0  # entries of the parts before
    refused: Annotated[int, Meta(ge=0)] = 0
    removed: Annotated[int, Meta(ge=0)] = 0
