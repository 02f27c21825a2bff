"""`throttled mail`."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from throttled import address
from throttled.cli import output
from throttled.cli.daemon import config, facts
from throttled.cli.options import Command, json_option, seconds, subject
from throttled.config.schema import Config
from throttled.control.requests import MailChange
from throttled.control.results import ChangeResult
from throttled.errors import NotPermittedError, UsageError
from throttled.facts import Facts
from throttled.host.on_hold import Held, OnHold
from throttled.operator import mail
from throttled.operator.audit import recorded
from throttled.operator.mail import Message
from throttled.parse.message import ID

_ACTIONS = ("list", "hold", "release", "delete")
_DONE = {"hold": "on hold", "release": "released", "delete": "deleted"}
#: Queues in which a message can be that the action changes.
_QUEUES = {"hold": ("incoming", "active", "deferred"), "release": ("hold",)}
_LATEST = 20


@click.command(
    cls=Command,
    examples=(
        "throttled mail list account:alice",
        "throttled mail hold account:alice --since 2h",
        "throttled mail release 192.0.2.7",
        "throttled mail delete account:alice --since 1d",
        "throttled mail hold --id 4jcT2p1kjCzKT37",
    ),
)
@click.argument("action", type=click.Choice(_ACTIONS))
@click.argument("subject", metavar="[ACCOUNT]", required=False, type=subject)
@click.option("--since", type=seconds, metavar="DURATION", help="Only what came within this time.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="A message by its queue id.")
@click.option("--due", is_flag=True, help="Release what was put on hold, as it is due.")
@click.option("--all", "all_", is_flag=True, help="Release what was put on hold, at once.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(  # noqa: PLR0913 - a parameter for each option
    *,
    action: str,
    subject: str | None,
    since: float | None,
    ids: tuple[str, ...],
    due: bool,
    all_: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """List, hold, release or delete the queued mail of an account.

    ACCOUNT is account:NAME, or the address of a host within mynetworks. Whose a message is Postfix
    wrote into its queue file when it took it: a forged sender does not help. Mail of sendmail(1)
    (uid:N) has no such mark: name its queue ids with --id.

    delete asks first; hold, release and delete are recorded (throttled audit). release --due
    releases what the daemon had put on hold, each message after its deadline ([accounts] hold) and
    at its subject's rate, and ends when nothing is on hold; throttled-release.service runs it.
    release --all releases it at once, and waits for messages that are being received, up to 30 s.
    """
    settings, known = _where(action, subject, ids, due=due or all_, asks=not yes, as_json=as_json)
    on_hold = OnHold(settings.database())
    if due or all_:
        return _due(settings, known, on_hold, at_once=all_, as_json=as_json)
    after = time.time() - since if since else 0.0
    with _looked_at() as report:
        found = list(
            mail.named(known.config_directories, ids, known.sasl_domain)
            if subject is None
            else mail.queued(
                known.config_directories,
                subject,
                known.sasl_domain,
                since=after,
                queues=_QUEUES.get(action, ()),
                report=report,
            )
        )
    if action == "list":
        _show(found, subject or "", as_json=as_json)
        return 0
    if action == "delete" and found and not yes:
        _show(found, subject or "", as_json=False)
        click.confirm(f"Delete {_messages(len(found))}? They are lost", abort=True, err=True)
    wanted = MailChange(action, subject or "", list(ids))
    message = _change(settings, wanted, found, on_hold)
    if as_json:
        output.print_json({"done": len(found), "message": message})
    else:
        click.echo(output.printable(message))
    return 0 if found else 1


def _where(  # noqa: PLR0913 - the words of the command
    action: str, who: str | None, ids: Sequence[str], *, due: bool, asks: bool, as_json: bool
) -> tuple[Config, Facts]:
    """Refuse what does not go together; return configuration and facts."""
    if due and (action != "release" or who or ids):
        raise UsageError("--due and --all are for release alone", "throttled mail release --due")
    if not due and (who is None) != bool(ids):
        raise UsageError("name an account, or messages with --id", "see: throttled mail --help")
    if bad := [one for one in ids if not re.fullmatch(ID, one)]:
        raise UsageError(f"not a queue id: {bad[0]}")
    if who is not None and address.kind(who) not in ("account", "address"):
        hint = "its messages by queue id: throttled mail hold --id ID"
        raise UsageError(f"no queue file says that it is of {who}", hint)
    if action == "delete" and asks and (as_json or not sys.stdin.isatty()):
        raise UsageError("nobody can be asked", "if you mean it, add --yes")
    if os.geteuid() != 0:  # postcat(1) and postsuper(1) need it: without, no message is found
        raise NotPermittedError("only root may look into the mail queue", "run it with sudo")
    settings = config()
    return settings, facts(settings)


def _change(settings: Config, wanted: MailChange, found: Sequence[Message], on_hold: OnHold) -> str:
    """Change messages, and record it."""
    with recorded(settings.database(), wanted) as results:
        done = mail.change(wanted.what, found, on_hold)
        of = f" of {wanted.subject}" if wanted.subject else ""
        message = f"{_messages(done)}{of} {_DONE[wanted.what]}"
        results.append(ChangeResult([], bool(done), message))
    return message


def _due(settings: Config, known: Facts, on_hold: OnHold, *, at_once: bool, as_json: bool) -> int:
    left: list[Held] = []
    if not at_once:
        done = mail.release_due(on_hold, known.sasl_domain)
    else:

        def release(held: Sequence[Held]) -> None:
            found = [Message(h.instance, h.queue_id, "hold", 0, 0, "", h.subject) for h in held]
            _change(settings, MailChange("release", ""), found, on_hold)

        done, left = mail.release_all(on_hold, known.sasl_domain, release)
    message = f"{_messages(done)} released"
    if left:
        ids = " ".join(held.queue_id for held in left[:_LATEST])
        message += f"; still received, and on hold at their end: {ids}"
    if as_json:
        output.print_json({"done": done, "message": message})
    else:
        click.echo(output.printable(message))
    return 1 if left else 0


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _show(found: Sequence[Message], who: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"subject": who, "messages": found})
        return
    of = f" of {who}" if who else ""
    if not found:
        click.echo(output.printable(f"no queued messages{of}"))
        return
    queues = ", ".join(f"{n:,} {name}" for name, n in Counter(m.queue for m in found).most_common())
    size = sum(message.size for message in found)
    click.echo(output.printable(f"{_messages(len(found))}{of} ({queues}), {size:,} bytes"))
    latest = sorted(found, key=lambda message: -message.arrival)
    output.print_table(
        ["ID", "QUEUE", "ARRIVED", ">SIZE", "SENDER"],
        [
            (
                one.queue_id,
                one.queue,
                output.moment(one.arrival),
                f"{one.size:,}",
                one.sender or "<>",
            )
            for one in latest[:_LATEST]
        ],
    )
    if len(found) > _LATEST:
        click.echo(f"and {len(found) - _LATEST:,} older ones; all of them: --json")


@contextmanager
def _looked_at() -> Iterator[Callable[[int, int], None]]:
    """Show how many messages were looked at, where somebody looks."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return

    def report(done: int, every: int) -> None:
        if done % 50 == 0 or done == every:
            click.echo(f"\r{done:,} of {every:,} messages", nl=False, err=True)

    yield report
    click.echo("\r\033[K", nl=False, err=True)
