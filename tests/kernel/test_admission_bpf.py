"""Admission control by BPF: what the other means do not do, and what must not go wrong."""

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from lab.machine.descriptors import DescriptorStore
from lab.machine.limits import no_descriptors
from lab.network import flood, netns
from lab.network.grouped import listen
from lab.network.netns import (
    CLIENT6,
    DEADMAN,
    SERVER4,
    SERVER6,
    Namespace,
    cgroup,
    pair,
    until,
    without,
)
from lab.network.packets import DESTINATION, extension, ip6, opening
from throttled.enforce import sockets
from throttled.enforce.admission import bpf
from throttled.enforce.admission.bpf import Bpf
from throttled.enforce.admission.layout import KNOWN_NETWORKS
from throttled.enforce.admission.places import Former
from throttled.enforce.admission.protocol import KNOWN, AdmissionCounts, AdmissionLimits
from throttled.errors import BackendError

pytestmark = pytest.mark.root

Ends = tuple[Namespace, Namespace]
SHORT = 0.5


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with pair() as made:
        flood.reachable(made[0])
        yield made


@pytest.fixture
def group() -> Iterator[Path]:
    with cgroup("admission") as made:
        yield made


@pytest.fixture
def admission() -> Iterator[Bpf]:
    made = Bpf()
    yield made
    made.stop()


def start(ends: Ends, admission: Bpf, cap: int = 100, pace: int = 0, *known: str) -> None:
    ends[0].call(admission.start, (25,), AdmissionLimits(cap, pace), known)


def connect(ends: Ends, source: str, seconds: float = SHORT) -> socket.socket | None:
    try:
        return ends[1].connect(source, SERVER6 if ":" in source else SERVER4, 25, seconds)
    except TimeoutError:
        return None


def opened(ends: Ends) -> int:
    return len(ends[0].call(sockets.opened, (25,)))


def test_the_counter_is_that_of_inet_diag(ends: Ends, group: Path, admission: Bpf) -> None:
    """Ends of every kind: by either side, by a reset, by SOCK_DESTROY, accepted or not."""
    dice = random.Random(18)
    with listen(ends[0], group, SERVER4, 25) as listener:
        start(ends, admission)
        clients: list[socket.socket] = []
        accepted: list[socket.socket] = []
        for n in range(300):
            made = connect(ends, f"198.18.{n % 250}.{dice.randrange(250)}")
            if made is not None:
                clients.append(made)
            if dice.random() < 0.8:
                listener.settimeout(DEADMAN)
                accepted.append(listener.accept()[0])
            for some in (clients, accepted):
                if len(some) > 40:
                    end = some.pop(dice.randrange(len(some)))
                    if dice.random() < 0.3:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
                    end.close()
            if n % 50 == 49:
                ends[0].call(sockets.destroy, ends[0].call(sockets.opened, (25,))[:10])
        until(lambda: admission.counts().open == opened(ends), "the counters agree")
        assert admission.counts().admitted == 300
        for each in (*clients, *accepted):
            each.close()
    until(lambda: not opened(ends), "all have ended")
    assert admission.counts().open == 0


def test_above_the_places_strangers_are_dropped_because_of_the_pace(
    ends: Ends, group: Path, admission: Bpf
) -> None:
    with listen(ends[0], group, SERVER4, 25), ExitStack() as stack:
        ends[0].call(admission.start, (25,), AdmissionLimits(100, places=3), ())
        for n in range(3):
            stack.enter_context(connect(ends, f"198.18.2.{n}") or pytest.fail("refused"))
        assert connect(ends, "198.18.1.1") is None
        counts = admission.counts()
        assert (counts.dropped_cap, counts.dropped_pace) == (0, 1)


def test_what_drifted_is_corrected(ends: Ends, group: Path, admission: Bpf) -> None:
    with listen(ends[0], group, SERVER4, 25):
        start(ends, admission, 3)
        admission.correct(3)
        assert admission.counts().open == 3
        assert connect(ends, "198.18.1.1") is None
        admission.correct(0)
        with ExitStack() as stack:
            for n in range(3):
                stack.enter_context(connect(ends, f"198.18.2.{n}") or pytest.fail("refused"))
            assert connect(ends, "198.18.1.1") is None


def test_what_came_and_went_while_somebody_counted_is_no_drift(
    ends: Ends, group: Path, admission: Bpf
) -> None:
    """On a busy machine tenths of a second lie between inet_diag's answer and the correction."""
    with listen(ends[0], group, SERVER4, 25), ExitStack() as stack:
        start(ends, admission, 10)
        admission.counts()
        for n in range(3):
            stack.enter_context(connect(ends, f"198.18.2.{n}") or pytest.fail("refused"))
        admission.correct(0)
        assert admission.counts().open == 3
        admission.correct(2)
        assert admission.counts().open == 2


