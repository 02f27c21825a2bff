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
@click.option("--backend", metavar="NAME", help="Instead of [firewall] backend.")
@click.option(
    "--mode",
    type=click.Choice(["observe", "throttle", "enforce"]),
    help="Instead of the configuration's mode. observe touches nothing.",
)
@click.option(
    "--log-level",
    "level",
    type=click.Choice(["debug", "info", "notice", "warning", "error"]),
    default="info",
    show_default=True,
    help="Leave out of the log what is less important. debug explains each decision.",
)
@click.pass_context
def command(ctx: click.Context, backend: str | None, mode: Mode | None, level: str) -> int:
    """Run the daemon in the foreground.

    Ends on SIGTERM and SIGINT, reads its configuration again on SIGHUP. What is in force
    stays in force after the end, until it expires.
    """
    from throttled.service.daemon import run  # noqa: PLC0415 - all rooms, which --help does not need

    config, _ = ctx.find_root().obj
    return run(config, backend, mode, level)
