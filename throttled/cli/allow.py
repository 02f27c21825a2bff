"""`throttled allow`."""

import click

from throttled.cli import output
from throttled.cli.change import tell
from throttled.cli.offline import ask_or_look
from throttled.cli.options import Command, allowable, for_option, force_option, json_option
from throttled.control.protocol import Allow, Allowed, AllowedResult, ChangeResult


@click.command(
    cls=Command,
    examples=(
        "throttled allow",
        'throttled allow 198.51.100.0/24 --note "the branch office"',
        "throttled allow .example.com --for 1d",
    ),
)
@click.argument("what", metavar="[ADDRESS|NAME]", required=False, type=allowable)
@for_option("seconds", "How long: 4h, 1d, 2w. For ever unless given.")
@click.option("--note", default="", metavar="TEXT", help="Kept with it.")
@force_option
@json_option
def command(
    *, what: str | None, seconds: float | None, note: str, force: bool, as_json: bool
) -> int | None:
    """Never act on an address, a network or a host name; or list those allowed.

    .example.com is every host whose name ends so, example.com that host alone; the name is the
    one in Postfix's log, which is confirmed by DNS in both directions. What is in force against
    an address or network is lifted; entries have no host names, so a name counts from now on.
    The exit code is 0 only if the kernel lets it through. [protect] in the configuration does the
    same for good.
    """
    if what is not None:
        changed = ask_or_look(Allow(what, seconds, note, force), ChangeResult)
        return tell(changed, as_json=as_json, lifted=True)
    result = ask_or_look(Allowed(), AllowedResult)
    if as_json:
        output.print_json(result)
    elif result.rows:
        rows = [
            (
                row.what,
                output.moment(row.since),
                output.left(row.until) if row.until else "",
                row.note,
            )
            for row in result.rows
        ]
        output.print_table(("ALLOWED", "SINCE", ">LEFT", "NOTE"), rows)
    else:
        click.echo("nothing is allowed by hand; see also [protect] in the configuration")
    return None
