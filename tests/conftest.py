"""The order of the tests, the worker of each, and what an earlier run left behind."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings
from xdist.scheduler import LoadScopeScheduling

from lab import unchanged
from lab.mail.postfix import Lab
from lab.network import netns
from lab.unchanged import State
from pure import GENERATED, PACKAGE, modules, test_of

# Some machines set it for all programs, no mail server does: commands flush their output otherwise.
os.environ.pop("PYTHONUNBUFFERED", None)
# A run in the background ignores it, and what restores it at its end does not know of that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# An ordinary user of Debian has no sbin there, where Postfix's commands are.
os.environ["PATH"] += ":/usr/sbin:/sbin"

# The time of an example says nothing on a machine that runs other tests beside it.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

#: Modules that make a host which takes long to make: all of their tests go to one worker. (The
#: marker xdist_group does nothing with pytest 9 and xdist 3.8.)
TOGETHER = (
    "system/test_accounts.py",
    "system/test_answers.py",
    "system/test_docs.py",
    "system/test_fleet.py",
    "system/test_fleet_failures.py",
    "system/test_fleet_hostile.py",
    "system/test_fleet_package.py",
    "system/test_mail.py",
    "system/test_package.py",
    "system/test_policy_requests.py",
    "system/test_postfix_kinds.py",
    "system/test_recipients.py",
    "system/test_senders.py",
    "system/test_stock.py",
)


#: The fixtures of hosts that several tests use, one after the other.
SHARED = ("lab", "wire", "ends", "namespaces")


@pytest.fixture
def others() -> None:
    """Skip what another user runs where such a user cannot reach this checkout."""
    for place in Path(__file__).resolve().parents:
        if not place.stat().st_mode & 0o001:
            pytest.skip(f"other users may not enter {place}: clone to where they may, e.g. /srv")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no type information here
    """Gives each worker the next test, or the next module of TOGETHER, when it has time."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module.endswith(TOGETHER) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Decide which worker gets which test."""
    return Scheduling(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove what killed runs left, once, before there are workers whose leftovers are tested."""
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        netns.sweep()


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests that cover pure modules, and begin with what takes long.

    So that no worker has it left when the others have ended.
    """
    generated = {PACKAGE / name for name in GENERATED}
    own = {test_of(module): module in generated for module in modules()}
    for item in items:
        if item.path in own and (own[item.path] or not is_hypothesis_test(item.obj)):
            item.add_marker("pure")
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[bool, bool]:
    return item.get_closest_marker("long") is None, item.get_closest_marker("root") is None


@pytest.fixture(autouse=True)
def _leaves_all_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that a test leaves what it shares with others as it was."""
    with ExitStack() as stack:
        stack.enter_context(unchanged.unchanged(unchanged.of_process))
        for name in SHARED:
            if name in request.fixturenames:
                stack.enter_context(unchanged.unchanged(_look(request.getfixturevalue(name))))
        yield


def _look(shared: Any) -> Callable[[], State]:
    if isinstance(shared, Lab):
        return partial(unchanged.of_lab, shared)
    if isinstance(shared, tuple):
        return partial(unchanged.of_hosts, *shared)
    if hasattr(shared, "server") and hasattr(shared, "client"):
        return partial(unchanged.of_hosts, shared.server, shared.client)
    return dict  # a lab in this process
