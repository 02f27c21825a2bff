"""What postqueue(1) and postcat(1) print of messages in the queue. Pure, owns no state.

Read off Postfix's source, postqueue/showq_compat.c and postcat/postcat.c, versions 2.7 to
3.11. What strangers wrote stands behind the names of its fields, so only the first field of each
name counts.
"""

import re
from typing import NamedTuple

from throttled.parse.client import address_only
from throttled.parse.message import ID

#: `ID[*!#]  SIZE Sun Nov 29 12:00:52  SENDER`: * active, ! on hold, # forced to expire (3.5).
_LISTED = re.compile(rf"({ID})[*!#]? +[0-9]+ [A-Z][a-z]{{2}} [A-Z][a-z]{{2}} .{{11}} +(.*)")
_FIELD = re.compile(r"(?:named_attribute: (sasl_username|client_address)=|(sender): )(.*)")
_NULL = "MAILER-DAEMON"


class Queued(NamedTuple):
    """Who handed a message to Postfix."""

    login: str = ""
    client: str = ""  # address; "" of sendmail(1)
    sender: str = ""  # "" = a bounce


def listed(text: str) -> list[str]:
    """Return the queue ids in the output of `postqueue -p`, without those of bounces."""
    found = map(_LISTED.fullmatch, text.splitlines())
    return [match[1] for match in found if match is not None and match[2] != _NULL]


def read(text: str) -> Queued:
    """Read the output of `postcat -e -q ID`."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        match = _FIELD.fullmatch(line)
        if match is not None:
            fields.setdefault(match[1] or match[2], match[3])
    client = address_only(fields.get("client_address", ""))
    return Queued(fields.get("sasl_username", ""), client, fields.get("sender", ""))
