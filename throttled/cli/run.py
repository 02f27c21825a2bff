"""`throttled run`."""

import signal

import click

from throttled.cli.options import Command
from throttled.model import Mode


@click.command(
    cls=Command,
    examples=(
        "throttled run",
        "throttled run --config ./my.toml --mode observe",
        "throttled run --mode observe --log-level debug",
    ),
)
@click.option("--backend", metavar="NAME", help="Backend (default: [firewall] backend).")
@click.option(
    "--mode",
    type=click.Choice(["observe", "throttle", "enforce"]),
    help="Mode (default: as configured). observe changes nothing.",
)
@click.option(
    "--log-level",
    "level",
    type=click.Choice(["debug", "info", "notice", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least important level that is logged. debug explains each decision.",
)
@click.pass_context
def command(ctx: click.Context, backend: str | None, mode: Mode | None, level: str) -> int:
    """Run the daemon in the foreground.

    Stops on SIGTERM and SIGINT, reads its configuration again on SIGHUP. Throttles and bans
    remain after a stop, until they expire.
    """
    # Until the daemon can handle it: by default it ends a process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        from throttled.service.daemon import run  # noqa: PLC0415 - all rooms: --help needs none

        config, _ = ctx.find_root().obj
        return run(config, backend, mode, level)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
