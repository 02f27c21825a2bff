"""The command `throttled`: finds the command asked for, and ends with its exit code.

A command's module is imported only when that command runs; it holds a click command named
`command`. Errors go to standard error as `throttled: MESSAGE` and `hint: HINT`; with `--json` there
is an object on standard output too: {"error": {"message", "hint", "exit_code"}}. Exit codes: 0
done; 1 the thing asked about is not so; 2 bad usage or configuration; 3 the daemon is not running
or something is not permitted or not installed; 130 interrupted; 141 the reader of the output went
away.
"""

import difflib
import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from throttled import __version__
from throttled.errors import ThrottledError, UsageError

_GONE = 141  # as a shell says of a program that SIGPIPE ended
#: What writing fails with.
_OUTPUT = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)

#: Commands by name, in the order of the help.
COMMANDS = {
    "run": "run",
    "status": "status",
    "top": "top",
    "list": "list",
    "preview": "preview",
    "report": "report",
    "abuse": "abuse",
    "explain": "explain",
    "unban": "unban",
    "ban": "ban",
    "throttle": "throttle",
    "allow": "allow",
    "disallow": "disallow",
    "accounts": "accounts",
    "mail": "mail",
    "find": "find",
    "fleet": "fleet",
    "postfix": "postfix",
    "audit": "audit",
    "import": "import_",
    "export": "export",
    "purge": "purge",
    "notify": "notify",
    "check": "check",
    "config": "config",
    "reload": "reload",
    "mode": "mode",
    "parse": "parse",
    "migrate": "migrate",
    "replay": "replay",
    "suggest": "suggest",
}

_MOST_USED = """\
  throttled status                  the state of the daemon
  throttled list                    throttled and banned clients, and why
  throttled explain 198.51.100.7    everything known about a client
  throttled unban 198.51.100.7      unban a client
  throttled check                   what works here, what does not
"""


class _Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        module = COMMANDS.get(name)
        if module is None:
            return None
        command: click.Command = import_module(f"throttled.cli.{module}").command
        return command

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("The five most used"):
            formatter.write(_MOST_USED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean: throttled {close[0]}" if close else "see: throttled --help"
            raise UsageError(f"no such command: {name}", hint)
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:  # --help and --version print here; click would end with 1
            return super().make_context(*args, **more)
        except BrokenPipeError as error:
            raise click.exceptions.Exit(_GONE) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _GONE


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, message="throttled %(version)s")
@click.option("--config", metavar="PATH", help="The configuration file.")
@click.option("--socket", metavar="PATH", help="The daemon's control socket.")
@click.pass_context
def throttled(ctx: click.Context, config: str | None, socket: str | None) -> None:
    """Throttle and ban abusive SMTP clients in the kernel, by what Postfix logs."""
    ctx.obj = (config, socket)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(2)


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_standard_streams()
    if isinstance(sys.stdout, TextIOWrapper):  # a locale that knows few characters
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        code = code or (_GONE if gone else _fail(*_refused(error)))
        _drop(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:  # nobody can read why
        _drop(sys.stderr)
    sys.exit(code)


def _drop(stream: TextIO) -> None:
    """Drop what is still buffered: Python ends with 120 if it cannot write it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run() -> int:
    """Run the command line and return the exit code."""
    try:
        code = throttled.main(prog_name="throttled", standalone_mode=False)
    except ThrottledError as error:
        code = _fail(error.message, error.hint, error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "throttled"
        message = " ".join(error.format_message().split()).rstrip(".")
        code = _fail(message[:1].lower() + message[1:], f"see: {command} --help", 2)
    except click.ClickException as error:
        code = _fail(error.format_message(), "", 1)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except OSError as error:
        code = _fail(*_refused(error))
    return code or 0


def _open_standard_streams() -> None:
    """Open those that the caller closed, so that no database or socket gets their number.

    Writing to standard output fails then, as it should; what is for standard error is dropped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _refused(error: OSError) -> tuple[str, str, int]:
    """Return message, hint and exit code for what the system refused a command."""
    if error.errno in _OUTPUT and error.filename is None:
        hint = "is standard output closed, or its file system full?"
        return f"cannot write the output: {error.strerror}", hint, 1
    try:
        Path.cwd()
    except OSError:
        hint = "change to a directory that exists, or give absolute paths"
        return f"the current directory cannot be used: {error.strerror}", hint, 1
    where = f"{error.filename}: " if error.filename is not None else ""
    what = f"{where}{error.strerror or error}"
    return (what, "run as root", 3) if isinstance(error, PermissionError) else (what, "", 1)


def _fail(message: str, hint: str, code: int) -> int:
    """Print an error and return its exit code."""
    from throttled.cli.output import printable, to_json  # noqa: PLC0415 - 40 ms, for errors only

    if "--json" in sys.argv[1:]:
        error = {"message": message, "hint": hint, "exit_code": code}
        with suppress(OSError):  # mostly what the error is about
            click.echo(to_json({"error": error}), nl=False)
    lines = [printable(line) for line in message.splitlines()]
    with suppress(OSError):
        click.echo("\n".join(["throttled: " + lines[0], *lines[1:]]), err=True)
        for number, line in enumerate(hint.splitlines()):
            click.echo(("" if number else "hint: ") + printable(line), err=True)
    return code
