"""Admission control by nftables: what is special to it."""

import subprocess
import sys

import pytest

from lab.network.netns import SERVER4, namespace, pair
from throttled.enforce.admission.nftables import Nftables
from throttled.enforce.admission.protocol import KNOWN, AdmissionLimits
from throttled.errors import BackendError

pytestmark = pytest.mark.root


def test_a_daemon_that_was_killed_limits_nobody_for_long() -> None:
    code = (
        "from throttled.enforce.admission.nftables import *\n"
        "Nftables(1.0).start((25,), AdmissionLimits(0), ())\n"
        "print('started', flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pair() as (server, client), server.listen(SERVER4, 25):
        daemon = server.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert daemon.communicate()[0] == "started\n"
        client.connect("198.18.1.1", SERVER4, 25, 30).close()
        assert "throttled_admission_25" in server.run("nft", "list", "tables").stdout
        made = Nftables()
        server.call(made.start, (25,), AdmissionLimits(0), ())
        with pytest.raises(TimeoutError):
            client.connect("198.18.1.1", SERVER4, 25, 0.5)
        server.call(made.stop)
        assert "throttled" not in server.run("nft", "list", "tables").stdout


def test_a_table_that_was_removed_is_an_error_until_it_is_started_again() -> None:
    with namespace("admission") as place, place.entered():
        made = Nftables()
        with pytest.raises(BackendError, match="not started"):
            made.renew()
        made.start((25,), AdmissionLimits(9), ("198.18.0.0/24",))
        place.run("nft", "flush", "ruleset")
        for call in (made.renew, made.counts, lambda: made.correct(3)):
            with pytest.raises(BackendError):
                call()
        made.start((25,), AdmissionLimits(9), ())
        assert made.counts().dropped == 0
        made.stop()


def test_more_known_clients_than_there_is_room_for(caplog: pytest.LogCaptureFixture) -> None:
    with namespace("admission") as place, place.entered():
        made = Nftables()
        made.start((25,), AdmissionLimits(9), ())
        made.add_known(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(KNOWN))
        assert not caplog.records
        made.add_known(f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(KNOWN + 9))
        assert "treated as strangers" in caplog.text
        made.add_known(f"12.{n >> 8}.{n & 255}.0/24" for n in range(4097))  # as many as wanted
        made.stop()
