"""`throttled notify`."""

import asyncio

import click

from throttled.cli import text
from throttled.cli.daemon import ask, config, runs
from throttled.cli.options import Command, json_option
from throttled.control.requests import NotifyTest
from throttled.control.results import Done
from throttled.errors import NotRunningError

#: Seconds: a mail server that hangs may take a minute.
_SENDING = 90.0


@click.command(cls=Command, examples=("throttled notify --test",))
@click.option("--test", is_flag=True, required=True, help="Send a test message now.")
@json_option
def command(*, test: bool, as_json: bool) -> None:  # noqa: ARG001 - there is no other use yet
    """Send a test message to each receiver that [notify] names: command, webhook, mail.

    The running daemon sends it, from its sandbox; where none runs, this command does. The exit code
    is 1 if a receiver did not accept it, and the reason is printed.
    """
    try:
        done = ask(NotifyTest(), Done, _SENDING)
    except NotRunningError as error:
        if runs():  # it may have sent it
            raise
        from throttled.notify.hook import Hook  # noqa: PLC0415 - only where no daemon runs

        click.echo(f"throttled: {error.message}; sending without it", err=True)
        done = Done(asyncio.run(Hook(config().notify).test()))
    text.show(done, as_json=as_json)
