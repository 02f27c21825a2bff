"""The sensor in the kernel: real connections between namespaces."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machine.limits import no_descriptors
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6, Namespace, pair
from lab.network.spoof import opened, spoof
from throttled.config import schema
from throttled.errors import BackendError
from throttled.health.probes.sensor import check
from throttled.sources import sensor as module
from throttled.sources.sensor import Sensor
from throttled.sources.sensor_maps import SOURCES

pytestmark = pytest.mark.root

V4, V6 = "198.18.7.7", "2001:db8:b::7"
Ends = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with pair() as made:
        yield made


@pytest.fixture
def sensor(ends: Ends) -> Sensor:
    made = ends[0].call(Sensor)
    made.watch({"mx": (25,), "submission": (587,)})
    return made


def connect(ends: Ends, source: str, port: int, count: int) -> None:
    """Complete connections that nobody accepts."""
    target = SERVER6 if ":" in source else SERVER4
    with ends[0].listen(target, port):
        for _ in range(count):
            ends[1].connect(source, target, port).close()


def test_completed_connections_are_counted_by_client_and_scope(ends: Ends, sensor: Sensor) -> None:
    connect(ends, V4, 25, 3)
    connect(ends, V6, 587, 2)
    connect(ends, V4, 587, 1)
    connect(ends, V4, 80, 5)
    counted = {(V4, "mx"): 3, (V6, "submission"): 2, (V4, "submission"): 1}
    assert sensor.drain() == counted
    assert sensor.drain() == {}
    sensor.watch({"mx": (80,)})
    connect(ends, V4, 25, 1)
    connect(ends, V4, 80, 1)
    assert sensor.drain() == {(V4, "mx"): 1}


def test_ipv4_at_a_listener_for_both(ends: Ends, sensor: Sensor) -> None:
    with ends[0].entered():
        both = socket.create_server(("::", 25), family=socket.AF_INET6, dualstack_ipv6=True)
    with both:
        ends[1].connect(V4, SERVER4, 25).close()
    assert sensor.drain() == {(V4, "mx"): 1}


def test_another_network_namespace_is_not_ours(ends: Ends, sensor: Sensor) -> None:
    with ends[1].listen("127.0.0.1", 25):
        ends[1].connect("127.0.0.1", "127.0.0.1", 25).close()
    assert sensor.drain() == {}


def test_our_own_connections_to_others_are_not_counted(ends: Ends, sensor: Sensor) -> None:
    with ends[1].listen(netns.CLIENT4, 25):
        ends[0].connect(SERVER4, netns.CLIENT4, 25).close()
    assert sensor.drain() == {}


def test_a_syn_alone_counts_nothing(ends: Ends, sensor: Sensor) -> None:
    with ends[0].listen(SERVER4, 25):
        before = opened(ends[0])
        spoof(ends[1], [f"198.18.{n // 250}.{n % 250}" for n in range(10_000)], SERVER4, 25, 1)
        assert opened(ends[0]) - before >= 10_000
    assert sensor.drain() == {}


def test_more_clients_than_there_is_room_for_are_missed(ends: Ends, sensor: Sensor) -> None:
    more = 50
    with ends[0].listen(SERVER4, 25, backlog=4096) as listener:
        for n in range(SOURCES + more):
            ends[1].connect(f"198.19.{n // 250}.{n % 250}", SERVER4, 25).close()
            listener.accept()[0].close()
    assert len(sensor.drain()) == SOURCES
    assert sensor.missed == more
    connect(ends, V4, 25, 1)
    assert sensor.drain() == {(V4, "mx"): 1}


def test_two_at_once_both_count(ends: Ends, sensor: Sensor) -> None:
    other = ends[0].call(Sensor)
    other.watch({"mx": (25,)})
    connect(ends, V4, 25, 1)
    assert sensor.drain() == other.drain() == {(V4, "mx"): 1}


def test_a_sensor_that_was_detached_says_so(sensor: Sensor) -> None:
    sensor._link.detach()
    with pytest.raises(BackendError, match="detached"):
        sensor.drain()


def test_a_control_group_without_the_listener_sees_nothing(ends: Ends) -> None:
    root = netns.cgroup_root()
    assert root is not None
    path = root / netns.unique("sensor")
    path.mkdir()
    try:
        made = ends[0].call(Sensor, path)
        made.watch({"mx": (25,)})
        connect(ends, V4, 25, 1)
        assert made.drain() == {}
    finally:
        path.rmdir()


def test_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mounted", lambda _kind: None)
    with pytest.raises(BackendError, match="no control groups") as caught:
        Sensor()
    assert "cgroup2" in caught.value.hint
    for settings in (schema.Sensor(), schema.Sensor(handshakes=True)):
        (finding,) = check(settings)
        assert (finding.state, finding.hint) == ("warning", caught.value.hint)
        assert "from the log alone" in finding.what
    with pytest.raises(BackendError, match="to attach it to /proc"):
        Sensor(Path("/proc"))
    monkeypatch.undo()
    with no_descriptors(), pytest.raises(BackendError, match="Too many open files"):
        Sensor()


def test_the_check() -> None:
    assert [finding.what for finding in check(schema.Sensor())] == [
        "sensor: completed handshakes can be counted"
    ]
    (finding,) = check(schema.Sensor(handshakes=False))
    assert finding.what.startswith("sensor: off")
