"""A host guarded by nftables."""

from collections.abc import Iterator

import pytest

from lab.daemon import guarded
from lab.daemon.guarded import Host, Wire


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with guarded.wire() as made:
        yield made


@pytest.fixture
def host(wire: Wire) -> Iterator[Host]:
    with guarded.guarded("nftables", wire) as made:
        yield made
