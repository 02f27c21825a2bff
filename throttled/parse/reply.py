"""Why Postfix refused: from an SMTP reply, `CODE DSN TEXT`, to a `Reason`. Pure.

The code and the DSN (enhanced status, RFC 3463) stand in front of all that the client wrote, and
decide wherever they can. Texts are looked at only for 5.7.1 and for replies without DSN. There
`<...>` holds what the client sent and may imitate any text, so the graver reason wins: a client
can talk itself into a graver reason, never out of one.

Codes and texts: src/smtpd/smtpd_check.c, src/postscreen/postscreen_smtpd.c.
"""

import re

from throttled.model import Reason
from throttled.parse.rules import Detail

_REPLY = re.compile(r"([245][0-9]{2}) (?:[245]\.([0-9]{1,3}\.[0-9]{1,3}) )?")
_TEMPORARY = re.compile(r"4[0-9]{2} |4\.[0-9]{1,3}\.[0-9]{1,3} ")

_BY_DSN: dict[str, Reason] = {  # subject and detail, without the class
    "1.0": "access",  # a sender at one of our domains that does not exist
    "1.1": "unknown_user",
    "1.3": "syntax",  # bad destination address syntax
    "3.2": "access",  # postscreen: denylisted
    "5.0": "protocol",  # improper use of pipelining
    "5.1": "protocol",  # postscreen: protocol error
    "5.2": "syntax",  # not fully qualified, invalid name
    "5.4": "syntax",  # invalid arguments
    **dict.fromkeys((f"7.{detail}" for detail in range(20, 28)), "content"),  # DKIM, SPF, PTR, …
}
_BY_SUBJECT: dict[str, Reason] = {
    "1": "content",  # domain not found, takes no mail, sender not verified
    "2": "content",  # mailbox full or disabled
    "3": "content",  # message too big
    "5": "content",  # too many recipients, multi-recipient bounce
    "6": "content",
    "7": "access",
}
#: Replies that begin with none of the client's words.
_BY_START: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile("Client host rejected: cannot find your "), "content"),
    (re.compile(r"(?:Service unavailable; )?(?:(?:Unverified )?Client host|client) \["), "dnsbl"),
    (re.compile(r"(?:Service unavailable; )?Helo command \["), "dnsbl"),
    (re.compile("Service unavailable; "), "content"),  # a listed sender or recipient domain
)
_BY_TEXT: tuple[tuple[str, Reason], ...] = (
    (">: Relay access denied", "relay"),
    (">: Recipient address rejected: User unknown", "unknown_user"),
    (" rejected: need fully-qualified ", "syntax"),
    (" rejected: Invalid name", "syntax"),
    (" rejected: ", "access"),
)
#: Replies that are logged without code.
_BARE: tuple[tuple[str, Reason], ...] = (
    ("bare <LF> received", "protocol"),
    ("too many connections", "temporary"),  # postscreen: from this client
    ("all server ports busy", "temporary"),
    ("all screening ports busy", "temporary"),
)


def reject(text: str) -> Detail:
    """Read what follows `reject: WHERE from CLIENT: `."""
    match = _REPLY.match(text)
    if match is None:
        return Detail(text, reason=_first(_BARE, text))
    code, dsn = match.groups()
    return Detail(text, "", "", int(code), _reason(code, dsn, text[match.end() :]))


def milter(text: str) -> Detail:
    """Read what follows `milter-reject: WHERE from CLIENT: `; it may lack the code."""
    match = _REPLY.match(text)
    reason: Reason = "temporary" if _TEMPORARY.match(text) else "milter"
    return Detail(text, code=int(match[1]) if match else 0, reason=reason)


def _reason(code: str, dsn: str | None, text: str) -> Reason:
    if code[0] == "4":
        return "temporary"
    if dsn is not None and dsn != "7.1":
        return _BY_DSN.get(dsn) or _BY_SUBJECT.get(dsn.partition(".")[0], "")
    if not text.startswith("<"):
        for pattern, reason in _BY_START:
            if pattern.match(text):
                return reason
    return _first(_BY_TEXT, text)


def _first(table: tuple[tuple[str, Reason], ...], text: str) -> Reason:
    return next((reason for part, reason in table if part in text), "")
