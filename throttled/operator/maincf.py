"""Changes a main.cf so that mail continues: tried first, verified after, reverted if it is worse.

The steps, each of which a `kill -9` may be the last of (`throttled.linux.survivor` finishes it, or
the next command does, by the journal):

1. Every service is asked for its greeting, and an smtpd reads the new main.cf stand-alone.
2. The journal has the old main.cf and the new one. 3. main.cf is replaced. 4. One reload.
5. Every service that greeted before has to greet again, and no daemon of this instance may log a
   line that begins with `fatal:`; else main.cf is reverted, and Postfix reloaded or started.

A service whose smtpd could not start is throttled by master(8) for a minute, and a reload does not
change that (Postfix 3.7.11): it is disabled and enabled again (master_service_disable).
"""

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial

import msgspec
from msgspec import Struct

from throttled.errors import HostError, NotPermittedError, RefusedError, ThrottledError
from throttled.host import greeting, maincf, master, postconf, reverting
from throttled.host.answering import Process
from throttled.host.changes import Change, Journal, Replacement, Setting
from throttled.host.greeting import Endpoint
from throttled.host.maincf import MainCf
from throttled.linux.survivor import survive
from throttled.operator.fatal import Watch

#: Seconds for the log's lines about our own visits to arrive.
_ARRIVAL = 3.0
#: Seconds for daemons that cannot work to end: each waits for one before it does (msg_fatal).
_ENDING = 5.0
#: Seconds for a service that is not throttled to greet; less than for the verdict.
_QUICK = 10.0
_POLL = 0.05
_TRIES = 3
_DISABLE = "master_service_disable"


class Target(Struct, frozen=True):
    """The instance to change."""

    directory: str
    journal: Journal
    sources: tuple[str, ...]  # its logs
    user: str
    command: str = "set"  # what changes it: another command's changes are not this one's to undo
    #: Called after each step, with its name.
    step: Callable[[str], None] = lambda _name: None
    #: Returns why a change does not do what it is for, though Postfix works; "" = it does.
    #: and what could not be tried.
    verify: Callable[[], tuple[str, list[str]]] = lambda: ("", [])


class Result(Struct):
    """What came of a change."""

    applied: bool
    message: str
    hint: str = ""
    #: Parameters that were not reverted, because another program changed them meanwhile.
    kept: list[str] = []
    #: What could not be tried.
    notes: list[str] = []


def apply(  # noqa: PLR0913, PLR0917 - what a plan has
    target: Target,
    main: MainCf,
    text: bytes,
    settings: list[Setting],
    reverts: int = 0,
    more: Iterable[Replacement] = (),
) -> Result:
    """Apply a new main.cf, or leave everything as it was. The caller has the lock.

    Args:
        target: the instance.
        main: its main.cf as it was read.
        text: the new one.
        settings: how they differ.
        reverts: number of the change that this one takes back.
        more: other files to replace after it.

    Raises:
        ThrottledError: main.cf cannot be changed; nothing was.
    """
    if not master.running(target.directory):
        hint = "start it first: nothing could be verified now"
        raise RefusedError(f"the Postfix of {target.directory} is not running", hint)
    change = Change(0, time.time(), target.user, "begun", settings, main.text, text, [], reverts)
    change.more = list(more)
    change.command = target.command
    encoded = survive(
        partial(_encoded, partial(_apply, target, main, change)),
        partial(_encoded, partial(recover, target)),
    )
    return _decoded(encoded)


def recover(target: Target) -> Result:
    """Revert a change that a killed command left unfinished. The caller has the lock."""
    pending = target.journal.load().pending()
    result = Result(applied=False, message="nothing was changed")
    for change in pending:
        names = ", ".join(setting.name for setting in change.settings)
        with Watch(target.sources, tags(postconf.read(target.directory))) as watch:
            result = _restore(target, change, watch)
        result.message = f"a change of {names} by {change.user} was interrupted; {result.message}"
        change.outcome = "interrupted"
        target.journal.save()
    return result


