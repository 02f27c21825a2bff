"""`throttled top`: the command. The screen is in `throttled.cli.screen`."""

import sys
from typing import Any

import click

from throttled.cli import output
from throttled.cli.daemon import ask
from throttled.cli.options import Command, json_option
from throttled.control.requests import Top
from throttled.control.results import TopResult
from throttled.errors import ExtraError, UsageError


@click.command(
    cls=Command, examples=("throttled top", "throttled top --every 5", "throttled top --json")
)
@click.option(
    "--every",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two updates.",
)
@json_option
def command(*, every: float, as_json: bool) -> int:
    """Watch the daemon: rates, the worst clients, the latest decisions.

    The worst clients are nearest to a threshold, or furthest above it, among those of the latest
    200 lines that counted. Keys: b ban, u unban, a allow, e explain, / search, ? help, q quit; Tab
    switches between the tables. From 120 columns on there are host names and reasons too. With
    --json it prints one update and ends.
    """
    if as_json:
        output.print_json(ask(Top(), TopResult))
        return 0
    if not sys.stdout.isatty():
        raise UsageError("top needs a terminal", "for a program: throttled top --json")
    try:
        from throttled.cli.screen import Screen  # noqa: PLC0415 - textual takes 0.3 s to load
    except ImportError as error:
        raise ExtraError(f"top needs textual: {error}", "top") from error
    first = ask(Top(), TopResult)  # what is wrong is reported on the plain terminal
    context = click.get_current_context()

    def ask_in_a_thread(request: Any, kind: Any) -> Any:
        with context.scope(cleanup=False):  # which daemon is meant; it belongs to one thread
            return ask(request, kind)

    Screen(ask_in_a_thread, first, every).run()
    return 0
