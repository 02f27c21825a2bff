"""Values that Postfix takes without a word and that stop mail, or open the host. Pure."""

from collections.abc import Iterable, Iterator

from throttled.maincf.parameters import PARAMETERS, RATES
from throttled.maincf.state import State, items
from throttled.maincf.values import number, wrong

#: Restrictions that end the question who may relay (postconf(5), smtpd_relay_restrictions).
CLOSING = ("reject", "defer", "reject_unauth_destination", "defer_unauth_destination")
#: Others that need no argument. A word that smtpd does not know is found only when a recipient is
#: checked: `451 4.3.5 Server configuration error` for each (Postfix 3.7.11).
_PLAIN = (
    *CLOSING,
    "permit",
    "permit_auth_destination",
    "permit_inet_interfaces",
    "permit_mx_backup",
    "permit_mynetworks",
    "permit_sasl_authenticated",
    "permit_tls_all_clientcerts",
    "permit_tls_clientcerts",
    "warn_if_reject",
)
_EXCEPTIONS = "smtpd_client_event_limit_exceptions"


def refusals(state: State, names: Iterable[str]) -> Iterator[str]:
    """Yield why an instance must not be configured like this.

    Args:
        state: as it would be.
        names: parameters that are to change: what was wrong before is left to `findings`.
    """
    changed = set(names)
    for name in sorted(changed):
        if why := _value(state, name):
            yield f"{name} = {state.values.get(name, '')}: {why}"
    if not any(_value(state, name) for name in changed):
        yield from _together(state, changed)


def _value(state: State, name: str) -> str:
    """Return what is wrong with one value; "" if nothing is."""
    parameter = PARAMETERS[name]
    text, stressed = state.values.get(name, ""), state.stressed.get(name, "")
    if bad := wrong(parameter.kind, text, state.words(name)):
        return bad
    if bad := wrong(parameter.kind, stressed, state.words(name)):
        return f"under stress it is {stressed}, and {bad}"
    value, busy = number(parameter.kind, text), number(parameter.kind, stressed)
    if value is None or (value == 0 and parameter.off):
        return ""
    if not parameter.low <= value <= parameter.high:
        bound = "less" if value < parameter.low else "more"
        limit = parameter.low if value < parameter.low else parameter.high
        return f"{bound} than {limit}" + (f": {parameter.why}" if parameter.why else "")
    # Postfix itself is stricter than nothing: 0 where at least 1 is needed ends smtpd.
    if busy is not None and busy < min(parameter.low, 1):
        return f"under stress it is {stressed}, less than {min(parameter.low, 1)}"
    return ""


def _together(state: State, changed: set[str]) -> Iterator[str]:
    """Yield what is wrong with values that are right each by itself."""
    yield from _sizes(state, changed)
    if changed & {"smtpd_soft_error_limit", "smtpd_hard_error_limit"}:
        soft, hard = (state.number(f"smtpd_{which}_error_limit") for which in ("soft", "hard"))
        if soft is not None and hard is not None and soft > hard:
            yield f"smtpd_soft_error_limit {soft} is above smtpd_hard_error_limit {hard}: no effect"
    if changed & {_EXCEPTIONS, *RATES} and (limited := without_exceptions(state)):
        yield (
            f"{limited} with {_EXCEPTIONS} = {state.values.get(_EXCEPTIONS, '')}: that limits "
            "webmail and your own hosts too; it has to contain $mynetworks"
        )
    free = state.queue_free
    if (
        "queue_minfree" in changed
        and free is not None
        and (state.number("queue_minfree") or 0) > free
    ):
        yield f"queue_minfree exceeds the free space ({free} bytes): all mail would be refused"
    if "smtpd_relay_restrictions" in changed:
        yield from _relay(state.values.get("smtpd_relay_restrictions", ""))


def _relay(restrictions: str) -> Iterator[str]:
    """Yield what is wrong with smtpd_relay_restrictions."""
    relay = "smtpd_relay_restrictions"
    if not closes(restrictions):
        yield f"{relay} without any of {', '.join(CLOSING)}: an open relay, or no mail at all"
    if unknown := next((word for word in items(restrictions) if word not in _PLAIN), ""):
        yield f"{relay}: {unknown} is not known here; mistyped, it refuses all mail with 451"


def _sizes(state: State, changed: set[str]) -> Iterator[str]:
    """Yield mailbox limits below the message limit: local(8) and virtual(8) end at once."""
    message = state.number("message_size_limit")
    for name in ("mailbox_size_limit", "virtual_mailbox_limit"):
        box = state.number(name)
        if not changed & {name, "message_size_limit"} or not box or message is None:
            continue
        if name == "virtual_mailbox_limit" and not has_virtual(state):
            continue
        if box < message or message == 0:
            yield (
                f"message_size_limit {message} is above {name} {box}: mail would be accepted and "
                f"never delivered; set {name} too, to at least {message} or 0"
            )


def has_virtual(state: State) -> bool:
    """Return whether mail to some domain goes to virtual(8)."""
    values = state.values
    transport = values.get("virtual_transport", "virtual").partition(":")[0]
    return bool(values.get("virtual_mailbox_domains")) and transport == "virtual"


def without_exceptions(state: State) -> str:
    """Return the first rate limit that applies to the operator's own hosts too; "" if none does."""
    exceptions = set(items(state.values.get(_EXCEPTIONS, "")))
    if set(items(state.values.get("mynetworks", ""))) <= exceptions:
        return ""
    return next((f"{name} = {state.values[name]}" for name in RATES if state.number(name)), "")


def closes(restrictions: str) -> bool:
    """Return whether a list of restrictions refuses to relay for strangers."""
    words = items(restrictions)
    for before, word in zip(["", *words], words, strict=False):
        if before == "warn_if_reject":
            continue
        if word in CLOSING:
            return True
        if word == "permit":
            return False
    return False
