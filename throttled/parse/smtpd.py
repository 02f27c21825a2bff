"""The lines of smtpd(8) that are events. Pure.

Read off Postfix's source (src/smtpd), versions 2.3 to 3.12. Adding a line is one entry here and
its samples in tests/samples.

Owns two bounded caches: of the counters in `disconnect` lines, and of what failed logins say: a
dictionary of user names comes from a thousand places.
"""

import re
from functools import lru_cache

from throttled.model import Kind, Message
from throttled.parse.client import client
from throttled.parse.message import ID
from throttled.parse.reply import milter, reject
from throttled.parse.rules import FIELDS, NOBODY, UNMATCHED, Detail, Matched, Rule, Table

_COUNTER = re.compile(r"(?<![^ ])([a-z_]{1,20})=([0-9]{1,9})(?:/([0-9]{1,9}))?(?= |\Z)")
_SASL = re.compile(r"[\w-]{1,20} authentication (?:(aborted)(?=, |\Z)|failed: ?)", re.ASCII)

#: Replies that blame our own authentication server (xsasl_dovecot_server.c; Cyrus' errstring; what
#: Dovecot sends as `reason=`).
_OUR_ERROR = (
    "Connection lost to authentication server",
    "Can't connect to authentication server",
    "Authentication backend error",
    "Temporary authentication failure",
    "Temporary internal failure",
    "Internal authentication failure",
    "generic failure",
    "no memory available",
    "remote authentication server unavailable",
    "transient failure",
    "SASL library is not initialized",
)


@lru_cache(maxsize=4_096)
def _counters(text: str) -> Detail:
    """Read `ehlo=1 auth=0/1 commands=1/2 notes=bare_lf` (since Postfix 3.0; notes later).

    Events with the same counters share one dict.
    """
    commands = {
        command: (int(accepted), int(total or accepted))
        for command, accepted, total in _COUNTER.findall(text)
    }
    return Detail(text.partition(" notes=")[2], commands=commands or None)


@lru_cache(maxsize=4_096)
def _sasl(text: str) -> Detail:
    """Read `LOGIN authentication failed: REASON[, sasl_username=USER]`.

    The mechanism is the client's to write, and may hold all of this sentence. So what excuses the
    client must stand where Postfix puts it, and the sentence must not end a second time.
    """
    match = _SASL.match(text)
    rest = "" if match is None else text[match.end() :]
    if match is None or " authentication aborted" in rest or " authentication failed: " in rest:
        return Detail(text)
    reply, _, user = rest.partition(", sasl_username=")
    if user == "(unavailable)":
        user = ""
    if match[1]:
        return Detail(reason="aborted", user=user)
    return Detail(reply, "", "", 0, "temporary" if reply.startswith(_OUR_ERROR) else "", user)


#: Written at the first accepted recipient. `sasl_sender` comes only with a login (smtpd.c), so what
#: stands right behind the client, or the login's method, is Postfix's or a content filter's.
_QUEUED = re.compile(
    rf"(?:NOQUEUE|(?P<id>{ID})): client={FIELDS['client']}"
    rf"(?:, sasl_method=[\w-]{{1,40}}, sasl_username=(?P<user>.*)"
    rf"|, orig_queue_id=(?P<previous>{ID})(?=,|\Z))?",
    re.DOTALL,
)
_AFTER_USER = re.compile(", sasl_sender=|, orig_queue_id=|, orig_client=")


#: What a filter before the queue answered (since 2.7), in its own words; the sender's come after.
_PROXIED = re.compile(
    rf"proxy-accept: END-OF-MESSAGE: 250 [^;<>]{{0,300}} queued as (?P<id>{ID})\)*; from=<"
)


class _Smtpd(Table):
    """The entries, and two kinds of lines about messages.

    `QUEUEID: client=CLIENT` says two things at once. With a filter before the queue there is no
    queue id yet, and `proxy-accept` says which one the message got behind it.
    """

    def other(self, body: str) -> Matched:
        """Match a line of another form than `WHAT from CLIENT REST`."""
        if body.startswith("warning: "):  # most of them
            return super().other(body)
        if body.startswith("proxy-accept: "):
            proxied = _PROXIED.match(body)
            if proxied is None:
                return UNMATCHED
            message = Message("", following=proxied["id"])
            return "proxied", "", "", NOBODY, Detail(message=message)
        match = _QUEUED.match(body)
        if match is None:
            return super().other(body)
        queue_id, peer, user, previous = match.group("id", "client", "user", "previous")
        message = Message(queue_id or "", previous=previous or "")
        kind: Kind = "accepted" if user is None else "login"
        name = _AFTER_USER.split(user, maxsplit=1)[0] if user else ""
        return kind, "", "", client(peer), Detail(user=name, message=message)


TABLE = _Smtpd(
    (
        Rule("connect", "connect from <client>"),
        Rule("disconnect", "disconnect from <client> <text>", detail=_counters),
        Rule("lost_connection", "lost connection after <where> from <client>"),
        Rule("timeout", "timeout after <where> from <client>"),
        Rule("too_many_errors", "too many errors after <where> from <client>"),
        Rule("pipelining", "improper command pipelining after <where> from <client>: <text>"),
        Rule("non_smtp_command", "warning: non-SMTP command from <client>: <text>"),
        Rule(
            "bad_address",
            "warning: Illegal address syntax from <client> in <where> command<said>",
        ),
        Rule("reject", "<id>: reject: <where> from <client>: <text>", detail=reject),
        Rule("reject", "<id>: milter-reject: <where> from <client>: <text>", detail=milter),
        # The queue of a destination that is not ours to flush; its name holds no blank (smtpd.c).
        Rule("reject", "warning: reject: ETRN <value>... from <client>", "ETRN"),
        Rule("auth_failure", "warning: <client>: SASL <text>", "AUTH", _sasl),
        Rule("tls_failure", "SSL_accept error from <client>: <text>", "STARTTLS"),
        Rule("tls_failure", "<id>: abort: TLS from <client>: <text>", "STARTTLS"),
        # Postfix's own limits (anvil); `text` is the number that was too high.
        Rule(
            "concurrency_limit",
            "warning: Connection concurrency limit exceeded: <value> from <client>"
            " for service <service>",
        ),
        *(
            Rule(
                "rate_limit",
                f"warning: {what} rate limit exceeded: <value> from <client> for service <service>",
                where,
            )
            for what, where in (
                ("Connection", "connection"),
                ("Message delivery request", "message"),
                ("Recipient address", "recipient"),
                ("AUTH command", "auth"),
                ("New TLS session", "newtls"),
            )
        ),
        *(
            Rule(
                "rate_limit",
                f"warning: Refusing {what} request from <client> for service <service>",
                "starttls",
            )
            for what in ("STARTTLS", "TLS service")
        ),
    )
)
