"""`throttled postfix connect` and `disconnect`: lets Postfix ask the daemon, or no more.

The changes of main.cf and master.cf are planned here; `throttled.operator.maincf` makes them, and
reverts them where Postfix does not work with them or does not ask.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from throttled.errors import RefusedError
from throttled.host import greeting, maincf, postconf, reverting
from throttled.host import visit as sessions
from throttled.host.asked import LISTS, overrides, written
from throttled.host.changes import Replacement, Setting
from throttled.host.services import loopback_only
from throttled.maincf import asking
from throttled.maincf.asking import CHECK, CHECKS, CLIENT, DATA, RECIPIENT, RECIPIENTS, Check
from throttled.model import POLICY_SOCKET
from throttled.operator.maincf import Result, Target
from throttled.operator.postfix import Plan, difference

#: Settings of one check in braces; its policy_context.
_SINCE, _RECIPIENTS_SINCE = (3, 0), (3, 1)

#: What a session is asked about.
About = Literal["data", "recipient"]


def plan_connect(directory: str, *, proxied: bool = False, recipients: bool = False) -> Plan:
    """Return what lets an instance ask. The caller has the lock.

    Args:
        directory: of the instance.
        proxied: clients come by a proxy, so it asks about them too.
        recipients: a limit of what mailboxes or domains receive acts, so it asks about these too.

    Raises:
        RefusedError: this Postfix cannot, or a file is none that may be changed.
        HostError: postconf refuses.
    """
    version = postconf.value(directory, "mail_version")
    number = tuple(map(int, re.findall(r"[0-9]+", version)[:2]))
    if number < _SINCE:
        raise RefusedError(f"Postfix {version} cannot ask with a timeout", "it needs Postfix 3.0")
    notes = []
    wanted = {DATA: CHECK, **({CLIENT: CHECK} if proxied else {})}
    if recipients and number >= _RECIPIENTS_SINCE:
        wanted[RECIPIENT] = RECIPIENTS
    elif recipients:
        notes.append(f"Postfix {version} cannot ask about recipients: it needs Postfix 3.1")
    lookup = written(directory)
    values: dict[str, str | None] = {
        name: _made(lookup(name), lookup, wanted.get(name)) for name in LISTS
    }
    used = wanted.values()
    values |= {c.name: c.value for c in CHECKS if c in used}
    values |= {c.name: None for c in CHECKS if c not in used and lookup(c.name)}
    services = {}
    for entry, name, value in overrides(directory):
        key = f"{entry.name}/{entry.kind}/{name}"
        if loopback_only(entry):
            notes.append(f"{key} stays as it is: only this host can reach that service")
            continue
        made = _made(value, lookup, wanted.get(name))
        if asking.words(made) != asking.words(value):
            services[key] = _one_word(key, made)
    notes.extend(_filters(directory, lookup))
    return _plan(directory, values, services, notes, lookup)


def plan_disconnect(target: Target) -> Plan:
    """Return what lets an instance ask no more. The caller has the lock.

    Raises:
        RefusedError: a file is none that may be changed.
        HostError: postconf refuses.
    """
    directory = target.directory
    exact = _exactly(target)
    if exact is not None:
        return exact
    lookup = written(directory)
    values: dict[str, str | None] = {}
    for name in LISTS:
        value = asking.disconnected(lookup(name))
        values[name] = value or (None if value != lookup(name) else "")
    values |= {check.name: None for check in CHECKS if lookup(check.name)}
    services = {}
    for entry, name, value in overrides(directory):
        made = asking.disconnected(value)
        if made != value:
            key = f"{entry.name}/{entry.kind}/{name}"
            services[key] = _one_word(key, made)
    return _plan(directory, values, services, [], lookup)


def disconnect(target: Target, plan: Plan) -> Result:
    """Write a planned disconnection where Postfix does not run. The caller has the lock.

    Raises:
        ThrottledError: it cannot be written.
    """
    reverting.write(target.directory, plan.main, plan.text, plan.more)
    return Result(applied=True, message="changed; Postfix is not running")


def ready(directory: str) -> str:
    """Return the socket at which the daemon answers an instance.

    Raises:
        RefusedError: it does not.
    """
    queue = postconf.value(directory, "queue_directory")
    path = f"{queue}/{POLICY_SOCKET}"
    if not sessions.answers(path):
        hint = "start it: systemctl start throttled; see: throttled status"
        raise RefusedError(f"the daemon does not answer at {path}: nothing was changed", hint)
    return path


def verify(
    directory: str, asked: Callable[[str, int, About], bool], *, recipients: bool = False
) -> tuple[str, list[str]]:
    """Begin a message at each service.

    Args:
        directory: of the instance.
        asked: whether the daemon was asked about a session of this host.
        recipients: it should be asked about recipients too.

    Returns:
        Why Postfix does not ask, "" = it does; what could not be tried.

    Raises:
        ThrottledError: the daemon does not say.
    """
    notes: list[str] = []
    instance = postconf.read(directory)
    named = instance.parameters.get("myhostname", "localhost")
    local = {entry.name for entry in instance.entries if loopback_only(entry)}
    for service in greeting.endpoints(instance):
        made = sessions.visit(service, f"postmaster@{named}" if recipients else "")
        if made.state == "broken":
            return f"{service.name} replied: {made.reply}", notes
        if made.state == "refused":
            notes.append(f"{service.name} was not tried with a message: {made.reply}")
        elif service.name in local:
            continue
        elif not asked(made.client, made.port, "data"):
            return f"{service.name} took a message without asking", notes
        elif recipients and not asked(made.client, made.port, "recipient"):
            if made.recipient.startswith("2") and not _spared(directory, service.name):
                return f"{service.name} took a recipient without asking", notes
            notes.append(
                f"{service.name} was not tried with a recipient: it replied {made.recipient}"
                " before it would ask"
            )
    return "", notes


def _spared(directory: str, service: str) -> bool:
    """Return whether a service does not ask about recipients of this host's own mail."""
    lookup = written(directory)
    own = [
        v for entry, name, v in overrides(directory) if (entry.name, name) == (service, RECIPIENT)
    ]
    return asking.spares(own[0] if own else lookup(RECIPIENT), lookup, RECIPIENTS)