def _apply(target: Target, main: MainCf, change: Change) -> Result:
    instance = postconf.read(target.directory)
    services = list(greeting.endpoints(instance))
    with Watch(target.sources, tags(instance)) as watch:
        change.answered = [service.name for service in _answering(services)]
        _try(target, main, change, watch)
        target.journal.load().add(change)
        target.step("recorded")
        old = master.children(target.directory)
        try:
            maincf.reserve(main)
            if main.text != change.after:
                maincf.replace(main, change.after)
            for file in change.more:
                reverting.replace(target.directory, file)
        except ThrottledError:
            reverting.revert(target.directory, change)
            target.journal.changes.remove(change)
            target.journal.save()
            raise
        target.step("replaced")
        watch.again()
        why = _reload(target.directory)
        target.step("reloaded")
        why = why or _verdict([s for s in services if s.name in change.answered], watch, old)
        notes: list[str] = []
        if not why:
            why, notes = _tried(target)
        target.step("verified")
        if why:
            change.why = why
            result = _restore(target, change, watch)
            change.outcome = "restored"
            result.message = f"{why}; {result.message}"
        else:
            change.outcome = "undo" if change.reverts else "applied"
            for one in target.journal.changes:
                if one.number == change.reverts:
                    one.outcome = "undone"
            result = Result(applied=True, message=_verified(change, watch), notes=notes)
            maincf.release(target.directory)
        _finish(target, result)
        target.step("finished")
        return result


def _tried(target: Target) -> tuple[str, list[str]]:
    try:
        return target.verify()
    except ThrottledError as error:
        return error.message, []


def _finish(target: Target, result: Result) -> None:
    """Record how a change ended; a full disk does not undo what was verified."""
    try:
        target.journal.save()
    except HostError as error:
        result.message += f"; not recorded: {error.message}"
        result.hint = "until it is, the next throttled postfix set or undo reverts it"


def _verified(change: Change, watch: Watch) -> str:
    names = ", ".join(change.answered)
    greets = f"{names} greet clients" if len(change.answered) > 1 else f"{names} greets clients"
    log = "its log cannot be read" if watch.blind else "no daemon of it failed"
    done = "changed back" if change.reverts else "changed"
    return f"{done}; Postfix is reloaded: {greets if names else 'no service greets clients'}, {log}"


def _try(target: Target, main: MainCf, change: Change, watch: Watch) -> None:
    """Let an smtpd read the new main.cf before anything is changed.

    Raises:
        RefusedError: it cannot start with it.
    """
    try:
        with maincf.scratch(msgspec.structs.replace(main, text=change.after)) as place:
            master.try_smtpd(target.directory, str(place))
    except HostError as error:
        end = time.monotonic() + _ARRIVAL
        while not watch.read() and time.monotonic() < end:
            time.sleep(_POLL)
        what = f"smtpd does not start with it: {watch.fatal or error.message}"
        raise RefusedError(what, "nothing was changed") from error


def _reload(directory: str) -> str:
    """Reload an instance; return why it does not."""
    try:
        master.reload(directory)
    except HostError as error:
        return error.message
    return ""


def _verdict(services: list[Endpoint], watch: Watch, old: Collection[Process]) -> str:
    """Return what is wrong after a reload; "" if every service greets and nothing is fatal.

    Args:
        services: that greeted before.
        watch: the log since the reload.
        old: processes of before, which may answer until master(8) has read the signal.
    """
    greets = _answering(services, lambda: bool(watch.read()), old=old)
    end = time.monotonic() + _ARRIVAL
    while not watch.blind and watch.greeted < len(greets) and time.monotonic() < end:
        watch.read()
        time.sleep(_POLL)
    if fatal := watch.read():
        return f"Postfix logged: {fatal}"
    silent = [service.name for service in services if service not in greets]
    return f"no greeting any more from {', '.join(silent)}" if silent else ""


