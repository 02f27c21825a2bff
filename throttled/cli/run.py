"""`throttled run`."""

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
    from throttled.service.daemon import run  # noqa: PLC0415 - all rooms, which --help does not need

    config, _ = ctx.find_root().obj
    return run(config, backend, mode, level)
