"""How one Postfix instance is configured, as far as its limits go. Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

from throttled.maincf.parameters import PARAMETERS
from throttled.maincf.values import number

_VERSION = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?")
#: The first patch levels whose smtpd_forbid_bare_newline knows more than yes and no.
_NORMALIZE = {(3, 5): 24, (3, 6): 14, (3, 7): 10, (3, 8): 5}

#: Parameters that are no limits, and decide what limits mean.
CONTEXT = (
    "mail_version",
    "mynetworks",
    "queue_directory",
    "relay_domains",
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_recipient_restrictions",
    "smtpd_sender_restrictions",
    "virtual_mailbox_domains",
    "virtual_transport",
)


class Serving(Struct, frozen=True):
    """One service that takes SMTP from the network, with the values that count there."""

    name: str  # as in master.cf: smtp/inet
    values: Mapping[str, str]


class State(Struct, frozen=True):
    """One instance."""

    directory: str
    #: Of `TABLE` and `CONTEXT`, without those that this version does not have; `$` expanded.
    values: Mapping[str, str]
    stressed: Mapping[str, str]  # … while all smtpd processes are busy (postconf(5), stress)
    defaults: Mapping[str, str]
    written: Mapping[str, str]  # those that main.cf sets, as it is written there
    services: tuple[Serving, ...] = ()
    name: str = ""  # multi_instance_name
    queue_free: int | None = None  # bytes free where the queue is

    @property
    def version(self) -> tuple[int, int, int]:
        """Postfix's version; (0, 0, 0) where it is not understood."""
        match = _VERSION.match(self.values.get("mail_version", ""))
        major, minor, patch = match.groups(default="0") if match else ("0", "0", "0")
        return int(major), int(minor), int(patch)

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words that a parameter may be in this version."""
        if name == "smtpd_forbid_bare_newline":
            major, minor, patch = self.version
            if (major, minor) < (3, 9) and patch < _NORMALIZE.get((major, minor), 1 << 30):
                return ("yes", "no")
            if (major, minor) < (3, 9):  # 3.7.11: note is "bad parameter value"
                return ("yes", "no", "normalize", "reject")
        return PARAMETERS[name].words

    def number(self, name: str) -> int | None:
        """Return a value as a number, or None where it is none or not there."""
        return number(PARAMETERS[name].kind, self.values.get(name, ""))

    def on(self, name: str) -> bool:
        """Return whether a switch is on."""
        return self.values.get(name, "") not in ("", "no")


def items(value: str) -> list[str]:
    """Return the words of a list."""
    return [word for word in re.split(r"[\s,]+", value) if word]
