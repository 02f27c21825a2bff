"""Settings that let strangers relay, refuse honest mail or hurt the host; and the mending. Pure."""

from collections.abc import Iterator

from throttled.maincf.parameters import PARAMETERS
from throttled.maincf.state import Serving, State, items
from throttled.maincf.traps import closes, without_exceptions

_LISTS = ("client", "helo", "sender", "relay", "recipient")
_SAFE = "permit_mynetworks,permit_sasl_authenticated,defer_unauth_destination"
_EVERYBODY = ("0.0.0.0/0", "[::]/0", "::/0", "0/0")


def findings(state: State) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, and the command that corrects it (without `throttled postfix set`)."""
    for service in state.services:
        if why := open_relay(service):
            local = service.values.get("smtpd_relay_restrictions") != state.values.get(
                "smtpd_relay_restrictions"
            )
            fix = "" if local or "mynetworks" in why else f"smtpd_relay_restrictions={_SAFE}"
            yield f"open relay: {service.name}: {why}", fix
    if state.number("smtpd_hard_error_limit") == 1:
        what = "smtpd_hard_error_limit = 1: one greylisted or mistyped recipient ends a session"
        yield what, f"smtpd_hard_error_limit={PARAMETERS['smtpd_hard_error_limit'].default}"
    if limited := without_exceptions(state):
        what = f"{limited} applies to webmail and to your own hosts too"
        yield what, "smtpd_client_event_limit_exceptions=$mynetworks"
    if state.on("soft_bounce"):
        yield (
            "soft_bounce = yes: every refusal is temporary, senders try for days",
            "soft_bounce=no",
        )
    yield from _codes(state)
    yield from _below(state, "line_length_limit", 998, "longer lines of honest mail are cut")
    yield from _below(state, "smtpd_recipient_limit", 100, "RFC 5321 wants 100 at least")
    for name, what in (
        ("smtpd_forbid_bare_newline", "SMTP smuggling: a second message can hide in one"),
        ("smtpd_forbid_unauth_pipelining", "clients may send before they are answered"),
    ):
        if name in state.values and not state.on(name):
            wanted = "normalize" if "normalize" in state.words(name) else "yes"
            yield f"{name} = no: {what}", f"{name}={wanted}"


def _codes(state: State) -> Iterator[tuple[str, str]]:
    for name, parameter in PARAMETERS.items():
        if parameter.kind == "code" and state.values.get(name, "").startswith("4"):
            what = f"{name} = {state.values[name]}: a permanent refusal that senders try for days"
            yield what, f"{name}={parameter.default}"


def _below(state: State, name: str, least: int, why: str) -> Iterator[tuple[str, str]]:
    value = state.number(name)
    if value is not None and value < least:
        yield f"{name} = {value}: {why}", f"{name}={PARAMETERS[name].default}"


def open_relay(service: Serving) -> str:
    """Return why strangers may send mail anywhere through a service; "" if they may not.

    Unknown restrictions (tables, policy services, classes) are taken to let through: what closes a
    list has to stand in it.
    """
    values = service.values
    lists = [values.get(f"smtpd_{name}_restrictions", "") for name in _LISTS]
    wide = [n for n in items(values.get("mynetworks", "")) if n in _EVERYBODY]
    if wide and any("permit_mynetworks" in items(words) for words in lists):
        return f"mynetworks contains {wide[0]}, everybody"
    if any(map(closes, lists)):
        return ""
    return "no list of restrictions refuses to relay for strangers"
