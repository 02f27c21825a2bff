from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machine.databases import databases  # noqa: F401 - a fixture
from throttled.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "throttled.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    opened = Store.open(path)
    yield opened
    opened.close()
