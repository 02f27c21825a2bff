from collections.abc import Iterator

import pytest

from lab.fleet.streams import Host, connected
from lab.machine.databases import databases  # noqa: F401 - a fixture


@pytest.fixture
def one() -> Iterator[Host]:
    with connected("mx1") as host:
        yield host


@pytest.fixture
def two() -> Iterator[Host]:
    with connected("mx2") as host:
        yield host
