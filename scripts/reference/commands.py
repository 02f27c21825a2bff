"""Writes docs/reference/commands.md from the commands themselves. Pure, owns no state."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from throttled.cli.main import COMMANDS, throttled

#: Exit codes of all commands.
EXIT = """\
0 done; 1 the thing asked about is not so (an address that is not banned, a check that
found an error), or it failed; 2 bad usage or configuration; 3 the daemon is not running,
or something is not permitted or not installed; 130 interrupted; 141 the reader of the output went
away."""

_HEAD = f"""\
# The commands

<!-- Written by scripts/gen-docs from throttled/cli: do not edit. -->

`throttled` looks at and steers the daemon through its control socket. That socket is for root, and
for the members of the group that `[control] group` names; whoever may open it may do everything.

Without a running daemon `list`, `explain`, `status`, `audit`, `unban`, `allow` and `disallow` use
the database and the firewall directly; `export`, `check`, `config`, `parse`, `replay` and
`suggest` never need one, and `purge` refuses to run beside one.

## For all commands

Exit codes: {EXIT}

An error is printed on standard error, as `throttled: MESSAGE` and, if there is advice,
`hint: …`. With `--json` an object `{{"error": {{"message", "hint", "exit_code"}}}}` is printed on
standard output too.

Every command has `--help`, and a manual page: `man throttled-list`. Colours are for terminals
alone, and not with `NO_COLOR` set. Tables are as wide as the terminal; in a pipe they are whole.
Times are this host's; in JSON they are ISO 8601 with zone, and null is never. In text written by
clients control characters, and those that change the direction of writing, are shown as `\\x1b`
and `\\u202e`.
"""


def reference() -> str:
    """Return the reference of every command, in Markdown."""
    root = click.Context(throttled, info_name="throttled")
    lines = [_HEAD, "Before the command:", "", *_parameters(throttled, root)]
    for name in COMMANDS:
        part = about(name)
        lines += ["", f"## throttled {name}", "", f"`{part.usage}`", "", *part.text, *part.options]
        lines += ["", "```", *part.examples, "```"]
    return "\n".join(lines) + "\n"


class About(NamedTuple):
    """What there is to know of a command, in Markdown."""

    usage: str
    text: list[str]
    options: list[str]
    examples: Sequence[str]


def about(name: str) -> About:
    """Return what there is to know of a command."""
    root = click.Context(throttled, info_name="throttled")
    command = throttled.get_command(root, name)
    assert command is not None
    ctx = click.Context(command, info_name=name, parent=root)
    usage = " ".join(["throttled", name, *command.collect_usage_pieces(ctx)])
    text = list(_paragraphs(command.help or ""))
    options = list(_parameters(command, ctx))
    return About(usage, text, options, getattr(command, "examples", ()))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from (" ".join(paragraph.split()), "")


def _parameters(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield from ("| option | meaning |", "| --- | --- |")
    for option in command.params:
        record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
        if record is not None:
            yield "| `{}` | {} |".format(*(text.replace("|", "&#124;") for text in record))
