"""`throttled mode`."""

from typing import get_args

import click

from throttled.cli import output
from throttled.cli.daemon import ask, config, runs
from throttled.cli.options import Command, json_option
from throttled.config import mode as modes
from throttled.control.requests import Reload, Status
from throttled.control.results import Done, StatusResult
from throttled.errors import ConfigError, NotRunningError, RefusedError, ThrottledError
from throttled.model import Mode


@click.command(cls=Command, examples=("throttled mode", "throttled mode enforce"))
@click.argument("mode", metavar="[MODE]", required=False, type=click.Choice(get_args(Mode)))
@json_option
def command(*, mode: Mode | None, as_json: bool) -> None:
    """Show the mode, or change it: observe, throttle or enforce.

    Changes the line in the configuration file that sets it, nothing else, and makes the daemon
    read it again. If the daemon cannot (no firewall), the file is as it was before. From observe to
    enforce: what was only observed is not enforced; clients that offend from now on are.
    """
    current = config().mode  # what is wrong in a file is reported before it is changed
    if mode is None:
        _show(current, "", as_json=as_json)
        return
    path, _ = click.get_current_context().find_root().obj
    written = modes.write(path, mode)
    try:
        if config().mode != mode:
            raise ConfigError("another file of the configuration sets the mode", "throttled check")
        message = _reload(mode)
    except NotRunningError as error:
        if runs():  # and may be about to change: only the file is certain
            what = f"{written.path} says {mode}, but {error.message}"
            raise NotRunningError(what, "see what it uses: throttled status") from error
        message = "the daemon is not running; it will start in this mode"
    except ThrottledError:
        written.undo()
        raise
    _show(mode, f"{message} ({written.path})", as_json=as_json)


def _reload(mode: Mode) -> str:
    """Make the daemon use a mode.

    Raises:
        RefusedError: it uses another one still.
        ThrottledError: it cannot.
    """
    done = ask(Reload(), Done)
    running = ask(Status(), StatusResult).mode
    if running != mode:
        hint = "was it started with --mode, or with another --config? see: throttled status"
        raise RefusedError(f"the daemon uses mode {running} still", hint)
    return done.message


def _show(mode: Mode, message: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"mode": mode, "message": message})
    else:
        click.echo(output.printable(f"{mode}{': ' if message else ''}{message}"))
