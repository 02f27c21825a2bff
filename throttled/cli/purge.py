"""`throttled purge`."""

from contextlib import suppress
from pathlib import Path

import click
from msgspec.structs import replace

from throttled.cli import output
from throttled.cli.daemon import ask, config
from throttled.cli.options import Command, json_option
from throttled.config.schema import Config
from throttled.control.protocol import Done, Ping
from throttled.errors import BackendError, NotRunningError, RefusedError

#: The database and what SQLite keeps beside it (https://www.sqlite.org/tempfiles.html).
_FILES = ("", "-wal", "-shm", "-journal")


@click.command(cls=Command, examples=("throttled purge", "throttled purge --keep-database"))
@click.option("--keep-database", is_flag=True, help="Only the firewall is cleaned.")
@json_option
def command(*, keep_database: bool, as_json: bool) -> int:
    """Take everything away that throttled left: what is in force, and the database.

    Whichever backend put it there. Refused while the daemon runs. The configuration stays. The
    exit code is 1 if something is left.
    """
    from throttled.enforce.choose import teardown  # noqa: PLC0415 - libraries that --help needs not

    with suppress(NotRunningError):
        ask(Ping(), Done)
        raise RefusedError("the daemon is running", "first: systemctl stop throttled")
    clean, faults = teardown()
    removed = [] if keep_database else _remove_databases(config())
    if as_json:
        left = [{"message": fault.message, "hint": fault.hint} for fault in faults]
        output.print_json({"clean": clean, "removed": removed, "faults": left})
    else:
        for name in clean:
            click.echo(f"{name}: nothing of throttled is left")
        for name in removed:
            click.echo(f"removed: {output.printable(name)}")
    _tell(faults)
    return int(bool(faults))


def _remove_databases(settings: Config) -> list[str]:
    """Remove the database and the one that observing has; return the files that there were."""
    observing = replace(settings, mode="observe").database()
    removed = []
    for name in (path + suffix for path in (settings.store.path, observing) for suffix in _FILES):
        with suppress(FileNotFoundError):
            Path(name).unlink()
            removed.append(name)
    return removed


def _tell(faults: list[BackendError]) -> None:
    for fault in faults:
        click.echo(f"throttled: {output.printable(fault.message)}", err=True)
        if fault.hint:
            click.echo(f"hint: {output.printable(fault.hint)}", err=True)
