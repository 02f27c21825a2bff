"""`throttled purge`."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import click
from msgspec.structs import replace

from throttled.cli import output
from throttled.cli.daemon import config, socket_path
from throttled.cli.options import Command, json_option
from throttled.clock import now
from throttled.config.schema import Config
from throttled.control import client
from throttled.control.requests import Purge
from throttled.control.results import Done
from throttled.errors import (
    NotPermittedError,
    RefusedError,
    StoreError,
    ThrottledError,
    UsageError,
)
from throttled.linux.claim import beside
from throttled.operator.audit import Trail, this_process
from throttled.store.store import Store

#: What SQLite keeps beside a database (https://www.sqlite.org/tempfiles.html).
_SUFFIXES = ("", "-wal", "-shm", "-journal")


@click.command(
    cls=Command,
    examples=(
        "throttled purge",
        "throttled purge --all --yes",
    ),
)
@click.option(
    "--all", "all_", is_flag=True, help="Also remove the databases: history, allowlist, audit."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def command(*, all_: bool, yes: bool, as_json: bool) -> int:
    """Remove every trace of throttled from the kernel.

    Removes the rules and sets of every backend, whichever is configured; no client is throttled or
    banned any more. The next start of the daemon restores what is in the databases, unless they
    are removed too (--all). Stop the daemon first.
    """
    from throttled.enforce.registry import teardown  # noqa: PLC0415 - libraries that --help needs not

    settings = config()
    socket = Path(socket_path())
    if os.geteuid() != 0:
        raise NotPermittedError("only root may change the firewall", "run it with sudo")
    _stopped(socket, settings)
    if not yes:
        _confirm(all_=all_)
        _stopped(socket, settings)
    clean, refused = teardown()
    _stopped(socket, settings)
    errors: list[ThrottledError] = [*refused]
    files = [socket, beside(socket), *(_databases(settings) if all_ else ())]
    removed = [str(path) for path in files if _removed(path, errors)]
    if not all_:
        _record(settings, clean, errors)
    if as_json:
        left = [{"message": left_over.message, "hint": left_over.hint} for left_over in errors]
        output.print_json({"clean": clean, "removed": removed, "faults": left})
    else:
        for name in clean:
            click.echo(f"{name}: nothing of throttled is left")
        for name in removed:
            click.echo(f"removed: {output.printable(name)}")
    _print_errors(errors)
    return int(bool(errors))


def _stopped(socket: Path, settings: Config) -> None:
    """Make sure that no daemon runs, whichever socket it was given; there is one kernel."""
    for path in (socket, Path(settings.control.socket), Path(Config().control.socket)):
        if client.alive(path):
            hint = "stop it first: systemctl stop throttled"
            raise RefusedError(f"a daemon is running (it has {path})", hint)


def _confirm(*, all_: bool) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for confirmation without a terminal",
            "to purge without confirmation: throttled purge --yes",
        )
    what = "the kernel and all databases" if all_ else "the kernel"
    click.confirm(f"Remove everything of throttled from {what}?", abort=True, err=True)


def _print_errors(errors: list[ThrottledError]) -> None:
    for left_over in errors:
        click.echo(f"throttled: {output.printable(left_over.message)}", err=True)
        if left_over.hint:
            click.echo(f"hint: {output.printable(left_over.hint)}", err=True)


def _databases(settings: Config) -> list[Path]:
    """Return every file of the databases that a daemon with this configuration keeps."""
    real = settings.store.path
    observed = replace(settings, mode="observe").database()
    return [Path(f"{path}{end}") for path in (real, observed) for end in _SUFFIXES]


def _removed(path: Path, errors: list[ThrottledError]) -> bool:
    """Remove a file, and its directory if it is ours alone; return whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        hint = "check its attributes (lsattr) and its file system; remove it yourself"
        errors.append(ThrottledError(f"cannot remove {path}: {error.strerror}", hint))
        return False
    if path.parent.name == "throttled":
        with suppress(OSError):  # not empty, or a place where something is mounted
            path.parent.rmdir()
    return True


def _record(settings: Config, clean: list[str], errors: list[ThrottledError]) -> None:
    path = settings.store.path
    if not Path(path).exists():
        return
    try:
        store = Store.open(path)
        trail = Trail(lambda: store, now, offline=True)
        with trail.recording(Purge(), this_process()) as results:
            left = [left_over.message for left_over in errors]
            outcome = [f"nothing is left of {', '.join(clean)}", *left]
            results.append(Done("; ".join(outcome)))
        store.close()
    except StoreError as error:
        click.echo(f"throttled: not recorded: {error.message}", err=True)
