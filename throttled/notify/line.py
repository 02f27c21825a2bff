"""The line of a decision in the journal: an interface for programs that read it. Pure.

    ban 198.51.100.7 scope=mx limit=errors value=56 hard=50 for=10m level=1

The verb is `ban`, `throttle`, `exempt` or `unban`; `would-ban` and so on where the daemon only
observes. Keys come in this order, absent ones are left out. docs/monitoring.md
describes it. A sender that crossed a limit, which does nothing, is

    report account:alice limit=account-bounces count=bounces value=11 soft=10 within=1h
"""

import re

from throttled.model import Decision, Report
from throttled.settings import Duration

_VERBS = {"ban": "ban", "throttle": "throttle", "exempt": "exempt", "release": "unban"}
_PLAIN = re.compile(r"[A-Za-z0-9.:/@_+-]+")


def line(decision: Decision, *, would: bool) -> str:
    """Return a decision as a line.

    Args:
        decision: what was decided.
        would: the daemon observes: nothing is enforced.
    """
    fields = {"scope": decision.scope, "limit": decision.limit}
    if decision.value:
        fields["value"] = str(decision.value)
    if decision.threshold and decision.action == "ban":
        fields["hard"] = str(decision.threshold)
    if decision.action != "release":
        fields["for"] = str(Duration(decision.until - decision.time))
    if decision.level:
        fields["level"] = str(decision.level)
    words = [f"{key}={_value(text)}" for key, text in fields.items()]
    verb = _VERBS[decision.action]
    return " ".join([f"would-{verb}" if would else verb, decision.subject, *words])


def report(one: Report) -> str:
    """Return as a line that a sender crossed a limit; nothing is done about it."""
    fields = {
        "limit": one.limit,
        "count": one.count,
        "value": str(one.value),
        "soft": str(one.threshold),
        "within": str(Duration(one.within)),
    }
    words = [f"{key}={text}" for key, text in fields.items()]
    return " ".join(["report", _value(one.shown), *words])


def _value(text: str) -> str:
    r"""Return a value as it stands in a line: in double quotes, with `\xNN`, where it must."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "replace")
    )
    return f'"{escaped}"'
