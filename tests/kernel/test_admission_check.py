"""What `check` finds of admission control where the daemon lacks rights."""

import pytest

from lab.network.netns import namespace
from throttled.health.probes import admission
from throttled.health.probes.unit import limited
from throttled.model import Finding

pytestmark = pytest.mark.root

_NET_ADMIN = 1 << 12  # linux/capability.h


def found() -> Finding:
    (only,) = admission.check()
    return only


def test_it_names_what_is_used_instead_of_bpf() -> None:
    with namespace("check") as place, place.entered():
        assert found() == Finding("ok", "overload: BPF can limit strangers")
        with limited(_NET_ADMIN):
            finding = found()
    assert finding.state == "warning"
    assert finding.what.startswith("overload: BPF cannot limit strangers: ")
    assert finding.what.endswith("; nftables is used, less exact")


def test_without_any_everybody_is_admitted() -> None:
    with namespace("check") as place, place.entered(), limited(0):
        finding = found()
    assert finding.state == "warning"
    assert finding.what.endswith("; everybody is admitted")
    assert finding.hint