def _answering(
    services: Iterable[Endpoint],
    enough: Callable[[], bool] = lambda: False,
    seconds: float = greeting.SECONDS,
    old: Collection[Process] = (),
) -> list[Endpoint]:
    """Return the services that greet clients, or did so until it is `enough`."""
    pool, asked = greeting.ask(services, seconds, old)
    pool.shutdown(wait=False)
    while not enough() and not all(future.done() for future in asked.values()):
        time.sleep(_POLL)
    return [service for service, f in asked.items() if f.done() and f.result() == 220]


def _restore(target: Target, change: Change, watch: Watch) -> Result:
    """Revert a change, and see to it that the services which greeted before do so again."""
    try:
        kept, reverted_any = reverting.revert(target.directory, change)
    except ThrottledError as error:
        why = f"{change.why}; " if change.why else ""
        hint = "correct that, then: throttled postfix undo"
        raise HostError(f"{why}main.cf is NOT restored: {error.message}", hint) from error
    if reverted_any and master.running(target.directory):
        _reload(target.directory)
    instance = postconf.read(target.directory)
    services = [s for s in greeting.endpoints(instance) if s.name in change.answered]
    silent: list[Endpoint] = []
    for _ in range(_TRIES):
        _settle(watch)
        if not master.running(target.directory):
            master.start(target.directory)
        throttled = {f"{e.name}/{e.kind}" for e in instance.entries if e.process in watch.throttled}
        if stopped := throttled.union(f"{service.name}/inet" for service in silent):
            watch.again()
            _unthrottle(target, sorted(stopped))
        greets = _answering(services, watch.fails, _QUICK)
        silent = [service for service in services if service not in greets]
        if not silent and not watch.fails():
            break
    message = "main.cf is as before" if not kept else "other programs' changes were left"
    if silent:
        names = ", ".join(service.name for service in silent)
        hint = f"postfix -c {target.directory} stop; postfix -c {target.directory} start"
        return Result(applied=False, message=f"{message}; NO GREETING from {names}", hint=hint)
    return Result(applied=False, message=f"{message}, Postfix works", kept=kept)


def _settle(watch: Watch) -> None:
    """Wait until daemons that could not work have ended, and master(8) knows it."""
    end = time.monotonic() + _ENDING
    while watch.ending() > 0 and time.monotonic() < end:
        time.sleep(_POLL)


def _unthrottle(target: Target, services: list[str]) -> None:
    """Disable and enable services (`smtp/inet`): master(8) makes them anew, and starts them."""
    main = maincf.read(target.directory)
    before = maincf.written(main, [_DISABLE]).get(_DISABLE)
    names = " ".join([before or "", *services]).strip()
    text = maincf.edited(main, {_DISABLE: names})
    setting = Setting(_DISABLE, before, names)
    change = Change(0, time.time(), target.user, "begun", [setting], main.text, text)
    change.command = "restore"
    with suppress(HostError):  # a full disk: then without a record of it
        target.journal.add(change)
    with suppress(ThrottledError):
        maincf.replace(main, text)
        master.reload(target.directory)
    target.step("disabled")
    reverting.revert(target.directory, change)
    _reload(target.directory)
    change.outcome = "restored"
    with suppress(HostError):
        target.journal.save()


def tags(instance: postconf.Instance) -> set[str]:
    """Return the syslog names of an instance and its services."""
    every = [instance.parameters, *(entry.parameters for entry in instance.entries)]
    return {parameters.get("syslog_name", "postfix") for parameters in every}


class _Failed(Struct):
    """An error, on its way from the process that did the work."""

    message: str
    hint: str
    kind: str


_KINDS = {kind.__name__: kind for kind in (HostError, NotPermittedError, RefusedError)}


def _encoded(work: Callable[[], Result]) -> bytes:
    try:
        return msgspec.json.encode((work(), None))
    except ThrottledError as error:
        failed = _Failed(error.message, error.hint, type(error).__name__)
        return msgspec.json.encode((None, failed))


def _decoded(encoded: bytes) -> Result:
    result, failed = msgspec.json.decode(encoded, type=tuple[Result | None, _Failed | None])
    if failed is not None:
        raise _KINDS.get(failed.kind, HostError)(failed.message, failed.hint)
    assert result is not None  # noqa: S101 - one of both
    return result
