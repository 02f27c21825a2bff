"""The order of the tests, and what an earlier run left behind."""

import os

import pytest

from lab import netns


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove what killed runs left, once, before there are workers whose leftovers are tested."""
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        netns.sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker has it left when the others have ended."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[bool, bool]:
    return item.get_closest_marker("long") is None, item.get_closest_marker("root") is None
