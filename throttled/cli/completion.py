"""What a shell completes: addresses, accounts, limits, hosts of the fleet, lists. Owns no state.

Asked of the daemon, which must answer within `_PATIENCE`; where it does not it is not asked again,
nothing is completed, and nothing is ever printed. Names are the clients':
one that a shell might read as anything but a word is not offered.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import click

from throttled.errors import NotRunningError, ThrottledError

#: Seconds.
_PATIENCE = 1.0
#: Words that are offered, and latest entries that are looked at for them.
_MOST, _ACTIVE = 100, 1000
#: What subjects that are no addresses begin with.
_KINDS = ("account:", "mailbox:", "domain:", "uid:")
#: What a daemon that is not there, or of another version, answers with.
_UNANSWERED = (ThrottledError, OSError, AttributeError)
_WORD = re.compile(r"[A-Za-z0-9@._:/+=-]+")

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def subjects(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return active and known subjects that begin so."""
    return _offered(begun, _asked(ctx, partial(_known, begun), _active))


def allowable(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return entries of the allowlist that begin so, then subjects."""
    return _offered(begun, _asked(ctx, _allowed, partial(_known, begun), _active))


def limits(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the names that stand in the place of a limit."""
    return _offered(begun, _asked(ctx, _limits))


def peers(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return hosts of the fleet."""
    return _offered(begun, _asked(ctx, _peers))


def lists(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return imported lists that the latest entries came from."""
    return _offered(begun, _asked(ctx, _lists))


def _offered(begun: str, words: Iterable[str]) -> list[str]:
    found = dict.fromkeys(word for word in words if word.startswith(begun))
    return [word for word in found if _WORD.fullmatch(word)][:_MOST]


def _asked(ctx: click.Context, *questions: Callable[[], Iterator[str]]) -> list[str]:
    """Return the answers there are. What would be said of others stays unsaid."""
    root = ctx.find_root()
    if root.obj is None:  # parsed, but not run
        root.obj = (root.params.get("config"), root.params.get("socket"))
    answers: list[str] = []
    with ctx.scope(cleanup=False), redirect_stderr(StringIO()):
        for question in questions:
            try:
                answers += question()
            except NotRunningError:
                break
            except _UNANSWERED:
                continue
    return answers


def _reply(request: Any) -> Any:
    from throttled.cli.daemon import socket_path  # noqa: PLC0415 - libraries that --help needs not
    from throttled.control import client  # noqa: PLC0415 - as above

    return client.request(Path(socket_path()), request, _PATIENCE)


def _active() -> Iterator[str]:
    from throttled.control.requests import List  # noqa: PLC0415 - as above

    yield from (row.subject for row in _reply(List(max=_ACTIVE)).rows)


def _lists() -> Iterator[str]:
    from throttled.control.requests import List  # noqa: PLC0415 - as above

    for row in _reply(List(max=_ACTIVE)).rows:
        kind, _, name = row.origin.partition(":")
        if kind == "list":
            yield name


def _known(begun: str) -> Iterator[str]:
    from throttled.control.requests import Find  # noqa: PLC0415 - as above

    text = begun.partition(":")[2] if begun.startswith(_KINDS) else begun
    if len(text) > 1:
        rows = _reply(Find(text, max=_MOST)).rows
        yield from (row.subject for row in sorted(rows, key=lambda row: row.active is None))


def _allowed() -> Iterator[str]:
    from throttled.control.requests import Allowed  # noqa: PLC0415 - as above

    rows = _reply(Allowed()).rows
    yield from (row.name or row.what for row in rows)


def _limits() -> Iterator[str]:
    from throttled.cli.daemon import config  # noqa: PLC0415 - as above
    from throttled.operator.unknown import OTHER_LIMITS  # noqa: PLC0415 - as above

    yield from (*sorted(config().limits), *OTHER_LIMITS)


def _peers() -> Iterator[str]:
    from throttled.control.requests import FleetStatus  # noqa: PLC0415 - as above

    yield from (peer.name for peer in _reply(FleetStatus()).peers)
