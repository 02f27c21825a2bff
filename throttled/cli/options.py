"""What the commands take: addresses, durations, scopes. Owns no state."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec
from click.shell_completion import CompletionItem

from throttled.cli import completion
from throttled.control.fields import LIST_NAME
from throttled.duration import Duration
from throttled.errors import UsageError
from throttled.host.zone import zone
from throttled.model import SCOPES

_Command = Callable[..., Any]


class Command(click.Command):
    """A command whose help ends with examples.

    Args:
        examples: command lines, shown as they are.
    """

    def __init__(self, *args: Any, examples: Sequence[str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = examples
        self.params += [
            _again("--config", "The configuration file."),
            _again("--socket", "The daemon's control socket."),
        ]

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))


def _again(name: str, text: str) -> click.Option:
    """Return an option of the whole program that is taken behind the command too."""

    def keep(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            root = ctx.find_root()
            config, socket = root.obj or (None, None)
            root.obj = (value, socket) if name == "--config" else (config, value)

    return click.Option([name], metavar="PATH", expose_value=False, callback=keep, help=text)


if TYPE_CHECKING:
    _Type = click.ParamType[str]
else:  # before click 8.2 it takes no type
    _Type = click.ParamType


class _Word(_Type):
    """A word that is checked, made canonical, and completed by shells.

    Args:
        name: of the type.
        read: makes it canonical; raises UsageError for another one.
        known: returns words that begin so.
    """

    def __init__(self, name: str, read: Callable[[str], str], known: completion.Completer) -> None:
        self.name = name
        self._read, self._known = read, known

    def convert(self, value: str, *_more: object) -> str:
        """Return the word as the protocol has it."""
        return self._read(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what the word may become."""
        return [CompletionItem(word) for word in self._known(ctx, param, incomplete)]


def _subject(text: str) -> str:
    from throttled.control import canonical  # noqa: PLC0415 - 40 ms that --help does not need

    return canonical.subject(text)


def _one_subject(text: str) -> str:
    found = _subject(text)
    if warning := host_bits(text, found):
        click.echo(f"throttled: {warning}", err=True)
    return found


def host_bits(text: str, canonical: str) -> str:
    """Return a warning if what was written is not the address of the network; "" else."""
    from throttled import address  # noqa: PLC0415 - as above

    if not address.host_bits(text.strip(), canonical):
        return ""
    return f"{text.strip()} is an address in {canonical}, which is what is meant here"


def list_option(text: str, **more: Any) -> Callable[[_Command], _Command]:
    """Take the name of an imported list as `name`; `text` says what is done with that list."""
    return click.option(
        "--list",
        "name",
        type=list_name,
        shell_complete=completion.lists,
        metavar="NAME",
        help=text,
        **more,
    )


def list_name(text: str) -> str:
    """Read the name of a list.

    Raises:
        UsageError: it is none.
    """
    if re.fullmatch(LIST_NAME, text) is None:
        raise UsageError(
            f"not the name of a list: {text}", "small letters, digits and -, at most 40"
        )
    return text


def _allowable(text: str) -> str:
    from throttled.control import canonical  # noqa: PLC0415 - as above

    return canonical.allowable(text)


#: An address, a network, or the name of a sender.
subject = _Word("subject", _subject, completion.subjects)
#: The same; a warning is printed of a network with host bits.
one_subject = _Word("subject", _one_subject, completion.subjects)
#: An address, a network or a host-name suffix.
allowable = _Word("allowable", _allowable, completion.allowable)


def seconds(text: str) -> float:
    """Read a duration such as 90s, 10m, 1h30m.

    Raises:
        UsageError: it is none.
    """
    try:
        found = float(Duration.parse(text))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if found < 1:
        raise UsageError(f"shorter than a second: {text}")
    return found


def mail_address(text: str) -> str:
    """Read a mail address; "" is none.

    Raises:
        UsageError: it is no mail address.
    """
    from throttled.config.fields import MailAddress  # noqa: PLC0415 - as above

    try:
        return msgspec.convert(text, MailAddress)
    except msgspec.ValidationError as error:
        raise UsageError(f"{text!r} is no mail address") from error


def json_option(command: _Command) -> _Command:
    """Add `--json`."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON.")(command)


def json_always_option(command: _Command) -> _Command:
    """Accept `--json` where nothing else is ever printed."""
    return click.option(
        "--json", is_flag=True, expose_value=False, help="Always on; accepted for scripts."
    )(command)


def zone_option(command: _Command) -> _Command:
    """Add `--zone`."""
    return click.option(
        "--zone",
        type=zone,
        metavar="ZONE",
        help="Time zone of timestamps without one, as Europe/Berlin (default: this host's).",
    )(command)


def scope_option(command: _Command) -> _Command:
    """Add `--scope`."""
    return click.option(
        "--scope",
        type=click.Choice(SCOPES),
        help="mx (port 25) or submission (587, 465) (default: both).",
    )(command)


def max_option(highest: int) -> Callable[[_Command], _Command]:
    """Add `--max`, a number of rows up to `highest`, as the parameter `most`."""
    return click.option(
        "--max",
        "most",
        type=click.IntRange(1, highest),
        default=100,
        show_default=True,
        help="Maximum number of rows.",
    )


def for_option(name: str, help_text: str) -> Callable[[_Command], _Command]:
    """Add `--for`, a duration, as the parameter `name`."""
    return click.option(name, "--for", type=seconds, metavar="DURATION", help=help_text)


def force_option(command: _Command) -> _Command:
    """Add `--force`."""
    return click.option(
        "--force", is_flag=True, help="Accept a network wider than /16 (IPv4) or /32 (IPv6)."
    )(command)
