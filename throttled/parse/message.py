"""What happens to a message in Postfix's queue, as the daemons behind smtpd(8) log it. Pure.

Read off Postfix's source, versions 2.0 to 3.12: pickup/pickup.c, qmgr/qmgr_active.c,
global/log_adhoc.c (every delivery agent, and bounce, cleanup and qmgr in their place),
postsuper/postsuper.c, cleanup/cleanup_message.c. smtpd's `client=` line is read in `smtpd.py`.

All lines begin with the queue id, and what follows it decides, whichever daemon wrote it. Addresses
and status texts are written by strangers:

* A sender can contain any of the text after it, so `from=<…>` is read from the right end.
* A recipient stands before Postfix's own words and the text of a remote server behind them. So a
  line whose recipient holds an angle bracket, or whose text repeats `status=` of a delivery, is
  no event: it is ambiguous. (One that imitates `orig_to` is read as two addresses.)
* `queued as ID` is the text of a remote server; callers of `following` must trust that server.

Owns no state.
"""

import re

from throttled.model import Event, Kind, Message
from throttled.parse.header import Origin
from throttled.parse.rules import TEXT_LENGTH

#: The daemons whose lines are read here: the last component of their tags.
PROCESSES = (
    "pickup",
    "cleanup",
    "qmgr",
    "nqmgr",  # Postfix 2.0
    "oqmgr",
    "smtp",
    "lmtp",
    "local",
    "virtual",
    "pipe",
    "error",
    "retry",
    "discard",
    "bounce",
    "postsuper",
)

ID = r"(?:[0-9A-F]{5,20}|[0-9A-Za-z]{10,30})"
_ID = re.compile(ID)
#: `delays` since 2.3, and `dsn`; `conn_use` where a connection was used before.
_DELIVERY = re.compile(
    r"to=<([^<>]{0,1000})>, (?:orig_to=<([^<>]{0,1000})>, )?relay=([^\s,<>]{1,300}), "
    r"(?:conn_use=[0-9]{1,9}, )?delay=[0-9.e+-]{1,20}, (?:delays=[0-9./e+-]{1,80}, )?"
    r"(?:dsn=([245]\.[0-9]{1,3}\.[0-9]{1,3}), )?status=([A-Za-z-]{1,20}) \("
)
#: A second delivery inside the text of one.
_AGAIN = re.compile(r", status=[A-Za-z-]{1,20} \(")
_RELAY = re.compile(r"[^\[]*\[([0-9A-Fa-f.:]{2,45})\]")
_SAID = re.compile(r"host [^\s\[]{1,255}\[[^\s\]]{1,200}\] said: ([2-5][0-9]{2})(?![0-9])")
_QUEUED_AS = re.compile(rf" queued as ({ID})\)*\Z")
_ACTIVE = re.compile(r", size=([0-9]{1,19}), nrcpt=([0-9]{1,9}) \(queue active\)")
#: Since 3.5 of an operator's `postsuper -e` too.
_EXPIRED = re.compile(r", status=(?:force-)?expired, returned to sender")
#: `orig_id` of a message that `postsuper -r` queued again: the uid is then the queue file's owner.
_PICKUP = re.compile(rf"uid=([0-9]{{1,10}}) from=<(.*)>(?: orig_id=({ID}))?", re.DOTALL)
_WORDS: dict[str, Kind] = {
    "removed": "removed",
    "requeued": "requeued",
    "placed on hold": "held",
}
_HOLDS = ("hold: ", "milter-hold: ")  # cleanup(8): header_checks, a Milter's quarantine


def read(body: str, origin: Origin, time: float) -> Event | None:
    """Return the event of a body, or None."""
    queue_id, _, rest = body.partition(": ")
    if not rest or _ID.fullmatch(queue_id) is None:
        return None
    if rest.startswith("to=<"):
        return _delivery(queue_id, rest, origin, time)
    if rest.startswith("from=<"):
        return _from(queue_id, rest, origin, time)
    if rest.startswith("uid="):
        return _pickup(queue_id, rest, origin, time)
    kind = _WORDS.get(rest)
    if kind is None and rest.startswith(_HOLDS):
        kind = "held"
    return None if kind is None else _event(kind, Message(queue_id), origin, time)


def _event(
    kind: Kind, message: Message, origin: Origin, time: float, said: tuple[int, str] = (0, "")
) -> Event:
    """Make an event; `said` is the reply code and the status text of a delivery."""
    host, instance, process, pid = origin
    code, text = said
    return Event(
        kind,
        "",
        process,
        instance,
        pid,
        time,
        host,
        code=code,
        text=text[:TEXT_LENGTH],
        message=message,
    )


def _delivery(queue_id: str, rest: str, origin: Origin, time: float) -> Event | None:
    """Read `to=<R>, relay=X, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (TEXT)`."""
    match = _DELIVERY.match(rest)
    if match is None:
        return None
    text = rest[match.end() :]
    if _AGAIN.search(text):
        return None
    recipient, original, relay, dsn, status = match.groups(default="")
    code, following = 0, ""
    if status == "sent":
        queued = _QUEUED_AS.search(text[-60:])
        following = queued[1] if queued else ""
    else:
        said = _SAID.match(text)
        code = int(said[1]) if said else 0
    address = _RELAY.match(relay)
    message = Message(
        queue_id,
        following=following,
        recipient=recipient,
        original=original,
        relay=address[1] if address else relay,
        dsn=dsn,
        status=status.lower(),
    )
    return _event("delivery", message, origin, time, (code, text.removesuffix(")")))


def _from(queue_id: str, rest: str, origin: Origin, time: float) -> Event | None:
    """Read qmgr's `from=<S>, size=N, nrcpt=N (queue active)` or `from=<S>, status=expired, …`."""
    sender, end, what = rest[6:].rpartition(">")
    if not end:
        return None
    active = _ACTIVE.fullmatch(what)
    if active is not None:
        size, recipients = map(int, active.groups())
        message = Message(queue_id, sender=sender, size=size, recipients=recipients)
        return _event("active", message, origin, time)
    if _EXPIRED.fullmatch(what) is not None:
        return _event("expired", Message(queue_id, sender=sender), origin, time)
    return None


def _pickup(queue_id: str, rest: str, origin: Origin, time: float) -> Event | None:
    """Read `uid=N from=<S>`, of mail that a local program handed to sendmail(1)."""
    match = _PICKUP.fullmatch(rest)
    if match is None:
        return None
    uid, sender, previous = match.groups(default="")
    message = Message(queue_id, previous=previous, sender=sender, uid=int(uid))
    return _event("queued", message, origin, time)
