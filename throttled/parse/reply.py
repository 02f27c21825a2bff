"""Why Postfix refused: from an SMTP reply, `CODE DSN TEXT`, to a `Reason`. Pure.

The DSN (enhanced status, RFC 3463) stands in front of all that the client wrote, and decides
wherever it can. Texts decide for x.7.1, for replies without DSN, and whether a 4xx is temporary:
defer_unauth_destination, soft_bounce, the *_reject_code parameters and unverified recipients turn
permanent refusals into 4xx and leave the text alone (smtpd_check_reject in smtpd_check.c). There
`<...>` holds what the client sent and may imitate any text, so the graver reason wins: a client
can talk itself into a graver reason, never out of one.

Codes and texts: src/smtpd/smtpd_check.c, src/postscreen/postscreen_smtpd.c (2.3 to 3.12).
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
}
_BY_SUBJECT: dict[str, Reason] = {
    "1": "content",  # domain not found, takes no mail, sender not verified
    "2": "content",  # mailbox full or disabled
    "3": "content",  # message too big
    "5": "content",  # too many recipients, multi-recipient bounce
    "6": "content",
    "7": "content",  # DKIM, SPF, PTR, a policy service
}
#: Replies that begin with none of the client's words.
_CONTENT_START = re.compile("Client host rejected: cannot find your |Service unavailable; ")
_LISTED_START = re.compile(
    r"(?:Service unavailable; )?(?:(?:Unverified )?Client host|client|Helo command) \["
)
#: What is permanent whatever the reply code. What stands behind an operator's access table may be
#: a policy service or SPF as well, unless the text is access(5)'s own.
_PERMANENT: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(">: (?:Recipient address rejected: )?Relay access denied"), "relay"),
    (re.compile(">?: Recipient address rejected: User unknown"), "unknown_user"),
    # unverified_recipient_reject_code = 450, its default: what the next server said is permanent.
    (
        re.compile(
            ">: Recipient address rejected: (?:undeliverable address: |unverified address: "
            r"(?:unknown user: |host [^ ]{1,300} said: 5[0-9]{2}[ -]))"
        ),
        "unknown_user",
    ),
    (re.compile(" rejected: (?:need fully-qualified |Invalid name|invalid ip address)"), "syntax"),
    (re.compile("Improper use of SMTP command pipelining|Protocol error;"), "protocol"),
    (re.compile(r" rejected: Access denied(?:;|\Z)"), "access"),
    (re.compile(">: Sender address rejected: User unknown"), "access"),
)
#: What the next server said of a recipient that is no unknown user: mailbox full or disabled, its
#: own trouble, policy.
_NEXT_SERVER = re.compile(
    r"<[^<>\s]{0,320}>: Recipient address rejected: (?:undeliverable|unverified) address: "
    r"host [^ ]{1,300} said: (?:552|5[0-9]{2}[ -]5\.[2367]\.)"
)
#: DSNs whose 4xx may be such a one.
_SOFTENED = frozenset({None, "7.1", "1.0", "1.1", "1.3", "5.0", "5.1", "5.2"})
#: What a DNS list answers about the server that asks, in place of what is listed: Spamhaus
#: (127.255.255.0/24), SURBL, URIBL, Abusix, dnswl; and lists that have been closed.
_LIST_ERROR = re.compile(
    r"\berror:|\breturnc/|open (?:dns )?resolver|public (?:dns|resolver)|typing error"
    r"|(?:excessive|too many|number of) (?:dns )?quer|quer(?:y|ies) (?:refused|limit|volume)"
    r"|\b(?:over|exceed(?:s|ed|ing)?) (?:the |your )?(?:free |daily )?(?:quota|volume|limit|quer)"
    r"|rate.?limit|not (?:authori[sz]ed|allowed|permitted|registered) to (?:query|use)"
    r"|(?:invalid|unknown|expired|missing) (?:[a-z]{1,20} )?key\b|your (?:dns|resolver)"
    r"|shut ?down|\bno longer (?:in |being )?(?:use|service|operat|avail|maint|support)"
    r"|\bdiscontinued|\bdecommission",
    re.IGNORECASE,
)
#: A TXT record has strings of at most 255 characters; what is longer takes its time to search.
_WHY = 512
#: A sender callout (Postfix's own come from double-bounce@, address_verify_sender) or a bounce.
_NULL_SENDER = re.compile(r"; from=<(?:double-bounce@[^<>\s]{0,255})?> to=<")
#: What Postfix writes last if the client has logged in (log_whatsup in smtpd_check.c). Before it
#: stands helo=, which holds none of `<> ;"` (NEUTER_CHARACTERS in smtpd.c).
_LOGGED_IN = re.compile(r" proto=E?SMTP(?: helo=<[^<> ]*>)? sasl_username=<([^<>]*)>\Z")
#: No logger cuts a line as short as this, so that a client's words would be the last.
_UNCUT = 600
#: Replies that are logged without code.
_BARE: tuple[tuple[str, Reason], ...] = (
    ("bare <LF> received", "protocol"),
    ("too many connections", "temporary"),  # postscreen: from this client
    ("all server ports busy", "temporary"),
    ("all screening ports busy", "temporary"),
)


def reject(text: str) -> Detail:
    """Read what follows `reject: WHERE from CLIENT: `; `user` is set if it has logged in."""
    user = ""
    if "sasl_username=" in text and len(text) < _UNCUT and (login := _LOGGED_IN.search(text)):
        user = login[1]
    match = _REPLY.match(text)
    if match is None:
        return Detail(text, reason=_bare(text), user=user)
    code, dsn = match.groups()
    reason = _reason(code, dsn, text[match.end() :])
    null = reason == "unknown_user" and _null_sender(text)
    return Detail(text, "", "", int(code), reason, user, null_sender=null)


def milter(text: str) -> Detail:
    """Read what follows `milter-reject: WHERE from CLIENT: `; it may lack the code."""
    match = _REPLY.match(text)
    reason: Reason = "temporary" if _TEMPORARY.match(text) else "milter"
    return Detail(text, code=int(match[1]) if match else 0, reason=reason)


def _reason(code: str, dsn: str | None, text: str) -> Reason:
    if dsn == "1.1" and _spared_by_next_server(text):
        return "content"
    if code[0] == "4":
        permanent = dsn in _SOFTENED and (_listed(text) or _permanent(text))
        return permanent or "temporary"
    if dsn is not None and dsn != "7.1":
        return _BY_DSN.get(dsn) or _BY_SUBJECT.get(dsn.partition(".")[0], "")
    if listed := _listed(text):
        return listed
    if _CONTENT_START.match(text):
        return "content"
    return _permanent(text) or ("content" if " rejected: " in text else "")


def _spared_by_next_server(text: str) -> bool:
    """Return whether the next server refused a recipient for what is no client's doing.

    A recipient that imitates its words stands in the line twice: in front, and as `to=<...>`.
    """
    if len(text) >= _UNCUT or text.count(" said: ") != 1:
        return False
    return _NEXT_SERVER.match(text) is not None


def _permanent(text: str) -> Reason:
    return next((reason for pattern, reason in _PERMANENT if pattern.search(text)), "")


def _listed(text: str) -> Reason:
    """Return why a client was refused for a DNS list, or ""; the list's words are no client's."""
    if not _LISTED_START.match(text):
        return ""
    said = text.partition(" blocked using ")[2].partition("; from=<")[0].partition("; proto=")[0]
    why = said.partition("; ")[2][:_WHY]
    return "temporary" if _LIST_ERROR.search(why) else "dnsbl"


def _null_sender(text: str) -> bool:
    """Return whether the sender is the null address; a client may write a second `; from=<`."""
    return text.count("; from=<") == 1 and _NULL_SENDER.search(text) is not None


def _bare(text: str) -> Reason:
    return next((reason for part, reason in _BARE if part in text), "")
