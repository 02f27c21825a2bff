"""`throttled config`."""

from collections.abc import Iterator

import click
from msgspec import Struct, to_builtins

from throttled.cli import output
from throttled.cli.daemon import loaded
from throttled.cli.options import Command, json_option
from throttled.config import describe
from throttled.config.describe import toml
from throttled.config.document import default_file
from throttled.config.load import Loaded
from throttled.config.places import Places
from throttled.config.schema import Config


@click.command(
    cls=Command,
    examples=(
        "throttled config",
        "throttled config --default > /etc/throttled/throttled.toml",
        "throttled config --json | jq .limits",
    ),
)
@click.option("--default", is_flag=True, help="Print the default file instead, with its comments.")
@json_option
def command(*, default: bool, as_json: bool) -> None:
    """Print the effective configuration, including the defaults.

    The output is a complete configuration file. A value that a file sets is followed by the place,
    as # /etc/throttled/throttled.d/local.toml:3; all others are defaults.
    """
    if default and not as_json:
        click.echo(default_file(), nl=False)
        return
    found = Loaded(Config(), (), {}) if default else loaded()
    if as_json:
        click.echo(output.to_json(to_builtins(found.config, enc_hook=str)), nl=False)
    else:
        click.echo("\n".join(_lines(found.config, found.places)))


def _lines(settings: Config, places: Places) -> Iterator[str]:
    sections = []
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Struct):
            sections.append((name, value))
        elif name == "limits":
            sections += [(f"limits.{limit}", values) for limit, values in value.items()]
        else:
            yield f"{name} = {toml(value)}{_place(places, name)}"
    for name, section in sections:
        yield f"\n[{name}]"
        for key, value in describe.settings(section):
            if value not in (None, {}):
                place = _place(places, *name.split("."), key)
                yield f"{key} = {toml(value)}{place}"


def _place(places: Places, *key: str) -> str:
    """Return a comment that names the file and line which set a key; "" for a default."""
    found = [output.printable(str(place)) for place in reversed(places.get(key, []))]
    if not found:
        return ""
    return f"  # {found[0]}" + (f", instead of {found[1]}" if found[1:] else "")
