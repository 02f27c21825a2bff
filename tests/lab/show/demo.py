"""`make demo`: a flood on a real Postfix, first without `throttled`, then with it, and a table.

Everything happens in network namespaces on this machine and is gone afterwards. Owns nothing but
what it prints.
"""

import argparse
import contextlib
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from lab.daemon.daemon import Daemon, daemon
from lab.mail.postfix import Postfix, lab
from lab.network import netns
from lab.show import scene

_EPILOG = """\
examples:
  sudo scripts/demo                the whole show, about a minute
  sudo scripts/demo --quick        fewer attackers, half the time
  sudo scripts/demo --json | jq .attacks.flood
  sudo scripts/demo --keep         leave the lab up afterwards, to look around

exit codes: 0 every attacker was stopped, all good mail arrived, nothing was left behind; 1 if not;
3 not root. The limits are those that throttled has by default, Postfix's limits are Postfix's own.
"""

_TITLES = {
    "flood": "connection flood",
    "guess": "password guessing",
    "garbage": "garbage, HTTP",
    "relay": "relay attempts",
    "harvest": "address harvest",
}
_LAST = 5.0  # seconds at the end of a run, when attackers have been met


class Outcome(msgspec.Struct):
    """All that was measured."""

    quiet: scene.Run
    without: scene.Run
    protected: scene.Run
    attacks: dict[str, scene.Verdict]
    dropped: int  # packets, in all
    cpu: float  # of throttled: cores
    memory: int  # of throttled: bytes
    left_behind: list[str] = []

    def errors(self) -> list[str]:
        """Return what is not as it should be; empty: the demo succeeded."""
        errors = [
            f"{_TITLES[kind]}: {verdict.stopped} of {verdict.sources} sources were stopped"
            for kind, verdict in self.attacks.items()
            if verdict.stopped < verdict.sources
        ]
        errors += [
            f"{_TITLES[kind]}: banned, and still answered: {', '.join(verdict.answered[:3])}"
            for kind, verdict in self.attacks.items()
            if verdict.answered
        ]
        accepted, sent = self.protected.delivered, self.protected.sent()
        if accepted < sent:
            errors.append(f"good mail: {accepted} of {sent} messages were delivered")
        return errors + [f"left behind: {each}" for each in self.left_behind]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = _options(argv)
    if os.geteuid() != 0:
        print("demo: it makes network namespaces: run it as root (sudo scripts/demo)")
        return 3
    console = Console(stderr=options.json, width=min(80, Console().width), highlight=False)
    netns.sweep()
    try:
        with netns.unwinding():
            outcome = _play(console, options)
    except KeyboardInterrupt:
        console.print("interrupted; everything was cleaned up")
        return 128 + signal.SIGINT
    outcome.left_behind = netns.leftovers()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(_summary(outcome))).decode())
    else:
        _show(console, outcome)
    for error in outcome.errors():
        console.print(f"[red]failed:[/] {error}")
    return 1 if outcome.errors() else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="A flood on a real Postfix, without throttled and with it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer attackers, less time")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the lab up, until Ctrl-C")
    return parser.parse_args(argv)


def _play(console: Console, options: argparse.Namespace) -> Outcome:
    """Make everything, let them attack twice, and take everything down."""
    sources = scene.attackers(0.3 if options.quick else 1.0)
    seconds = (2.0, 4.0, 10.0) if options.quick else (5.0, 12.0, 25.0)
    count = sum(len(each) for each in sources.values())
    console.print(f"A real Postfix, {count} attackers and two good users, on this machine.\n")
    with _progress(console) as progress:
        with lab() as server:
            show = _shown(progress, "quiet", seconds[0])
            quiet = scene.run(server, {}, seconds[0], show)
            show = _shown(progress, "without throttled", seconds[1])
            without = scene.run(server, sources, seconds[1], show)
        # A new server: its log must not report the attack to throttled before it begins.
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(lab())
            guard = stack.enter_context(daemon(server.server, server.mail.config))
            guard.start()
            before = guard.cpu()
            show = _shown(progress, "with throttled", seconds[2])
            done = scene.until_stopped(guard, sources)
            protected = scene.run(server, sources, seconds[2], show, done)
            outcome = Outcome(
                quiet,
                without,
                protected,
                {
                    kind: scene.judge(guard, kind, each, protected.reports[kind])
                    for kind, each in sources.items()
                },
                guard.status().packets_dropped,
                (guard.cpu() - before) / protected.samples[-1].at,
                guard.memory(),
            )
            if options.keep:
                progress.stop()
                _wait(console, server.mail, guard)
            guard.stop()
    return outcome


