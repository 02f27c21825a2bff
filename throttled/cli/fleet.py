"""`throttled fleet`: the other hosts with which this one shares bans."""

import asyncio
import os
import secrets
from pathlib import Path

import click

from throttled.cli import completion, output, text
from throttled.cli.daemon import ask, config
from throttled.cli.options import Command, json_option
from throttled.control.requests import FleetRemove, FleetStatus, FleetTrust
from throttled.control.results import Done, FleetResult
from throttled.errors import ThrottledError, UsageError
from throttled.fleet.wire import SECRET

_ACTIONS = ("status", "peers", "remove", "trust", "key", "process")


@click.command(
    cls=Command,
    examples=(
        "throttled fleet status",
        "throttled fleet remove mx3 --distrust",
        "throttled fleet trust mx3",
        "throttled fleet key",
    ),
)
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("peer", required=False, shell_complete=completion.peers)
@click.option("--distrust", is_flag=True, help="remove: no longer listen to the host.")
@click.option(
    "--at",
    metavar="PATH",
    default="/run/throttled-fleet/process.sock",
    show_default=True,
    help="process: the UNIX socket.",
)
@json_option
def command(*, action: str, peer: str | None, distrust: bool, at: str, as_json: bool) -> int:
    """Show the fleet, remove what came from a host, make the secret.

    status, peers: the connection and the other hosts. remove PEER: removes all that came from a
    host. trust PEER: listens to it again and ends its brake. key: makes the secret of the fleet,
    which all its hosts need. process: moves entries; run by throttled-fleet.service.
    """
    if (peer is None) == (action in {"remove", "trust"}):
        raise UsageError(f"{action}: {'which host?' if peer is None else 'takes no host'}")
    if action == "key":
        text.show(Done(_key(Path(config().fleet.secret))), as_json=as_json)
    elif action == "process":
        _process(Path(at))
    elif action == "remove":
        text.show(ask(FleetRemove(peer or "", distrust), Done), as_json=as_json)
    elif action == "trust":
        text.show(ask(FleetTrust(peer or ""), Done), as_json=as_json)
    else:
        _show(ask(FleetStatus(), FleetResult), as_json=as_json)
    return 0


def _show(result: FleetResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(output.to_json(output.plain(result)).decode(), nl=False)
        return
    state = "connected" if result.connected else "not connected"
    state += f": {result.error}" if result.error else ""
    click.echo(output.printable(f"fleet {result.site}, this host {result.name}: {state}"))
    if result.hint:
        click.echo(output.printable(f"hint: {result.hint}"))
    published = ", ".join(f"{count} {kind}" for kind, count in sorted(result.published.items()))
    click.echo(f"published since the start: {published or 'nothing'}")
    for peer in result.peers:
        parts = [f"{peer.entries} entries", f"heard {peer.heard:.0f} s ago"]
        parts += [f"version {peer.version}"] if peer.version else []
        parts += ["braked: its bans are throttles"] if peer.braked else []
        parts += ["distrusted"] if peer.distrusted else []
        parts += [f"{count} {what}" for what, count in sorted(peer.outcomes.items())]
        click.echo(output.printable(f"{peer.name}: {', '.join(parts)}"))


def _key(path: Path) -> str:
    """Make the secret; return what is to be done with it.

    Raises:
        PermissionError: this user may not write it.
        ThrottledError: it exists, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        hint = "copy it to the other hosts; a new one has to be on all of them"
        raise ThrottledError(f"{path} exists", hint) from error
    except PermissionError:
        raise  # to `throttled.cli.main`, as of any file
    except OSError as error:
        hint = "create its directory, or name another file: [fleet] secret"
        raise ThrottledError(f"{path}: {error.strerror}", hint) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(SECRET))
    return f"made {path}; copy it to each host of the fleet, mode 0600"


def _process(path: Path) -> None:
    """Move entries until it is ended.

    Raises:
        ThrottledError: the Redis client is not installed.
    """
    try:
        from throttled.fleet.process import serve  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        hint = "apt-get install python3-redis, or: pip install 'postfix-throttled[fleet]'"
        raise ThrottledError("the Redis client is not installed", hint) from error
    asyncio.run(serve(path, os.getuid()))
