"""What Postfix and a good sender feel of a flood from banned sources: nothing, it should be.

The unprotected flood consists of whole sessions, as many as attackers on the same machine can
start; what a session costs Postfix is measured there. The protected one is 2,000 SYNs a second,
each of which would have become such a session. Owns a thread while it sends.
"""

import contextlib
import time
from collections.abc import Iterator

from lab.figures import latency
from lab.figures.rig import Options, Rig, Row, quantiles, rig
from lab.mail.bots import Bot
from lab.show import scene

_SECONDS = 8.0
_SYNS = 2_000  # a second
_SOURCES = 40


def besieged(_: Options) -> list[Row]:
    """Compare a quiet server, a flooded one and one whose flood is banned."""
    sources = [f"198.18.{n}.9" for n in range(_SOURCES)]
    with rig() as at:
        _good(at)  # the first session starts an smtpd
        quiet = _good(at)
        session = _session_cost(at, sources)
        for source in sources:
            at.guard.ask("ban", source, "--scope", "mx", "--for", "1h")
        before, start = at.mail.cpu(), time.monotonic()
        with _knocking(at, sources) as count:
            latencies = _good(at)
        used = (at.mail.cpu() - before) / (time.monotonic() - start)
        syns = count[0] / (time.monotonic() - start)
    free = syns * session
    share = used / free
    slower = quantiles(latencies)[1] / quantiles(quiet)[1]
    return [
        Row(
            f"Postfix's CPU, {syns:,.0f} SYN/s from banned sources",
            "≤ 5 % of unprotected",
            f"{share:.1%} ({used:.1%} for {free:.0%} of a core)",
            share <= 0.05,
            {"share": share, "protected": used, "unprotected": free, "syns": syns},
        ),
        Row(
            "… a good sender's p99 latency",
            "≤ 1.5 of quiet",
            f"{slower:.2f} ({quantiles(quiet)[1] * 1e3:.0f} ms)",
            slower <= 1.5,
            {"ratio": slower, "quiet": quantiles(quiet)[1], "besieged": quantiles(latencies)[1]},
        ),
    ]


def _good(at: Rig) -> list[float]:
    """Let good senders deliver for a while and return how long each message took."""
    return Bot(at.client, "sender", _SECONDS, scene.SENDERS).report().latencies


def _session_cost(at: Rig, sources: list[str]) -> float:
    """Return the seconds of Postfix's CPU that one session of a flood costs."""
    before = at.mail.cpu()
    report = Bot(at.client, "flood", _SECONDS / 2, sources).report()
    return (at.mail.cpu() - before) / report.sessions


@contextlib.contextmanager
def _knocking(at: Rig, sources: list[str]) -> Iterator[list[int]]:
    """Send SYNs while the block runs; the list holds how many."""
    with contextlib.ExitStack() as stack:
        probes = [latency.Probe(at.client, source) for source in sources]
        for probe in probes:
            stack.callback(probe.close)
        count, start = [0], time.monotonic()

        def knock() -> None:
            while count[0] < (time.monotonic() - start) * _SYNS:
                probes[count[0] % len(probes)].knock()
                count[0] += 1

        stack.enter_context(latency.meanwhile(knock, 0.01))
        yield count
