"""The canonical form of what an operator wrote in a request. Pure, owns no state."""

import re

from msgspec.structs import replace

from throttled import address
from throttled import subjects as named
from throttled.control.bulk import UnbanMany
from throttled.control.requests import (
    Allow,
    Audit,
    Ban,
    Disallow,
    Entered,
    Explain,
    Import,
    List,
    Request,
    Resolve,
    Throttle,
    Unban,
)
from throttled.errors import RefusedError, UsageError
from throttled.printable import blanked

#: Networks shorter than this are refused unless the operator insists (by IP version).
FLOOR = {4: 16, 6: 32}

#: A host-name suffix: at least two labels, since `.com` would protect half the world.
_SUFFIX = re.compile(r"\.?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}\Z")


def canonical(request: Request) -> Request:
    """Return the request with its values canonical.

    Raises:
        UsageError: a value is not what it should be.
        RefusedError: a network wider than the floor without `force`.
    """
    match request:
        case Ban() | Throttle():
            request = replace(request, subject=subject(request.subject), why=_one_line(request.why))
            refuse_wide(request.subject, force=request.force)
        case Allow():
            request = replace(request, what=allowable(request.what), note=_one_line(request.note))
            refuse_wide(request.what, force=request.force)
        case Resolve():
            request = replace(
                request,
                what=host_name(request.what),
                addresses=[_address(each) for each in request.addresses],
                note=_one_line(request.note),
            )
        case UnbanMany():
            within = request.within and subject(request.within)
            subjects = [subject(each) for each in request.subjects]
            request = replace(request, subjects=subjects, within=within)
        case Explain() | Unban():
            request = replace(request, subject=subject(request.subject))
        case Disallow():
            request = replace(request, what=allowable(request.what))
        case Import():
            entries = [entered(entry, force=request.force) for entry in request.entries]
            request = replace(request, entries=entries)
        case Audit(subject=str() as asked):
            request = replace(request, subject=allowable(asked))
        case List(within=str() as within):
            request = replace(request, within=subject(within))
        case _:
            pass
    return request


def subject(text: str) -> str:
    """Return the canonical text of a subject that an operator wrote, as 192.0.2.7 or account:alice.

    Raises:
        UsageError: it is none.
    """
    try:
        if address.is_named(text.strip().lower()):
            return named.read(text)
        return address.subject(text.strip())
    except ValueError as error:
        hint = (
            "write 192.0.2.7, 192.0.2.0/24, 2001:db8::/64, account:alice or domain:example.com; "
            "host names, and parts of names, are looked up by: throttled find"
        )
        raise UsageError(str(error), hint) from error


def allowable(text: str) -> str:
    """Return the canonical text of an address, a network or a host-name suffix.

    Raises:
        UsageError: it is none of these.
    """
    name = text.strip().lower()
    if _SUFFIX.match(name) and not name.replace(".", "").isdigit():
        return name
    try:
        return subject(text)
    except UsageError as error:
        hint = "write 192.0.2.7, 192.0.2.0/24, 2001:db8::/64 or a host-name suffix: .example.com"
        raise UsageError(f"not an address, network or host name: {text!r}", hint) from error


def host_name(text: str) -> str:
    """Return the canonical text of a host name that can be resolved.

    Raises:
        UsageError: it is an address, a suffix, or none of these.
    """
    name = allowable(text)
    if address.is_subject(name) or address.is_named(name) or name.startswith("."):
        raise UsageError(f"not the name of a host: {text!r}", "write for example mail.example.com")
    return name


def entered(entry: Entered, *, force: bool) -> Entered:
    """Return an entry of a list canonical.

    Raises:
        UsageError: it names nobody.
        RefusedError: a network wider than the floor, without `force`.
    """
    name = allowable(entry.subject) if entry.action == "allow" else subject(entry.subject)
    refuse_wide(name, force=force)
    return replace(entry, subject=name, why=_one_line(entry.why))


def refuse_wide(canonical: str, *, force: bool) -> None:
    """Refuse a network shorter than the floor, unless the operator insists.

    Raises:
        RefusedError: the network is shorter than /16 (IPv4) or /32 (IPv6).
    """
    if force or not address.is_network(canonical):
        return
    floor = FLOOR[address.version(canonical)]
    if address.parse(canonical)[1] < floor:
        raise RefusedError(
            f"{canonical} is wider than /{floor}", "use --force for a network this wide"
        )


def _address(text: str) -> str:
    found = subject(text)
    if address.is_network(found):
        raise UsageError(f"not an address: {text!r}")
    return found


def _one_line(text: str) -> str:
    """Return text that can stand in a log: no control characters, no line ends."""
    return blanked(text).strip()
