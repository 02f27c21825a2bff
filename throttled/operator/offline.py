"""A desk without a daemon: made of the database and the kernel, for one request.

The answer is what lookups in the kernel find afterwards; errors of applying go to no log.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from throttled.clock import now
from throttled.config.schema import Config
from throttled.control.bulk import UnbanMany
from throttled.control.requests import READS, Explain, Request, Unban, UnbanAll
from throttled.control.results import Result
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.decide.protect import Protection
from throttled.enforce.backend import Backend
from throttled.enforce.registry import choose, present, with_answers
from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.host.zone import local_zone
from throttled.operator.answer import answer
from throttled.operator.audit import Trail, this_process
from throttled.operator.desk import Desk
from throttled.parse.parser import Parser
from throttled.store.database import MEMORY
from throttled.store.store import Store


def answer_offline(
    settings: Config, path: str, backend: Backend, request: Request, facts: Facts
) -> Result:
    """Answer a request, and record it if it changes something.

    Args:
        settings: the configuration.
        path: of the database.
        backend: whose entries belong to it.
        request: what is asked.
        facts: of this host, if it matters what is protected.

    Raises:
        StoreError: the database cannot be used; an unban is done in the kernel all the same.
        ThrottledError: the command's.
    """
    unusable = None
    try:
        store = Store.open(path, readonly=isinstance(request, READS))
    except StoreError as error:
        if not isinstance(request, Unban | UnbanAll | UnbanMany):
            raise
        store, unusable = Store.open(MEMORY), error
    with closing(store), _silent():
        desk = _desk(settings, store, backend, facts, unusable)
        if isinstance(request, Explain):
            desk.pipeline.reconfigure(settings.policy(), _protection(settings, store, facts))
        trail = Trail(lambda: store, now, offline=True)
        return asyncio.run(trail.handle(request, this_process(), partial(answer, desk)))


def backends(settings: Config, path: str) -> list[Backend]:
    """Return the backends whose entries belong to a database.

    Where the configuration observes, what was really active before may be in any of them.
    """
    firewall = settings.firewall
    if settings.observing and path == settings.store.path:
        names = present() or [firewall.backend]
        return [with_answers(choose(name, firewall.xdp_mode)) for name in names]
    return [with_answers(choose(firewall.backend, firewall.xdp_mode, observing=settings.observing))]


def _desk(
    settings: Config, store: Store, backend: Backend, facts: Facts, unusable: StoreError | None
) -> Desk:
    parser = Parser(local_zone(), now().wall)
    pipeline = Pipeline(settings.policy(), facts, store, backend, parser)
    protected = Protected(pipeline, lambda _decisions: None, now)

    def reconfigure() -> None:
        protection = _protection(settings, store, facts)
        pipeline.reconfigure(settings.policy(), protection)
        protected.follow(protection)

    return Desk(pipeline, backend, protected, lambda: settings, reconfigure, now, unusable=unusable)


def _protection(settings: Config, store: Store, facts: Facts) -> Protection:
    allowed = [row.what for row in store.allowlist.entries(now().wall)]
    return Protection.of(facts, settings.protect, allowed)


@contextmanager
def _silent() -> Iterator[None]:
    core = logging.getLogger("throttled.core")
    core.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        core.setLevel(logging.NOTSET)