def _shown(progress: Progress, title: str, seconds: float) -> Callable[[scene.Sample], None]:
    """Add a line to the progress, and return what updates it."""
    task = progress.add_task(title, total=seconds, cost="")

    def show(sample: scene.Sample) -> None:
        cost = f"smtpd {sample.smtpd:3}  connections {sample.connections:4}"
        progress.update(task, completed=min(sample.at + 0.2, seconds), cost=cost)

    return show


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<17}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:2.0f}/{task.total:.0f} s"),
        TextColumn("{task.fields[cost]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


def _wait(console: Console, mail: Postfix, guard: Daemon) -> None:
    """Say how to look around, and wait for Ctrl-C, which then only ends the waiting."""
    console.print(
        f"\nThe lab stays up until Ctrl-C. In another shell:\n"
        f"  ip netns exec {mail.server.name} bash\n"
        f"  .venv/bin/throttled --config {guard.config} list\n"
        f"  tail -f {mail.log}",
        soft_wrap=True,
    )
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    signal.signal(signal.SIGINT, before)


def _summary(outcome: Outcome) -> dict[str, Any]:
    """Return the figures without the single samples."""
    runs = {"quiet": outcome.quiet, "without": outcome.without, "with": outcome.protected}
    return {
        "ok": not outcome.errors(),
        "errors": outcome.errors(),
        "attacks": outcome.attacks,
        "runs": {name: _figures(made) for name, made in runs.items()},
        "packets_dropped": outcome.dropped,
        "throttled": {"cpu": outcome.cpu, "memory": outcome.memory},
    }


def _figures(made: scene.Run) -> dict[str, Any]:
    good = {
        kind: {
            "sent": made.reports[kind].sent,
            "taken": len(made.reports[kind].latencies),
            "median": _quantile(made.reports[kind].latencies, 50),
            "p99": _quantile(made.reports[kind].latencies, 99),
        }
        for kind in scene.GOOD
    }
    return {
        "smtpd_peak": made.smtpd(),
        "connections_end": made.connections(_LAST),
        "cpu": made.cpu(),
        "cpu_end": made.cpu(_LAST),
        "delivered": made.delivered,
        **good,
    }


def _show(console: Console, outcome: Outcome) -> None:
    attacks = Table(title="\nThe attackers, with throttled", title_justify="left", box=None)
    for column in ("attack", "sources", "stopped", "throttled", "banned", "all stopped", "dropped"):
        attacks.add_column(column, justify="left" if column == "attack" else "right")
    for kind, verdict in outcome.attacks.items():
        attacks.add_row(
            _TITLES[kind],
            str(verdict.sources),
            str(verdict.stopped),
            _after(verdict.first_throttle),
            _after(verdict.first_ban),
            _after(verdict.last_stopped),
            f"{verdict.dropped:,}",
        )
    console.print(attacks)
    console.print(
        "[dim] throttled, banned: the first source; all stopped: the last one;\n"
        " in seconds after the attack began. dropped: packets.[/]"
    )
    console.print(_costs(outcome))
    console.print(
        f"\nthrottled itself: {outcome.cpu:.0%} of a core, {outcome.memory / 1e6:.0f} MB;"
        f" the kernel dropped {outcome.dropped:,} packets."
    )


def _costs(outcome: Outcome) -> Table:
    costs = Table(title="\nThe server", title_justify="left", box=None)
    for column in ("", "quiet", "without throttled", "with throttled"):
        costs.add_column(column, justify="right" if column else "left")
    runs = [_figures(made) for made in (outcome.quiet, outcome.without, outcome.protected)]
    rows = {
        "smtpd processes, peak": [f"{run['smtpd_peak']}" for run in runs],
        "Postfix's CPU, % of a core": [f"{run['cpu']:.0%}" for run in runs],
        f"… in the last {_LAST:.0f} s": [f"{run['cpu_end']:.0%}" for run in runs],
        f"connections, last {_LAST:.0f} s": [f"{run['connections_end']:.0f}" for run in runs],
        "good sender: delivered": [_delivered(run["sender"]) for run in runs],
        "… latency: median / p99": [_latency(run["sender"]) for run in runs],
        "good user beside attackers": [_delivered(run["user"]) for run in runs],
        "… latency: median / p99 ": [_latency(run["user"]) for run in runs],
    }
    for name, cells in rows.items():
        costs.add_row(name, *cells)
    return costs


def _after(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _delivered(good: dict[str, Any]) -> str:
    return f"{good['taken']} / {good['sent']}"


def _latency(good: dict[str, Any]) -> str:
    def text(seconds: float) -> str:
        return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

    return f"{text(good['median'])} / {text(good['p99'])}" if good["taken"] else "-"


def _quantile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    sys.exit(main())
