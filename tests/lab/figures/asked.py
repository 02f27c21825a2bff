"""What Postfix's policy requests cost, and what becomes of mail that is slowed.

Beside the daemon a bare server that answers DUNNO is measured in the same run, in turns, and
Debian's policyd-rate-limit and postfwd.
"""

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.daemon.daemon import Daemon, daemon
from lab.figures.asked_peers import PEERS, Peer, peers, running
from lab.figures.rig import Options, Row, quantiles
from lab.mail import asking
from lab.mail.asking import DEVICE, LIMIT, at_once, decided, send, throttle
from lab.mail.postfix import Lab, lab
from lab.network.netns import CLIENT4, SERVER4
from throttled.model import Rate

_HERE = Path(__file__).parent
_MESSAGES, _SESSIONS, _TURNS = 2000, 10, 3
_SECONDS = 10.0
#: Without these a mail would cost a delivery, and not only what smtpd does.
_SINK = (
    f"mynetworks=127.0.0.0/8 {CLIENT4}/32 {DEVICE}/32",
    "transport_maps=inline:{discard.test=discard:}",
)


def asked(_: Options) -> list[Row]:
    """Measure requests a second, messages a second, and senders beside each other."""
    with lab() as at:
        asking.connect(at, "throttled/policy", *_SINK)
        with daemon(at.server, at.mail.config, LIMIT) as guard:
            guard.start()
            rows = [_requests(at, guard)]
        with peers() as root:
            rows += [_peer(at, root, peer) for peer in PEERS]
        rows += _messages(at)
        at.server.run("postconf", "-c", str(at.mail.config), "-e", "default_process_limit=20")
        asking.reload(at)
        rows += _beside(at)
    return rows


def _requests(at: Lab, guard: Daemon) -> Row:
    median, p99, cpu, rate = _load(at, guard.cpu)
    return Row(
        f"policy requests, {rate:,.0f}/s on 80 connections of 10 processes",
        "p99 ≤ 2 ms, ≤ 20 % of a core",
        f"{median * 1e3:.2f} / {p99 * 1e3:.2f} ms, {cpu:.1%}",
        p99 <= 0.002 and cpu <= 0.2 and rate >= 1_900,
        {"median": median, "p99": p99, "cpu": cpu, "rate": rate},
    )


def _peer(at: Lab, root: Path, peer: Peer) -> Row:
    path = at.mail.home / "queue/throttled/policy"
    with running(peer, root, at.server, path) as used:
        median, p99, cpu, rate = _load(at, used, peer.state)
    return Row(
        f"… {peer.name}, as many as it answers of 2,000/s",
        "",
        f"{rate:,.0f}/s; {median * 1e3:.2f} / {p99 * 1e3:.2f} ms, {cpu:.1%}",
        True,
        {"median": median, "p99": p99, "cpu": cpu, "rate": rate},
    )


def _load(
    at: Lab, used: Callable[[], float], state: str = "DATA"
) -> tuple[float, float, float, float]:
    """Ask 2,000 times a second; return the median, p99, share of a core, and answers a second."""
    path = at.mail.home / "queue/throttled/policy"
    before = used()
    # A process may have eight connections at most.
    argv = [sys.executable, str(_HERE / "asking.py"), str(path), "8", "200", str(_SECONDS), state]
    processes = [at.server.popen(argv, stdout=subprocess.PIPE) for _ in range(10)]
    times = [float(line) for each in processes for line in each.communicate()[0].split()]
    cpu = (used() - before) / _SECONDS
    return *quantiles(times), cpu, len(times) / _SECONDS


def _messages(at: Lab) -> list[Row]:
    """Compare with a bare server: alone, and beside a daemon that reads the log all the same."""
    path = at.mail.home / "queue/throttled/policy"
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "beside": []}
    cpu = {"ours": 0.0, "beside": 0.0}
    for _ in range(_TURNS):
        for kind, found in rates.items():
            with contextlib.ExitStack() as stack:
                guard = stack.enter_context(daemon(at.server, at.mail.config, LIMIT))
                if kind != "bare":
                    guard.start()
                if kind != "ours":
                    stack.enter_context(_bare(at, path))
                before = guard.cpu() if kind != "bare" else 0.0
                found.append(_rate(at))
                if kind != "bare":
                    cpu[kind] += (guard.cpu() - before) / _TURNS / _MESSAGES
    ours, bare, beside = (statistics.median(found) for found in rates.values())
    return [
        Row(
            "messages a second, asked about by Postfix",
            "≥ 0.9 of a server that only says DUNNO",
            f"{ours / bare:.2f} ({ours:,.0f} against {bare:,.0f})",
            ours >= 0.9 * bare,
            {"share": ours / bare, "ours": ours, "bare": bare},
        ),
        Row(
            "… the same beside a daemon that reads the log",
            "≥ 0.9",
            f"{ours / beside:.2f} ({beside:,.0f}); CPU a message {cpu['ours'] * 1e6:.0f} us, of "
            f"which the log {cpu['beside'] * 1e6:.0f}",
            ours >= 0.9 * beside,
            {"share": ours / beside, "cpu": cpu["ours"], "log": cpu["beside"]},
        ),
    ]


def _rate(at: Lab) -> float:
    """Return the messages a second that Postfix takes."""
    load = ("smtp-source", "-s", str(_SESSIONS), "-d", "-l", "400")
    ends = ("-f", "a@example.test", "-t", "b@discard.test", f"{SERVER4}:25")
    at.client.run(*load, "-m", "50", *ends)  # starts the processes
    began = time.monotonic()
    at.client.run(*load, "-m", str(_MESSAGES), *ends)
    return _MESSAGES / (time.monotonic() - began)


@contextlib.contextmanager
def _bare(at: Lab, path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    argv = [sys.executable, str(_HERE / "bare.py"), str(path)]
    process = at.server.popen(argv, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)


def _beside(at: Lab) -> list[Row]:
    """Measure a good client beside 40 senders of a slowed host, with 20 smtpd processes."""
    with daemon(at.server, at.mail.config, LIMIT) as guard:
        decided(guard.home / "throttled.db", throttle(DEVICE, Rate(2, 1.0, 10)))
        guard.start()
        stop, good = threading.Event(), list[float]()

        def visit() -> None:
            while not stop.is_set():
                good.extend(send(at, 1, "198.18.9.9"))
                stop.wait(0.3)

        visitor = threading.Thread(target=visit)
        visitor.start()
        began = time.monotonic()
        accepted = at_once(40, lambda: send(at, 2, sessions=True))
        lasted = time.monotonic() - began
        stop.set()
        visitor.join()
    median = statistics.median(good)
    return [
        Row(
            "40 senders of a host slowed to 2/s at once, mail accepted",
            "80 of 80",
            f"{len(accepted)} of 80 in {lasted:.1f} s",
            len(accepted) == 80,
            {"accepted": len(accepted), "seconds": lasted},
        ),
        Row(
            "… a good client beside them",
            "median ≤ 10 ms",
            f"{median * 1e3:.1f} ms, slowest {max(good) * 1e3:.0f} ms of {len(good)}",
            median <= 0.010,
            {"median": median, "max": max(good)},
        ),
    ]
