"""The client as Postfix writes it: `name[address]:port`, and postscreen's `[address]:port`. Pure.

The name passed Postfix's `valid_hostname()`, so it holds no bracket, space or colon; IPv6 stands
bare inside the brackets; the port is there with `smtpd_client_port_logging=yes`
(smtpd/smtpd.h). A client that hung up too early is `unknown[unknown]`: no address, no match.

Owns one bounded cache of canonical addresses; it forgets the least recently used.
"""

from functools import lru_cache

from throttled.address import canonical, subject

_ADDRESS = r"\[(?P<address>[0-9A-Fa-f.:]{2,45})\](?::(?P<port>[0-9]{1,5}))?"

#: smtpd's form. A group each for name, address and port.
CLIENT = r"(?P<name>[A-Za-z0-9._-]{1,255})" + _ADDRESS

#: postscreen's form, without a name.
PEER = _ADDRESS


@lru_cache(maxsize=32_768)
def address(text: str) -> str:
    """Return the canonical text of an address, or "" where the text is none."""
    try:
        return canonical(text)
    except ValueError:
        return ""


def address_or_network(text: str) -> str:
    """Return canonical text as `address` does, of a network (`2001:db8::/84`) too."""
    try:
        return subject(text)
    except ValueError:
        return ""
