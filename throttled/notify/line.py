"""The line of a decision in the journal: an interface for programs that read it. Pure.

    ban 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m level=1 origin=log

The verb is `ban`, `throttle`, `exempt`, `unban` or `expire`; `would-ban` and so on for the
beginnings where the daemon only observes. Keys come in this order, absent ones are left out.
docs/monitoring.md describes it. A subject that crossed a limit whose mode is "report" is

    report account:alice limit=account-bounces count=bounces value=11 soft=10 within=1h
    report 203.0.113.9 scope=mx limit=garbage value=11 hard=10 for=10m level=1 origin=proxy
"""

import re

from throttled.address import is_named
from throttled.duration import Duration
from throttled.model import Decision, Report, Snapshot

_PLAIN = re.compile(r"[A-Za-z0-9.:/@_+-]+")


def line(decision: Decision, *, would: bool) -> str:
    """Return a decision as a line.

    Args:
        decision: what was decided.
        would: the daemon observes: nothing is enforced.
    """
    if decision.action == "release":
        verb = "unban"
    else:
        verb = f"would-{decision.action}" if would else decision.action
    return _decision(verb, decision)


def behind(decision: Decision) -> str:
    """Return as a line what would be done about a client behind a proxy: `origin=proxy`."""
    return _decision("unban" if decision.action == "release" else "report", decision)


def _decision(verb: str, decision: Decision) -> str:
    fields = {**_scope(decision), "limit": decision.limit}
    if decision.value:
        fields["value"] = str(decision.value)
    if decision.threshold and decision.above:
        fields[decision.above] = str(decision.threshold)
    if decision.action != "release":
        fields["for"] = str(Duration(decision.until - decision.time))
    if decision.level:
        fields["level"] = str(decision.level)
    fields["origin"] = decision.origin
    if decision.name:
        fields["name"] = decision.name
    return _line(verb, _value(decision.subject), fields)


def expired(row: Snapshot) -> str:
    """Return the end of what was active as a line; `for` is how long it was."""
    lasted = str(Duration(row.until - row.since))
    fields = {**_scope(row), "limit": row.limit, "for": lasted}
    if row.level:
        fields["level"] = str(row.level)
    fields["origin"] = row.origin
    return _line("expire", _value(row.subject), fields)


def _scope(of: Decision | Snapshot) -> dict[str, str]:
    """Return the scope of a subject that has one: accounts, users, mailboxes, domains have none."""
    return {} if is_named(of.subject) else {"scope": of.scope}


def _line(verb: str, subject: str, fields: dict[str, str]) -> str:
    return " ".join([verb, subject, *(f"{key}={_value(text)}" for key, text in fields.items())])


def report(one: Report) -> str:
    """Return as a line that a subject crossed a limit whose mode is "report"."""
    fields = {
        "limit": one.limit,
        "count": one.count,
        "value": str(one.value),
        one.above: str(one.threshold),
        "within": str(Duration(one.within)),
    }
    return _line("report", _value(one.shown), fields)


def _value(text: str) -> str:
    r"""Return a value as it stands in a line: in double quotes, with `\xNN`, where it must."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "replace")
    )
    return f'"{escaped}"'
