"""An abuse report about a client or a network, in X-ARF: for `throttled abuse`. Owns no state.

The mail is a multipart/report (RFC 6522) of type feedback-report (RFC 5965): text for people, the
fields of ARF with `Feedback-Type: xarf`, and the report itself as JSON (XARF v4, xarf.org:
`xarf-core.json` and the schemas of the types connection/login_attack, connection/ddos and
connection/reconnaissance). The log lines that counted are its evidence.
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

import msgspec
from msgspec import Struct

from throttled import __version__
from throttled.address import is_network
from throttled.errors import RefusedError, SourceError
from throttled.model import Decision
from throttled.printable import printable
from throttled.store.store import Store
from throttled.subjects import from_log
from throttled.tail.readback import lines_at

_VERSION = "4.0.0"
#: Log lines of one report, the latest.
LINES = 200
_LOGIN = "login_attack"
_SHOWN = 20  # addresses named in the text
#: `unknown[198.51.100.7]:51234`
_PORT = re.compile(r"\[[0-9A-Fa-f.:]+\]:(\d{1,5})\b")
_PORTS = {"mx": 25, "submission": 587}
#: Names of our own users do not leave this host: logins, the local parts of addresses (also what is
#: in quotes, or no address at all), and recipients without a domain.
_NAMES = (
    (re.compile(r"(sasl_username=).*"), r"\1[removed]"),
    (re.compile(r"(owned by user ).*?(?=; from=|$)"), r"\1[removed]"),
    (re.compile(r"<[^<>]*@"), "<[removed]@"),
    (re.compile(r"""(?:"[^"]*"|[^\s<>@\[\](),:;="']+)@"""), "[removed]@"),
    (re.compile(r"((?:from|to)=<)[^<>@]+(?=>)"), r"\1[removed]"),
    (re.compile(r"<[^<>@]+(?=>: (?:Recipient|Sender) address )"), "<[removed]"),
)


class Incident(Struct, frozen=True):
    """What a client or a network did."""

    subject: str
    decisions: list[Decision]  # the earliest first
    lines: list[str]  # of the log, as far as it still has them


class Sender(Struct, frozen=True):
    """Who reports."""

    host: str  # of the mail server
    contact: str  # mail address
    to: str = ""  # the network's abuse address


def collect(store: Store, subject: str, since: float, until: float) -> Incident:
    """Return what this host decided about a client or network by its log, between two times.

    Args:
        store: where it is stored.
        subject: the client or network.
        since: wall clock.
        until: wall clock.

    Raises:
        RefusedError: nothing.
        StoreError: it cannot be read.
    """
    found = [
        decision
        for decision in store.period(since, until).decisions(subject)
        if decision.action in {"throttle", "ban"} and decision.origin == "log"
    ]
    if not found:
        hint = (
            "manual decisions, and those of lists and other hosts, are no evidence; "
            "throttled explain shows what is known"
        )
        raise RefusedError(f"nothing of this host's log is stored about {subject}", hint)
    return Incident(subject, found, _lines(store, found))


def _lines(store: Store, decisions: Iterable[Decision]) -> list[str]:
    by_source: dict[int, set[int]] = {}
    for line in (line for decision in decisions for line in decision.lines):
        by_source.setdefault(line.source, set()).add(line.offset)
    texts: list[str] = []
    for source, offsets in sorted(by_source.items()):
        file = store.positions.source_file(source)
        if file is None:
            continue
        try:
            texts += [text for text in lines_at(*file, sorted(offsets)) if text]
        except (SourceError, OSError):  # no journal, or a log that is gone
            continue
    return texts[-LINES:]


def masked(lines: Iterable[str]) -> list[str]:
    """Return lines without the names of this host's users."""
    found = []
    for line in lines:
        text = line
        for pattern, by in _NAMES:
            text = pattern.sub(by, text)
        found.append(text)
    return found


