"""Admission control by iptables: what is special to it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.daemon.guarded import RULESET
from lab.machine.legacy import legacy_path
from lab.network.netns import SERVER4, namespace, pair
from throttled.enforce.admission import ipset_rules
from throttled.enforce.admission.iptables import Iptables
from throttled.enforce.admission.protocol import KNOWN, AdmissionLimits
from throttled.enforce.iptables import tables
from throttled.enforce.registry import choose
from throttled.errors import BackendError

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _legacy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with legacy_path() as path:
        monkeypatch.setenv("PATH", path)
        yield


def test_a_daemon_that_was_killed_limits_nobody_for_long() -> None:
    code = (
        "from throttled.enforce.admission.iptables import *\n"
        "Iptables(1.0).start((25,), AdmissionLimits(0), ())\n"
        "print('started', flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pair() as (server, client), server.listen(SERVER4, 25):
        before = server.run("iptables-legacy", "-w", "-t", "raw", "-S").stdout
        daemon = server.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert daemon.communicate()[0] == "started\n"
        client.connect("198.18.1.1", SERVER4, 25, 30).close()
        assert "thra25" in server.run("iptables-legacy", "-w", "-t", "raw", "-S").stdout
        made = Iptables()
        server.call(made.start, (25,), AdmissionLimits(0), ())
        with pytest.raises(TimeoutError):
            client.connect("198.18.1.1", SERVER4, 25, 0.5)
        server.call(made.stop)
        assert server.run("iptables-legacy", "-w", "-t", "raw", "-S").stdout == before


def test_it_leaves_the_backend_alone_and_the_other_way_round() -> None:
    with namespace("admission") as place, place.entered():
        backend, made = choose("iptables"), Iptables()
        backend.setup(RULESET)
        made.start((25,), AdmissionLimits(9), ("198.18.0.0/24",))
        assert backend.intact()
        backend.setup(RULESET)
        assert backend.intact()
        listed = place.run("iptables-legacy", "-w", "-t", "raw", "-S").stdout
        assert "-j thra25" in listed
        backend.teardown()
        made.renew()
        made.limit(AdmissionLimits(3))
        made.stop()
        assert "thr" not in place.run("iptables-legacy", "-w", "-t", "raw", "-S").stdout


def test_sets_that_were_removed_are_an_error_until_it_is_started_again() -> None:
    with namespace("admission") as place, place.entered():
        made = Iptables()
        with pytest.raises(BackendError, match="not started"):
            made.renew()
        made.start((25,), AdmissionLimits(9), ())
        place.run("iptables-legacy", "-w", "-t", "raw", "-F")
        for version in (4, 6):
            program = "iptables-legacy" if version == 4 else "ip6tables-legacy"
            place.run(program, "-w", "-t", "raw", "-F")
            place.run(program, "-w", "-t", "raw", "-X")
        for each in ipset_rules.ipsets("thra25", 1, 1):
            made._ipsets.destroy(each.name)
        for call in (made.renew, made.counts, lambda: made.correct(9)):
            with pytest.raises(BackendError):
                call()
        made.start((25,), AdmissionLimits(9), ())
        assert made.counts().dropped == 0
        made.stop()


def test_more_known_clients_than_there_is_room_for(caplog: pytest.LogCaptureFixture) -> None:
    with namespace("admission") as place, place.entered():
        made = Iptables()
        made.start((25,), AdmissionLimits(9), ())
        made.add_known(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(KNOWN))
        assert not caplog.records
        # The kernel counts a set's elements only where a part of its buckets is above its share.
        made.add_known(f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(KNOWN + 20_000))
        assert "treated as strangers" in caplog.text
        caplog.clear()
        made.add_known(f"12.{n >> 8}.{n & 255}.0/24" for n in range(5000))
        assert "treated as strangers" in caplog.text
        made.stop()


def test_the_nft_variant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "variant", lambda: "nf_tables")
    with pytest.raises(BackendError, match="nft variant"):
        Iptables().start((25,), AdmissionLimits(9), ())


def test_the_program_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_RESTORE", {4: "/nowhere", 6: "/nowhere"})
    with (
        namespace("admission") as place,
        place.entered(),
        pytest.raises(BackendError, match="/nowhere"),
    ):
        Iptables().start((25,), AdmissionLimits(9), ())