def test_what_a_list_missed_because_others_took_its_place_is_no_drift(
    ends: Ends, group: Path, admission: Bpf
) -> None:
    """The kernel lists one after the other: the ended ones no more, those after them not yet."""
    with listen(ends[0], group, SERVER4, 25) as listener, ExitStack() as stack:
        start(ends, admission, 10)
        before = [connect(ends, f"198.18.2.{n}") or pytest.fail("refused") for n in range(3)]
        assert admission.counts().open == 3
        for each in before:
            each.close()
            listener.accept()[0].close()
        until(lambda: not opened(ends), "all have ended")
        for n in range(3):
            stack.enter_context(connect(ends, f"198.18.3.{n}") or pytest.fail("refused"))
        admission.correct(0)  # neither the former three nor the latter
        assert admission.counts().open == 3
        admission.correct(0)
        assert admission.counts().open == 0


def test_what_was_open_before_is_counted_but_for_known_clients(
    ends: Ends, group: Path, admission: Bpf
) -> None:
    known = "198.18.3.0/24", "198.18.4.4", "2001:db8:b:3::3"
    with ExitStack() as stack:
        for address in (SERVER4, SERVER6):
            stack.enter_context(listen(ends[0], group, address, 25))
        for source in (
            "198.18.3.3",
            "198.18.4.4",
            "2001:db8:b:3::3",
            "198.18.5.5",
            "2001:db8:b::5",
        ):
            stack.enter_context(connect(ends, source) or pytest.fail("refused"))
        start(ends, admission, 10, 0, *known)
        assert admission.counts().open == 2


def test_it_follows_the_listeners(ends: Ends, group: Path, admission: Bpf) -> None:
    """Postfix starts later than we, and again in another control group."""
    start(ends, admission, 0)
    ends[0].call(admission.renew)
    with listen(ends[0], group, SERVER4, 25):
        ends[0].call(admission.renew)
        assert connect(ends, "198.18.1.1") is None
    with cgroup("other") as other, listen(ends[0], other, SERVER4, 25):
        made = connect(ends, "198.18.1.1")
        assert made is not None
        made.close()
        ends[0].call(admission.renew)
        assert connect(ends, "198.18.1.2") is None
    with listen(ends[0], group, SERVER4, 25):
        ends[0].call(admission.renew)
        assert connect(ends, "198.18.1.3") is None


def test_a_group_that_was_removed_and_made_again(
    ends: Ends, group: Path, admission: Bpf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd does for Postfix: the same path, and a socket of the old one is still open."""
    monkeypatch.setattr(netns, "unique", lambda _label: f"{group.name}-again")
    start(ends, admission, 1)
    with ExitStack() as stack:
        for n in range(3):
            with cgroup("admission") as made, listen(ends[0], made, SERVER4, 25) as listener:
                ends[0].call(admission.renew)
                stack.enter_context(connect(ends, f"198.18.{n}.1", 5) or pytest.fail("refused"))
                stack.enter_context(listener.accept()[0])
                assert connect(ends, f"198.18.{n}.2") is None
                assert admission.counts().open == n + 1
                ends[0].call(admission.limit, AdmissionLimits(n + 2))


def test_postfix_where_it_cannot_be_limited(
    ends: Ends, admission: Bpf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "listeners", lambda _ports: {1})
    with pytest.raises(BackendError, match="root control group"):
        start(ends, admission)
    monkeypatch.setattr(sockets, "listeners", lambda _ports: {0})
    with pytest.raises(BackendError, match="not visible"):
        start(ends, admission)
    with pytest.raises(BackendError, match="not started"):
        admission.counts()
    monkeypatch.setattr(bpf, "mounted", lambda _kind: None)
    with pytest.raises(BackendError, match="no control groups"):
        start(ends, admission)


def test_without_the_rights() -> None:
    code = (
        "from throttled.enforce.admission.bpf import *\n"
        "try: Bpf().start((25,), AdmissionLimits(1), ())\n"
        "except BackendError as error: print(error, error.hint)"
    )
    assert "CAP_BPF" in without(["bpf", "sys_admin"], code).stdout


def test_a_daemon_that_is_killed_limits_nobody(ends: Ends, group: Path) -> None:
    code = (
        "from throttled.enforce.admission.bpf import *\n"
        "made = Bpf()\n"
        "made.start((25,), AdmissionLimits(0), ())\n"
        "print('started', flush=True)\n"
        "input()"
    )
    with listen(ends[0], group, SERVER4, 25):
        argv, pipe = [sys.executable, "-c", code], subprocess.PIPE
        daemon = ends[0].popen(argv, stdin=pipe, stdout=pipe)
        assert daemon.stdout
        assert daemon.stdout.readline() == "started\n"
        assert connect(ends, "198.18.1.1") is None
        daemon.send_signal(signal.SIGKILL)
        daemon.communicate()
        made = connect(ends, "198.18.1.2")
        assert made is not None
        made.close()


_DAEMON = """
from throttled.enforce.admission.bpf import *
made = Bpf({lease})
made.start((25,), AdmissionLimits(3), ("198.18.200.9",))
print("started", flush=True)
input()
{end}
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DescriptorStore]:
    with DescriptorStore(tmp_path, monkeypatch) as made:
        yield made


