"""What operators ask about Postfix's own limits: show, set, undo.

There is no request to the daemon for it: its sandbox may not write /etc, and shall not.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from throttled.control.requests import PostfixChange
from throttled.control.results import ChangeResult
from throttled.errors import RefusedError, UsageError
from throttled.host import limits, maincf, reverting
from throttled.host.changes import Replacement, Setting
from throttled.host.maincf import MainCf
from throttled.maincf.advice import advice
from throttled.maincf.evidence import Evidence, Hits
from throttled.maincf.parameters import PARAMETERS, TABLE
from throttled.maincf.state import State
from throttled.maincf.traps import refusals
from throttled.maincf.values import number, unwritable
from throttled.operator import maincf as changing
from throttled.operator.audit import recorded
from throttled.operator.maincf import Result, Target


class Row(Struct):
    """One parameter of one instance."""

    name: str
    value: str
    default: str
    since: str  # Postfix version; "" = always
    services: dict[str, str]  # those of master.cf that have another value
    silent: bool  # Postfix logs nothing of it
    hits: int | None  # within the last day; None: not known
    clients: dict[str, int]  # those that hit it most often
    honest: int | None  # the highest value of an honest sender; None: not known
    honest_client: str
    advised: str  # "" = as it is
    reason: str


class Instance(Struct):
    """One Postfix."""

    directory: str
    name: str
    version: str
    rows: list[Row]

    @property
    def advised(self) -> dict[str, str]:
        """What should be changed."""
        return {row.name: row.advised for row in self.rows if row.advised}


class Plan(Struct):
    """A change that was not made yet."""

    main: MainCf
    text: bytes
    settings: list[Setting]
    diff: list[str]
    notes: list[str]  # what the operator should know
    reverts: int = 0
    more: list[Replacement] = []  # files beside main.cf

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not self.settings and not self.more


def instance(state: State, evidence: Evidence, *, known: bool = True) -> Instance:
    """Return the table of an instance.

    Args:
        state: its configuration.
        evidence: what its log says.
        known: the log could be read.
    """
    advised = advice(state, evidence)
    rows = []
    for parameter in TABLE:
        name = parameter.name
        if name not in state.values:
            continue
        one = advised.get(name)
        worth = parameter.shown or (name in state.written and parameter.kind != "text")
        if not worth and not (one and one.value):
            continue
        hits = evidence.hits.get(name, Hits())
        highest = evidence.highest(parameter.measure) if parameter.measure else None
        rows.append(
            Row(
                name=name,
                value=state.values[name],
                default=state.defaults[name],
                since=parameter.since,
                services=_elsewhere(state, name),
                silent=not parameter.hits,
                hits=hits.count if parameter.hits and known else None,
                clients=dict(hits.most()),
                honest=highest[0] if highest else None,
                honest_client=highest[1] if highest else "",
                advised=one.value if one else "",
                reason=one.reason if one else "",
            )
        )
    return Instance(state.directory, state.name, state.values.get("mail_version", ""), rows)


def _elsewhere(state: State, name: str) -> dict[str, str]:
    """Return the services that have another value than main.cf."""
    return {
        service.name: service.values[name]
        for service in state.services
        if service.values.get(name, state.values[name]) != state.values[name]
    }


def measured(names: Iterable[str]) -> bool:
    """Return whether honest senders are known to need something of one of these parameters."""
    return any(name in PARAMETERS and PARAMETERS[name].measure for name in names)


def below_honest(shown: Instance, wanted: Mapping[str, str]) -> list[str]:
    """Return which of these limits honest senders would have hit, and how high they came."""
    found = []
    for row in shown.rows:
        parameter = PARAMETERS[row.name]
        value = number(parameter.kind, wanted.get(row.name, ""))
        if value is None or row.honest is None or (value == 0 and parameter.off):
            continue
        if value < row.honest + (
            parameter.measure == "errors"
        ):  # this number of errors ends a session
            who = f" ({row.honest_client})" if row.honest_client else ""
            what = f"{row.name} = {value} would have hit honest senders"
            found.append(f"{what}: they reached {row.honest}{who}")
    return found


def chosen(directories: Iterable[str], wanted: str | None) -> str:
    """Return the instance to change: by directory or name; the only one where none is named.

    Raises:
        UsageError: none, or more than one, may be meant.
    """
    known = list(directories)
    names = {directory: limits.name(directory) for directory in known}
    found = [d for d in known if wanted in (None, d.rstrip("/"), names[d] or "-")]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{names[d] or '-'} ({d})" for d in known)
    if wanted is None and known:
        raise UsageError("there are several Postfix instances", f"--instance with one of {listed}")
    raise UsageError(f"no such Postfix instance: {wanted}", f"there are: {listed or 'none'}")


def plan_set(directory: str, wanted: Mapping[str, str]) -> Plan:
    """Return what setting parameters would change. The caller has the lock.

    Raises:
        UsageError: no such parameter, or a value that none can have.
        RefusedError: Postfix would stop, lose mail or refuse honest mail with these values; or
            main.cf is none that may be changed.
    """
    for name, value in wanted.items():
        _named(name)
        if why := unwritable(value):
            raise UsageError(f"{name}: {why}")
    main = maincf.read(directory)
    now = limits.state(directory)
    if missing := [name for name in wanted if name not in now.values]:
        version = now.values.get("mail_version", "")
        raise UsageError(f"Postfix {version} has no {', '.join(missing)}")
    with maincf.scratch(main, dict(wanted)) as place:
        then = limits.proposed(now, str(place))
        text = (place / "main.cf").read_bytes()
    if bad := list(refusals(then, wanted)):
        hint = "nothing was changed; a limit that has to be so all the same: postconf -e"
        raise RefusedError("\n".join(bad), hint)
    written = maincf.written(main, wanted)
    settings = [Setting(name, written.get(name), value) for name, value in wanted.items()]
    settings = [setting for setting in settings if setting.before != setting.after]
    notes = [
        f"{name} is {value} for {service} all the same (-o in master.cf)"
        for name in wanted
        for service, value in _elsewhere(now, name).items()
    ]
    return Plan(main, text, settings, difference(main, text), notes)


def _named(name: str) -> None:
    if name not in PARAMETERS:
        close = difflib.get_close_matches(name, PARAMETERS, 1)
        hint = f"did you mean: {close[0]}" if close else "see: throttled postfix; else: postconf -e"
        raise UsageError(f"no parameter that this command sets: {name}", hint)


def plan_undo(target: Target) -> Plan:
    """Return what reverting the latest change would change. The caller has the lock.

    Raises:
        RefusedError: there is none.
    """
    change = target.journal.latest(target.command)
    if change is None:
        raise RefusedError(f"nothing to undo in {target.directory}", "see: throttled postfix")
    main = maincf.read(target.directory)
    text, settings, kept = reverting.reverted(main, change)
    notes = [f"{name} was changed meanwhile and stays as it is" for name in kept]
    return Plan(main, text, settings, difference(main, text), notes, change.number)


def settled(target: Target, plan: Plan) -> None:
    """Record that nothing is left to revert of a change whose undo was planned."""
    for change in target.journal.changes:
        if change.number == plan.reverts:
            change.outcome = "undone"
            target.journal.save()


def difference(main: MainCf, text: bytes) -> list[str]:
    """Return the changed lines of a file."""
    before, after = (t.decode("utf-8", "replace").splitlines() for t in (main.text, text))
    lines = difflib.unified_diff(before, after, main.path, main.path, n=0, lineterm="")
    return [line for line in lines if not line.startswith("@@")]


def change(target: Target, plan: Plan, store: str) -> Result:
    """Make a planned change, and record it in the audit. The caller has the lock.

    Raises:
        ThrottledError: nothing was changed.
    """
    settings = {setting.name: setting.after for setting in plan.settings}
    request = PostfixChange(target.directory, settings, undo=bool(plan.reverts))
    if not Path(store).exists():  # the journal has it, and there is no audit yet
        return _apply(target, plan)
    with recorded(store, request) as results:
        result = _apply(target, plan)
        results.append(ChangeResult([], result.applied, result.message))
    return result


def _apply(target: Target, plan: Plan) -> Result:
    parts = (plan.main, plan.text, plan.settings, plan.reverts, plan.more)
    return changing.apply(target, *parts)
