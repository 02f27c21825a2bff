"""The client as Postfix writes it: `name[address]:port`; postscreen leaves out the name. Pure.

The name passed Postfix's `valid_hostname()`, so it holds no bracket, space or colon; IPv6 stands
bare inside the brackets; the port is there with `smtpd_client_port_logging=yes`
(smtpd/smtpd.h). A client that hung up too early is `unknown[unknown]`: no address, no match.

Owns one bounded cache, which evicts the least recently used client.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from throttled.address import canonical, subject

_CLIENT = re.compile(r"([A-Za-z0-9._-]{0,255})\[([0-9A-Fa-f.:]{2,45})\](?::([0-9]{1,5}))?:?")


class Client(NamedTuple):
    """The client that a line names."""

    address: str  # canonical; "" where the line names none
    name: str  # "" where the client has none that is forward-confirmed
    port: int  # 0 where none is written


@lru_cache(maxsize=32_768)
def client(text: str) -> Client | None:
    """Read `name[address]:port`; a colon at the end is passed over."""
    match = _CLIENT.fullmatch(text)
    if match is None:
        return None
    name, address, port = match.groups()
    try:
        return Client(canonical(address), "" if name == "unknown" else name, int(port or 0))
    except ValueError:
        return None


def address_only(text: str) -> str:
    """Return the canonical text of an address, or ""."""
    try:
        return canonical(text)
    except ValueError:
        return ""


def address_or_network(text: str) -> str:
    """Return the canonical text of an address or a network (`2001:db8::/84`), or ""."""
    try:
        return subject(text)
    except ValueError:
        return ""