@contextmanager
def ended(
    ends: Ends, manager: DescriptorStore, end: str = "made.leave()", lease: float = 60.0
) -> Iterator[None]:
    """Let strangers have all three places, and then end the daemon with a command, or kill it."""
    code = _DAEMON.format(lease=lease, end=end)
    argv, pipe = [sys.executable, "-c", code], subprocess.PIPE
    daemon = ends[0].popen(argv, stdin=pipe, stdout=pipe)
    assert daemon.stdout
    assert daemon.stdout.readline() == "started\n"
    with ExitStack() as stack:
        for n in range(3):
            stack.enter_context(connect(ends, f"198.18.2.{n}") or pytest.fail("refused"))
        if not end:
            daemon.send_signal(signal.SIGKILL)
        daemon.communicate("\n")
        manager.read()
        yield


def admitted(ends: Ends, source: str, seconds: float = SHORT) -> bool:
    made = connect(ends, source, seconds)
    if made is not None:
        made.close()
    return made is not None


@pytest.mark.parametrize("end", ["", "made.leave()"])
def test_while_systemd_starts_it_again_nothing_changes(
    ends: Ends, group: Path, admission: Bpf, manager: DescriptorStore, end: str
) -> None:
    """Killed or not; the next process goes on from what is open."""
    with listen(ends[0], group, SERVER4, 25), ended(ends, manager, end):
        assert not admitted(ends, "198.18.1.1")
        assert admitted(ends, "198.18.200.9")
        manager.passed()
        former, before = Former(), set(manager.read())
        start(ends, admission, 3, 0, "198.18.200.9")
        assert not admitted(ends, "198.18.1.2")
        former.detach()
        assert admission.counts().open == 3
        assert not admitted(ends, "198.18.1.3")
        now = set(manager.read())
        assert len(now) == len(before) == 2
        assert not now & before
        ends[0].call(admission.limit, AdmissionLimits(4))
        assert admitted(ends, "198.18.1.4")  # the former programs would drop it
        former.detach()
    admission.stop()
    assert manager.read() == {}


def test_once_the_unit_is_stopped_everybody_is_admitted(
    ends: Ends, group: Path, manager: DescriptorStore
) -> None:
    with listen(ends[0], group, SERVER4, 25), ended(ends, manager):
        assert not admitted(ends, "198.18.1.1")
        manager.close()
        assert admitted(ends, "198.18.1.1")


def test_a_daemon_that_is_not_started_again_limits_nobody(
    ends: Ends, group: Path, manager: DescriptorStore
) -> None:
    with listen(ends[0], group, SERVER4, 25), ended(ends, manager, "", lease=3.0):
        assert len(manager.stored) == 2
        assert admitted(ends, "198.18.1.1", 30)


def test_what_stops_leaves_nothing_to_the_next_process(
    ends: Ends, group: Path, manager: DescriptorStore
) -> None:
    with listen(ends[0], group, SERVER4, 25), ended(ends, manager, "made.stop()"):
        assert manager.stored == {}
        assert admitted(ends, "198.18.1.1")


def burst(ends: Ends, stack: ExitStack, count: int) -> None:
    """Open connections at once, each from a network of its own, as fast as it goes."""
    for n in range(count):
        with ends[1].entered():
            made = stack.enter_context(socket.socket())
        made.bind((f"198.19.{n % 250}.{1 + n // 250}", 0))
        made.setblocking(False)
        made.connect_ex((SERVER4, 25))


def test_who_forges_first_and_connects_then_gets_little_more_than_the_cap(
    ends: Ends, group: Path, admission: Bpf
) -> None:
    with listen(ends[0], group, SERVER4, 25, 100), ExitStack() as stack:
        start(ends, admission, 40)
        with flood.flood(ends[1], SERVER4, 25, 10_000):
            until(lambda: admission.counts().pending > 4000, "forged SYNs reserve no places")
            burst(ends, stack, 300)
            until(lambda: opened(ends) >= 40, "the cap is reached")
        burst(ends, stack, 300)
        assert opened(ends) <= 40 + 40 // 8 + 1