def _made(value: str, lookup: asking.Lookup, check: Check | None) -> str:
    return asking.disconnected(value) if check is None else asking.connected(value, lookup, check)


def _plan(
    directory: str,
    values: Mapping[str, str | None],
    services: Mapping[str, str],
    notes: list[str],
    lookup: asking.Lookup,
) -> Plan:
    changes = {
        name: value
        for name, value in values.items()
        if asking.words(value or "") != asking.words(lookup(name)) or value is None
    }
    main = maincf.read(directory)
    text = maincf.edited(main, changes) if changes else main.text
    settings = [Setting(name, lookup(name) or None, value) for name, value in changes.items()]
    more = []
    diff = difference(main, text)
    if services:
        file = maincf.read(directory, "master.cf")
        after = maincf.master_edited(main, file, services)
        more.append(Replacement("master.cf", file.text, after))
        diff += difference(file, after)
    return Plan(main, text, settings, diff, notes, more=more)


def _exactly(target: Target) -> Plan | None:
    """Return what restores the files as they were before, where nobody changed them since."""
    main = maincf.read(target.directory)
    for change in reversed(target.journal.changes):
        if (change.command, change.outcome) == ("connect", "applied") and change.after == main.text:
            break
    else:
        return None
    earlier = (change.before, *(one.before for one in change.more))
    if any(check.name.encode() in text for text in earlier for check in CHECKS):
        return None
    files = [maincf.read(target.directory, one.name) for one in change.more]
    if any(file.text != one.after for file, one in zip(files, change.more, strict=True)):
        return None
    settings = [setting.backwards() for setting in change.settings]
    diff = difference(main, change.before)
    for file, one in zip(files, change.more, strict=True):
        diff += difference(file, one.before)
    more = [one.backwards() for one in change.more]
    return Plan(main, change.before, settings, diff, [], change.number, more)


def _filters(directory: str, lookup: asking.Lookup) -> Iterator[str]:
    everywhere = lookup("smtpd_proxy_filter")
    for entry in postconf.read(directory).entries:
        if entry.process == "smtpd" and entry.parameters.get("smtpd_proxy_filter", everywhere):
            yield f"{entry.name} has a smtpd_proxy_filter: Postfix holds no message there"


def _one_word(key: str, value: str) -> str:
    made = asking.one_word(value)
    if made is None:
        what = f"{key} in master.cf has white space, which postconf(1) cannot write"
        raise RefusedError(what, "put the list into a parameter of main.cf and name it with $")
    return made
