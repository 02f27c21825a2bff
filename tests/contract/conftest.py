"""Each backend in turn. Another one is another name here."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.daemon import guarded
from lab.daemon.guarded import RULESET, Host, Wire
from lab.machine.bpffs import bpffs
from lab.machine.legacy import legacy_path
from lab.network.netns import namespace, unique
from throttled.enforce.answers import PolicyAnswers
from throttled.enforce.backend import Backend, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.enforce.registry import choose, with_answers

KERNEL = [
    pytest.param("xdp", marks=pytest.mark.root),
    pytest.param("nftables", marks=pytest.mark.root),
    pytest.param("nftables before Linux 6.12", marks=pytest.mark.root),
    pytest.param("iptables", marks=pytest.mark.root),
]


@pytest.fixture(scope="session")
def pins() -> Iterator[Path]:
    """Mount a file system for what XDP pins."""
    with bpffs() as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def _pinned_elsewhere(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.enforce.xdp.backend.PINS", pins / unique("xdp"))


def named(param: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a backend; let it do as it does on another kernel."""
    name, _, other = param.partition(" ")
    if other:
        monkeypatch.setattr("throttled.enforce.nftables.elements._RENEWS", False)
    return name


@pytest.fixture(scope="session", autouse=True)
def legacy() -> Iterator[None]:
    """Let this host's iptables be the legacy one."""
    with legacy_path() as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        yield


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with guarded.wire() as made:
        yield made


@pytest.fixture(params=KERNEL)
def host(
    request: pytest.FixtureRequest, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    """Guard a host by a backend that drops packets."""
    with guarded.guarded(named(request.param, monkeypatch), wire) as made:
        yield made


#: Those that have a firewall's entries without a kernel, and a firewall with answers beside it.
OTHERS = ["dryrun", "policy-answers", pytest.param("dispatch", marks=pytest.mark.root)]


@pytest.fixture
def rules() -> Ruleset:
    """Return what a backend is set up with."""
    return RULESET


@pytest.fixture(params=[*KERNEL, *OTHERS])
def backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, rules: Ruleset
) -> Iterator[Backend]:
    """Give a backend that is set up and holds nothing."""
    name = named(request.param, monkeypatch)
    with ExitStack() as stack:
        if name in ("dryrun", "policy-answers"):
            made: Backend = DryRun() if name == "dryrun" else PolicyAnswers()
        else:
            place = stack.enter_context(namespace("backend"))
            stack.enter_context(place.entered())
            made = with_answers(choose("nftables")) if name == "dispatch" else choose(name)
        made.setup(rules)
        yield made
