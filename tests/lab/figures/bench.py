"""`make bench`: measures the figures of docs/performance.md and compares each with its target."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from lab.figures import plot
from lab.figures.figures import FIGURES
from lab.figures.rig import Options, Row
from lab.network import netns


class Picture(NamedTuple):
    """Bars of the rows that begin alike."""

    name: str
    rows: str  # how they begin; the rest is the bar's name
    value: str
    scale: float
    unit: str
    title: str


_PICTURES = (
    Picture(
        "drops",
        "dropping: ",
        "rate",
        1.0,
        "packets/s",
        "Packets dropped per second, one processor (the generator's share included)",
    ),
    Picture("rates", "bans a second: ", "singly", 1.0, "/s", "Bans per second, one at a time"),
    Picture(
        "latency",
        "log line → first drop: ",
        "seconds",
        1e3,
        "ms",
        "From the log line to the first dropped packet (median)",
    ),
    Picture(
        "offenders",
        "5,000 offenders at once: ",
        "seconds",
        1.0,
        "s",
        "5,000 offenders in a log at once: until the last is banned",
    ),
)

_EPILOG = """\
examples:
  sudo scripts/bench                         everything
  sudo scripts/bench latency ban             two figures
  sudo scripts/bench million --bans 100000   a smaller million
  sudo scripts/bench overload --only "rcpt, 5,000 addresses (IPv4), 500/s"
  sudo scripts/bench overload --short        twelve minutes instead of two hours
  sudo scripts/bench --json > bench.json
  sudo scripts/bench drops rates --plots docs

exit codes: 0 every target was reached; 1 not so; 3 not root.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for and return the exit code."""
    options = _options(argv)
    if os.geteuid() != 0:
        print("bench: it makes network namespaces: run it as root (sudo scripts/bench)")
        return 3
    console = Console(stderr=True, highlight=False)
    rows: list[Row] = []
    wanted = Options(options.trials, options.bans, options.only, options.short)
    netns.sweep()
    try:
        with netns.unwinding():
            for name in options.figures or FIGURES:
                with console.status(f"measuring: {name}"):
                    rows += FIGURES[name](wanted)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if options.plots:
        _draw(options.plots, rows)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        _show(rows)
    return 0 if all(row.ok for row in rows) else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures what throttled must reach.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; all unless given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--trials", type=int, default=200, help="of latency (default: 200)")
    parser.add_argument("--bans", type=int, default=1_000_000, help="of million (default: 10**6)")
    parser.add_argument("--only", default="", metavar="TEXT", help="overload: runs with this name")
    parser.add_argument(
        "--short", action="store_true", help="overload: a selection, twelve minutes"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures there")
    options = parser.parse_args(argv)
    if unknown := set(options.figures) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    return options


def _draw(directory: Path, rows: Sequence[Row]) -> None:
    for each in _PICTURES:
        bars = [
            (row.what.removeprefix(each.rows), row.values[each.value] * each.scale)
            for row in rows
            if row.what.startswith(each.rows)
        ]
        if bars:
            plot.bars(directory / f"{each.name}.svg", each.title, bars, each.unit)


def _show(rows: Sequence[Row]) -> None:
    table = Table(box=None)
    for column in ("figure", "target", "measured", ""):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.target, row.measured, "ok" if row.ok else "[red]MISSED[/]")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
