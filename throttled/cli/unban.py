"""`throttled unban`."""

import click

from throttled.cli import completion, unban_many
from throttled.cli.change import report
from throttled.cli.offline import ask_or_offline
from throttled.cli.options import (
    Command,
    for_option,
    json_option,
    list_option,
    one_subject,
    scope_option,
    subject,
)
from throttled.control.bulk import UnbanMany
from throttled.control.requests import Unban, UnbanAll
from throttled.control.results import ChangeResult
from throttled.errors import UsageError
from throttled.model import Scope


@click.command(
    cls=Command,
    examples=(
        "throttled unban 198.51.100.7",
        "throttled unban 198.51.100.7 --for 1d",
        "throttled unban 198.51.100.7 203.0.113.9 2001:db8::7",
        "throttled unban - < addresses.txt",
        "throttled unban --within 198.51.100.0/24",
        "throttled unban --limit connections --scope submission",
        "throttled unban --list spamhaus-drop",
        "throttled unban --all",
    ),
)
@click.argument("subjects", metavar="[ADDRESS|-]...", nargs=-1, shell_complete=completion.subjects)
@click.option("--within", type=subject, metavar="NET", help="All in this network, and itself.")
@click.option(
    "--limit",
    metavar="NAME",
    shell_complete=completion.limits,
    help="All that this limit throttled or banned.",
)
@list_option("All of an imported list; see import.")
@click.option("--all", "all_", is_flag=True, help="Remove all throttles and bans.")
@for_option("exempt", "Exempt it for this time, whatever it does.")
@scope_option
@json_option
def command(  # noqa: PLR0913 - the words of the command
    *,
    subjects: tuple[str, ...],
    within: str | None,
    limit: str | None,
    name: str | None,
    all_: bool,
    exempt: float | None,
    scope: Scope | None,
    as_json: bool,
) -> int:
    """Unban addresses or networks; - reads them from standard input, one a line.

    Removes throttle and ban, offences and counts. Works without a running daemon too. Unbanning a
    network does not unban the single addresses in it: --within does. The exit code is 0 only if
    the kernel confirmed that the clients can connect. It is 1 if there was nothing to unban, or if
    another entry still throttles or bans one, such as a ban of its network, which is reported.

    --within and --limit may be combined, and with --scope. --list removes what came from a list
    and keeps what its clients did here.
    """
    _refuse_unclear(subjects, [within or limit, name, all_], exempt)
    if all_:
        return report(ask_or_offline(UnbanAll(scope), ChangeResult), as_json=as_json, removed=True)
    if not subjects:
        selected = UnbanMany(within=within, limit=limit, name=name or "", scope=scope)
        return unban_many.selected(selected, as_json=as_json)
    if subjects[1:] or subjects == ("-",):
        template = UnbanMany(scope=scope, exempt=exempt or 0.0)
        return unban_many.named(subjects, template, as_json=as_json)
    request = Unban(one_subject(subjects[0]), scope, exempt or 0.0)
    return report(ask_or_offline(request, ChangeResult), as_json=as_json, removed=True)


def _refuse_unclear(
    subjects: tuple[str, ...], filters: list[str | bool | None], exempt: float | None
) -> None:
    """Refuse a command that names nobody, or in two ways.

    Raises:
        UsageError: it does.
    """
    given = [each for each in (subjects, *filters) if each]
    if len(given) != 1:
        what = "name addresses, or one of --within and --limit, --list, --all"
        raise UsageError(what, "see: throttled unban --help")
    if exempt is not None and not subjects:
        raise UsageError("--for needs an address", "to stop acting: throttled run --mode observe")
