"""What the soaks share as programs of root that clean up after themselves."""

import argparse
import os
import signal
from collections.abc import Callable, Sequence

from rich.console import Console

from lab.network import netns


def options(
    argv: Sequence[str] | None, prog: str, about: str, epilog: str, *, helps: tuple[str, str]
) -> argparse.Namespace:
    """Return the options; `helps` are those of the seed and of JSON."""
    seed, json = helps
    parser = argparse.ArgumentParser(
        prog=prog,
        description=about,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--seed", type=int, default=1, help=seed)
    parser.add_argument("--json", action="store_true", help=json)
    return parser.parse_args(argv)


def play(prog: str, act: Callable[[Console], object], *, json: bool) -> tuple[Console, int]:
    """Act, and take everything down.

    Args:
        prog: the script.
        act: is given where people read what happens.
        json: that is not standard output.

    Returns:
        The same, and the exit code if it could not be done to its end, else 0.
    """
    console = Console(stderr=json, width=min(80, Console().width), highlight=False)
    if os.geteuid() != 0:
        print(f"soak: it makes network namespaces: run it as root (sudo scripts/{prog})")
        return console, 3
    netns.sweep()
    try:
        with netns.unwinding():
            act(console)
    except KeyboardInterrupt:
        console.print("interrupted; everything was cleaned up")
        return console, 128 + signal.SIGINT
    return console, 0
