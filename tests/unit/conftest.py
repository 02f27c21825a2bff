"""A log that is not there yet, and a pipeline without a kernel, for the tests of several rooms."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    store = Store.open(":memory:")
    yield Pipeline(Policy(), Facts(), store, None, Parser(UTC, now().wall))
    store.close()
