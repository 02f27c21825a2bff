"""`throttled config`."""

from collections.abc import Iterator

import click
from msgspec import Struct, to_builtins

from throttled.cli import output
from throttled.cli.daemon import config
from throttled.cli.options import Command, json_option
from throttled.config import describe
from throttled.config.describe import toml
from throttled.config.document import default_file
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

    The output is a complete configuration file.
    """
    if default and not as_json:
        click.echo(default_file(), nl=False)
        return
    settings = Config() if default else config()
    if as_json:
        click.echo(output.to_json(to_builtins(settings, enc_hook=str)), nl=False)
    else:
        click.echo("\n".join(_lines(settings)))


def _lines(settings: Config) -> Iterator[str]:
    sections = []
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Struct):
            sections.append((name, value))
        elif name == "limits":
            sections += [(f"limits.{limit}", values) for limit, values in value.items()]
        else:
            yield f"{name} = {toml(value)}"
    for name, section in sections:
        yield f"\n[{name}]"
        for key, value in describe.settings(section):
            if value not in (None, {}):
                yield f"{key} = {toml(value)}"
