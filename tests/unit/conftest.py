"""What tests of several rooms need: a log, a pipeline without a kernel, a host with addresses."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from lab.network.netns import Namespace, namespace
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


@pytest.fixture
def networked() -> Iterator[Namespace]:
    """A network namespace whose interface eth0 has an address of each version, and no other."""
    with namespace("networked") as made:
        made.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        for name in ("eth1", "eth0"):
            made.run("ip", "link", "set", name, "addrgenmode", "none", "up")
        made.run("ip", "address", "add", "198.51.100.7/24", "dev", "eth0")
        made.run("ip", "address", "add", "2001:db8::7/64", "dev", "eth0", "nodad")
        yield made