@pytest.mark.parametrize("limits", [AdmissionLimits(4), AdmissionLimits(8), AdmissionLimits(80)])
def test_forged_syns_take_none_of_few_places(
    ends: Ends, group: Path, admission: Bpf, limits: AdmissionLimits
) -> None:
    """A few dozen a second; strangers have all but four places."""
    with listen(ends[0], group, SERVER4, 25), ExitStack() as stack:
        ends[0].call(admission.start, (25,), limits, ())
        for n in range(limits.cap - 4):
            stack.enter_context(connect(ends, f"198.18.2.{n}") or pytest.fail("refused"))
        with flood.flood(ends[1], SERVER4, 25, rate=50):
            until(lambda: admission.counts().dropped > 10, "forged SYNs are dropped, or none")
            for n in range(4):
                stack.enter_context(connect(ends, f"198.18.1.{n}", 8.0) or pytest.fail("refused"))


def test_ipv4_at_a_listener_for_both(ends: Ends, group: Path, admission: Bpf) -> None:
    with listen(ends[0], group, "::", 25):
        start(ends, admission, 1, 0, "198.18.1.9")
        ipv4, known = connect(ends, "198.18.1.1"), connect(ends, "198.18.1.9")
        assert ipv4 is not None
        assert known is not None
        assert admission.counts() == AdmissionCounts(open=1, admitted=1, networks=1)
        assert connect(ends, "198.18.1.2") is None
        assert connect(ends, "2001:db8:b::2") is None
        ipv4.close()
        known.close()


def dropped(admission: Bpf, count: int) -> bool:
    return admission.counts().dropped_cap == count


def test_extension_headers_hide_no_syn(ends: Ends, group: Path, admission: Bpf) -> None:
    source, expected = "2001:db8:b:7::7", 0
    with listen(ends[0], group, SERVER6, 25):
        start(ends, admission, 0)
        with ends[1].entered():
            raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw:
            for count in (0, 1, 3, 8, 9, 12):
                headers = [extension(DESTINATION)] * count
                packet = ip6(source, SERVER6, opening(source, SERVER6, 2000 + count), headers)
                raw.sendto(packet, (SERVER6, 0))
                expected += 1
                until(partial(dropped, admission, expected), str(count))


def test_more_known_clients_than_there_is_room_for(
    ends: Ends, admission: Bpf, caplog: pytest.LogCaptureFixture
) -> None:
    start(ends, admission)
    admission.add_known(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(KNOWN))
    assert not caplog.records
    admission.add_known(["198.18.0.1", "198.18.0.2"])
    assert "2 are treated as strangers" in caplog.text
    admission.remove_known(["10.0.0.0", "10.0.0.1"])
    admission.add_known(["198.18.0.1", "198.18.0.2"])
    assert len(caplog.records) == 1
    admission.add_known(f"11.{n >> 8}.{n & 255}.0/24" for n in range(KNOWN_NETWORKS + 3))
    assert "known_networks: 3 are treated as strangers" in caplog.text


def test_networks_are_counted_in_pieces(ends: Ends, admission: Bpf) -> None:
    start(ends, admission)
    networks = admission._map("networks")
    many = 20_000
    keys = b"".join((1 + n).to_bytes(8) for n in range(many))
    networks.update_batch(keys, bpf._now().to_bytes(8, sys.byteorder) * many, many)
    seen = {admission.counts().networks for _ in range(30)}
    assert max(seen) == many
    assert admission.counts().networks == many


def test_nat64_clients_are_no_network(ends: Ends, group: Path, admission: Bpf) -> None:
    """Addresses of 64:ff9b::/96 have IPv4 in them: theirs is the /24 of that."""
    with (
        ends[0].added("route", "64:ff9b::/96", "via", CLIENT6),
        ends[1].added("route", "local", "64:ff9b::/96", "dev", "lo"),
        listen(ends[0], group, SERVER6, 25),
        ExitStack() as stack,
    ):
        ends[0].call(admission.start, (25,), AdmissionLimits(cap=9, turn=300), ())
        for low in ("c612:0101", "c612:0201"):
            stack.enter_context(connect(ends, f"64:ff9b::{low}") or pytest.fail(low))
        assert connect(ends, "64:ff9b::c612:0102") is None
        assert admission.delayed_networks(5) == [("198.18.1.0/24", 1)]


def test_without_descriptors_it_is_refused() -> None:
    with no_descriptors(), pytest.raises(BackendError, match="Too many open files"):
        Bpf().start((25,), AdmissionLimits(9), ())
