"""What the sensor costs: a connection with it and without, and what the daemon pays to look.

Client and server are two namespaces of this machine, so both ends' calls are in the figures: more
than a mail server has to do. The nanoseconds in the program are the kernel's (`bpf_stats_enabled`).
"""

import contextlib
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.figures.rig import Options, Row
from lab.network import netns
from lab.network.netns import SERVER4, Namespace
from throttled.bpf.libbpf import Program
from throttled.decide.engine import Engine
from throttled.facts import Facts
from throttled.settings import Policy
from throttled.sources.sensor import Sensor
from throttled.sources.sensor_maps import SOURCES

_ROUNDS, _CONNECTIONS = 15, 2_000
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
_RESET = struct.pack("ii", 1, 0)
#: Accepts and closes, in a process of its own.
_ACCEPT = """
import socket, sys
s = socket.create_server((sys.argv[1], 25), backlog=4096)
print(flush=True)
while True: s.accept()[0].close()
"""


def sensed(_: Options) -> list[Row]:
    """Measure connections in turn with the program and without."""
    with netns.pair() as (server, client), _accepting(server), _counting():
        rates: dict[bool, list[float]] = {True: [], False: []}
        nanoseconds = calls = 0
        for number in range(_ROUNDS * 2):
            sensor = server.call(Sensor) if number % 2 else None
            if sensor is not None:
                sensor.watch({"mx": (25,)})
            rates[sensor is not None].append(_CONNECTIONS / _timed(lambda: _connect(client)))
            if sensor is not None:
                spent, made = _spent(sensor)
                nanoseconds, calls = nanoseconds + spent, calls + made
        look, full = server.call(_looks)
    with_it, without = (statistics.median(rates[there]) for there in (True, False))
    each = nanoseconds / (_ROUNDS * _CONNECTIONS)
    return [
        Row(
            "connections/s with the sensor and without",
            "ratio ≥ 0.95",
            f"{with_it:,.0f} / {without:,.0f}, ratio {with_it / without:.2f}",
            with_it / without >= 0.95,
            {"with": with_it, "without": without},
        ),
        Row(
            "… in the program, for one connection",
            "≤ 2,000 ns",
            f"{each:,.0f} ns in {calls / _ROUNDS / _CONNECTIONS:.1f} calls, of both ends",
            each <= 2000,
            {"ns": each},
        ),
        Row(
            "the daemon's look into an empty map, five times a second",
            "≤ 0.2 ms",
            f"{look * 1e3:.3f} ms",
            look <= 0.0002,
            {"seconds": look},
        ),
        Row(
            f"… and into a full one, counting {SOURCES:,} clients",
            "≤ 100 ms",
            f"{full * 1e3:.1f} ms",
            full <= 0.1,
            {"seconds": full},
        ),
    ]


@contextlib.contextmanager
def _accepting(server: Namespace) -> Iterator[None]:
    process = server.popen([sys.executable, "-c", _ACCEPT, SERVER4], stdout=-1)
    try:
        assert process.stdout
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _counting() -> Iterator[None]:
    """Have the kernel count what programs cost: some 20 ns a call more."""
    before = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(before)


def _connect(client: Namespace) -> None:
    with client.entered():
        for _ in range(_CONNECTIONS):
            with socket.create_connection((SERVER4, 25)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _spent(sensor: Sensor) -> tuple[int, int]:
    """Return the nanoseconds and the calls of its program since it was loaded."""
    program = Program.by_number(sensor._link.program)
    lines = Path(f"/proc/self/fdinfo/{program.fd}").read_text().splitlines()
    values = dict(line.split(":\t") for line in lines)
    return int(values["run_time_ns"]), int(values["run_cnt"])


def _looks() -> tuple[float, float]:
    """Return the seconds of a look into an empty map, and into a full one."""
    sensor = Sensor()
    empty = min(_timed(sensor.drain) for _ in range(100))
    keys = b"".join(
        bytes(10) + b"\xff\xff" + struct.pack("!I", 0xC6120000 + n) + bytes(4)
        for n in range(SOURCES)
    )
    counts = sensor._counts
    counts.update_batch(keys, (1).to_bytes(8, sys.byteorder) * SOURCES, SOURCES)
    engine = Engine(Policy(), Facts())

    def look() -> None:
        for (source, scope), count in sensor.drain().items():
            engine.handshakes(source, scope, count, 1000.0)

    return empty, _timed(look)


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