def mail(incident: Incident, sender: Sender, now: float) -> EmailMessage:
    """Return the report as a mail."""
    made = EmailMessage(policy=SMTP)
    made["From"] = sender.contact
    if sender.to:
        made["To"] = sender.to
    made["Subject"] = (
        f"abuse report about {incident.subject}: {_what(incident)} against a mail server"
    )
    made["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    made["Message-ID"] = make_msgid(domain=sender.host)
    made["Auto-Submitted"] = "auto-generated"
    made["MIME-Version"] = "1.0"
    made["Content-Type"] = "multipart/report; report-type=feedback-report"
    for part in (_text(incident, sender), _fields(sender, incident), _json(incident, sender)):
        made.attach(part)
    return made


def xarf(incident: Incident, sender: Sender) -> dict[str, object]:
    """Return the report as XARF v4."""
    who = {"org": sender.host, "contact": sender.contact, "domain": sender.host}
    first, last = incident.decisions[0].time, incident.decisions[-1].time
    port = _port(incident)
    report: dict[str, object] = {
        "xarf_version": _VERSION,
        "report_id": str(uuid.uuid4()),
        "timestamp": _iso(last),
        "reporter": who,
        "sender": who,
        "source_identifier": incident.subject,
        "category": "connection",
        # The others must have the port that the client used (XARF 4.2).
        "type": _type(incident) if port else "reconnaissance",
        "evidence_source": "firewall_logs",
        "destination_port": _PORTS[incident.decisions[-1].scope],
        "protocol": "tcp",
        "first_seen": _iso(first),
        "last_seen": _iso(last),
        "description": _summary(incident)[:1000],
        "tags": ["service:smtp"],
    }
    if port:
        report["source_port"] = port
    if report["type"] == "reconnaissance":
        service = f"smtp port {_PORTS[incident.decisions[-1].scope]}"
        report["probed_resources"] = [service, *(["AUTH"] if _type(incident) == _LOGIN else [])]
    if incident.lines:
        data = ("\n".join(incident.lines) + "\n").encode("latin-1", "replace")
        report["evidence"] = [
            {
                "content_type": "text/plain",
                "description": "log lines of Postfix that counted",
                "payload": base64.b64encode(data).decode(),
                "hash": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "size": len(data),
            }
        ]
    return report


def _port(incident: Incident) -> int:
    """Return the client's port in the latest line that has one (smtpd_client_port_logging)."""
    found = (port for line in reversed(incident.lines) for port in _PORT.findall(line))
    return next((int(port) for port in found if 0 < int(port) < 65536), 0)


def _type(incident: Incident) -> str:
    """Return the type of the limits that led to most decisions."""
    limits = [d.limit for d in incident.decisions]
    logins = sum(limit.startswith(("auth", "guessing")) for limit in limits)
    floods = sum(limit == "connections" for limit in limits)
    rest = len(limits) - logins - floods
    most = max(logins, floods, rest)
    return _LOGIN if logins == most else "reconnaissance" if rest == most else "ddos"


def _what(incident: Incident) -> str:
    kinds = {
        _LOGIN: "guessing of passwords",
        "ddos": "a flood of connections",
        "reconnaissance": "probing and protocol errors",
    }
    return kinds[_type(incident)]


def _summary(incident: Incident) -> str:
    clients = sorted({d.subject for d in incident.decisions if not is_network(d.subject)})
    bans = sum(d.action == "ban" for d in incident.decisions)
    named = ", ".join(clients[:_SHOWN]) + (" and more" if clients[_SHOWN:] else "")
    text = f"{_what(incident)}: {len(incident.decisions)} throttles or bans, of these {bans} bans"
    return f"{text}; addresses: {named or incident.subject}"


def _text(incident: Incident, sender: Sender) -> EmailMessage:
    first, last = (_iso(d.time) for d in (incident.decisions[0], incident.decisions[-1]))
    lines = [
        f"Clients at {incident.subject} attacked the mail server {sender.host}:",
        f"{_summary(incident)}.",
        f"First: {first}, last: {last}.",
        "",
        "Please look at these machines; they may be infected or misused.",
        "",
        *(["Log lines (times as on the server):", ""] if incident.lines else []),
        *(printable(from_log(line)) for line in incident.lines),
        "",
        f"Contact: {sender.contact}. The last part of this mail is this report in XARF v4.",
    ]
    part = EmailMessage(policy=SMTP)
    part.set_content("\n".join(lines) + "\n")
    return part


def _fields(sender: Sender, incident: Incident) -> EmailMessage:
    last = datetime.fromtimestamp(incident.decisions[-1].time, UTC)
    fields = [
        "Feedback-Type: xarf",
        f"User-Agent: throttled/{__version__}",
        "Version: 1",
        f"Arrival-Date: {format_datetime(last)}",
        f"Reporting-MTA: dns; {sender.host}",
        f"Incidents: {len(incident.decisions)}",
    ]
    if not is_network(incident.subject):
        fields.append(f"Source-IP: {incident.subject}")
    part = EmailMessage(policy=SMTP)
    part.set_content("\n".join(fields) + "\n", cte="7bit")
    part.replace_header("Content-Type", "message/feedback-report")
    return part


def _json(incident: Incident, sender: Sender) -> EmailMessage:
    data = msgspec.json.format(msgspec.json.encode(xarf(incident, sender)), indent=2)
    part = EmailMessage(policy=SMTP)
    part.set_content(data, "application", "json", filename="xarf.json")
    return part


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
