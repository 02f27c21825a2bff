"""What a limit should be, and why, in one sentence. Pure.

For each limit only honest senders count (`evidence`): twice the highest value of theirs, never
below Postfix's default. A rate limit that is off stays off: Postfix's manual forbids them as a
means against good mail, hosts that stand for many (webmail, NAT) hit them first, and a refusal
costs Postfix as much as a session; throttled does it in the kernel.
"""

from msgspec import Struct

from throttled.maincf.evidence import Evidence
from throttled.maincf.parameter import Parameter
from throttled.maincf.parameters import RATES, TABLE
from throttled.maincf.state import State
from throttled.maincf.traps import refusals, without_exceptions
from throttled.maincf.values import number

_EXCEPTIONS = "smtpd_client_event_limit_exceptions"
_FORBID = {
    "smtpd_forbid_unauth_pipelining": "clients that send before they may are spam programs",
    "smtpd_forbid_bare_newline": "a bare newline can hide a second message (SMTP smuggling)",
}


class Advice(Struct, frozen=True):
    """A value for a parameter. Of one that is well as it is, only why."""

    value: str  # "" = as it is
    reason: str


def advice(state: State, evidence: Evidence) -> dict[str, Advice]:
    """Return what each parameter of this version should be, where there is something to say."""
    found = {
        parameter.name: one
        for parameter in TABLE
        if parameter.name in state.values and (one := _of(parameter, state, evidence)).reason
    }
    size, box = found.get("message_size_limit"), state.number("mailbox_size_limit")
    if size is not None and size.value and box and box < int(size.value):
        found["mailbox_size_limit"] = Advice(size.value, "must not be below message_size_limit")
    soft, hard = (found.get(f"smtpd_{which}_error_limit") for which in ("soft", "hard"))
    if soft and soft.value and not (hard and hard.value):
        limit = state.number("smtpd_hard_error_limit") or 0
        if limit <= int(soft.value):
            wanted = str(2 * int(soft.value))
            found["smtpd_hard_error_limit"] = Advice(wanted, "above smtpd_soft_error_limit")
    return found


def _of(parameter: Parameter, state: State, evidence: Evidence) -> Advice:
    name = parameter.name
    if name in _FORBID:
        return _forbid(state, name)
    if parameter.measure:
        return _measured(parameter, state, evidence)
    if name == "soft_bounce" and state.on(name):
        return Advice("no", "permanent refusals with 4xx make senders try again for days")
    if name == _EXCEPTIONS and (limited := without_exceptions(state)):
        return Advice("$mynetworks", f"{limited} applies to webmail and your own hosts too")
    if parameter.kind != "text" and (bad := next(refusals(state, [name]), "")):
        return Advice(state.defaults.get(name) or parameter.default, bad)
    return Advice("", "")


def _forbid(state: State, name: str) -> Advice:
    words = state.words(name)
    wanted = "normalize" if "normalize" in words else "yes"
    return Advice("" if state.on(name) else wanted, _FORBID[name])


def _measured(parameter: Parameter, state: State, evidence: Evidence) -> Advice:
    """Compare a limit with what honest senders need."""
    value = state.number(parameter.name)
    highest = evidence.highest(parameter.measure)
    reached = f"honest senders reached {highest[0]}" if highest else "no honest sender is known"
    if value == 0 and parameter.off:
        if parameter.name in RATES:
            return Advice("", f"{reached}; off is right: throttled limits it in the kernel")
        return Advice("", f"{reached}; it is off")
    default = number(parameter.kind, state.defaults.get(parameter.name, "")) or int(
        number(parameter.kind, parameter.default) or 0
    )
    needed = min(parameter.high, max(default, 2 * highest[0] if highest else 0))
    if value is None or value >= needed:
        return Advice("", f"{reached}; it is high enough")
    why = f"twice {highest[0]}" if highest and needed > default else "Postfix's default"
    return Advice(str(needed), f"{reached}; {why}")
