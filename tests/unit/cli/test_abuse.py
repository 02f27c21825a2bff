"""`throttled abuse`: what it writes is X-ARF, and has the lines that counted."""

import base64
import hashlib
import re
import time
from contextlib import closing
from email import message_from_string
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct
from msgspec.structs import replace

from throttled.analysis.abuse import LINES, collect, masked
from throttled.cli import abuse
from throttled.model import Action, Decision, Line, Scope
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

Time = Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]


class Contact(Struct, forbid_unknown_fields=True):
    """`contact_info` of xarf-core.json (XARF 4)."""

    org: Annotated[str, Meta(max_length=200)]
    contact: Annotated[str, Meta(pattern=r"\A[^@\s]+@[^@\s]+\Z")]
    domain: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9.-]+\Z")]


class Item(Struct, forbid_unknown_fields=True):
    """`evidence_item` of xarf-core.json."""

    content_type: str
    payload: str
    description: Annotated[str, Meta(max_length=500)]
    hash: Annotated[str, Meta(pattern=r"^(md5|sha1|sha256|sha512):[a-fA-F0-9]+$")]
    size: Annotated[int, Meta(ge=0, le=5242880)]


class Report(Struct):
    """xarf-core.json, with what the types of `connection` that we use require."""

    xarf_version: Annotated[str, Meta(pattern=r"^4\.[0-9]+\.[0-9]+$")]
    report_id: UUID
    timestamp: Time
    reporter: Contact
    sender: Contact
    source_identifier: str
    category: Literal["connection"]
    type: Literal["login_attack", "ddos", "reconnaissance"]
    protocol: Literal["tcp"]
    first_seen: Time
    last_seen: Time
    destination_port: Annotated[int, Meta(ge=1, le=65535)]
    # An enumeration where the type is ddos.
    evidence_source: Literal["firewall_logs"]
    description: Annotated[str, Meta(max_length=1000)]
    tags: list[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_+-]*:[a-z0-9][a-z0-9_+-.]*$")]]
    evidence: Annotated[list[Item], Meta(max_length=50)] = []
    probed_resources: list[str] = []  # required where the type is reconnaissance
    source_port: Annotated[int, Meta(ge=1, le=65535)] = 0  # required where it is another one


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "mail.log"
    path.write_bytes(
        b"Nov 29 10:00:00 mx postfix/smtpd[1]: warning: unknown[198.51.100.7]:4711: SASL LOGIN "
        b"authentication failed: x, sasl_username=alice@example.org\n"
        b"Nov 29 10:00:01 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from "
        b"unknown[198.51.100.7]: 550 5.1.1 <bob@example.org>: unknown; from=<evil\x1b@x> "
        b"to=<bob@example.org> h\xc3\xa9lo\n"
    )
    return path


@pytest.fixture
def store(tmp_path: Path, log: Path) -> Path:
    path = tmp_path / "throttled.db"
    at = time.time() - 600
    with closing(Store.open(str(path))) as opened:
        status = log.stat()
        source = opened.positions.source(str(log), status.st_dev, status.st_ino)
        second = log.read_bytes().index(b"\n") + 1
        lines = (Line(source, 0), Line(source, second), Line(99, 0))

        def decided(
            n: int, action: Action, subject: str, limit: str, scope: Scope = "submission"
        ) -> Decision:
            return Decision(at + n, action, subject, scope, limit, 1, at + 900, "x", lines=lines)

        opened.record(
            at,
            [
                decided(0, "throttle", "198.51.100.7", "auth"),
                decided(1, "ban", "198.51.100.7", "auth-users"),
                decided(2, "ban", "198.51.100.8", "errors"),
                decided(3, "ban", "203.0.113.1", "connections", "mx"),
                decided(4, "ban", "203.0.113.2", "errors", "mx"),
                replace(decided(5, "ban", "203.0.113.2", "operator", "mx"), origin="operator"),
                replace(decided(6, "ban", "203.0.113.3", "list", "mx"), origin="list:drop"),
                replace(decided(7, "ban", "203.0.113.4", "errors", "mx"), origin="mx2"),
            ],
        )
    return path


@pytest.mark.usefixtures("store")
def test_the_mail(cli: "Cli") -> None:
    ended = cli(
        "abuse", "198.51.100.0/24", "--to", "abuse@isp.example", "--contact", "me@x.example"
    )
    assert ended.code == 0
    found = message_from_string(ended.out, EmailMessage, policy=default)
    assert not found.defects
    assert (found["To"], found["From"]) == ("abuse@isp.example", "me@x.example")
    # RFC 6522 and RFC 5965: the type, its parameter, and the order of the parts.
    assert found.get_content_type() == "multipart/report"
    assert found["Content-Type"].params["report-type"] == "feedback-report"
    text, fields, report = found.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert "198.51.100.7, 198.51.100.8" in text.get_content()
    assert "\x1b" not in text.get_content()
    assert fields.get_content_type() == "message/feedback-report"
    assert fields["Content-Transfer-Encoding"] in {None, "7bit"}
    payload: Any = fields.get_payload()
    body = payload[0].as_string() if isinstance(payload, list) else str(payload)
    names = [line.partition(":")[0] for line in body.strip().splitlines()]
    assert names[:3] == ["Feedback-Type", "User-Agent", "Version"]
    assert len(names) == len(set(names))
    assert report.get_content_type() == "application/json"
    assert report.get_filename() == "xarf.json"
    _check(report.get_content(), "198.51.100.0/24", "login_attack")


def _check(data: bytes, subject: str, kind: str) -> Report:
    found = msgspec.json.decode(data, type=Report)
    assert (found.source_identifier, found.type) == (subject, kind)
    assert (kind == "reconnaissance") == bool(found.probed_resources)
    assert kind == "reconnaissance" or found.source_port == 4711
    for item in found.evidence:
        content = base64.b64decode(item.payload, validate=True)
        assert item.hash == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert item.size == len(content)
    return found


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("198.51.100.7", "login_attack"),
        ("198.51.100.8", "reconnaissance"),
        ("203.0.113.1", "ddos"),
    ],
)
def test_types_follow_the_limits(cli: "Cli", subject: str, kind: str) -> None:
    found = _check(cli("abuse", subject, "--json").out.encode(), subject, kind)
    [item] = found.evidence
    lines = base64.b64decode(item.payload).splitlines()
    assert len(lines) == 2
    assert b"sasl_username=[removed]" in lines[0]
    assert b"<[removed]@example.org>" in lines[1]
    assert lines[1].endswith(b"h\xc3\xa9lo")


@pytest.mark.usefixtures("store")
def test_unmasked_and_what_is_not_known(cli: "Cli", log: Path) -> None:
    shown: Any = cli("abuse", "198.51.100.7", "--json", "--unmasked").json()
    assert base64.b64decode(shown["evidence"][0]["payload"]) == log.read_bytes()
    ended = cli("abuse", "192.0.2.1")
    assert ended.code == 1
    assert "stored about 192.0.2.1" in ended.err
    for other in ("203.0.113.3", "203.0.113.4"):
        assert cli("abuse", other).code == 1
    assert cli("abuse", "198.51.100.7", "--for", "1m").code == 1
    assert cli("abuse", "198.51.100.7", "--to", "a@b\nBcc: c@d").code == 2
    assert cli("abuse", "example.org").code == 2


@pytest.mark.usefixtures("store")
def test_a_manual_ban_is_no_evidence(cli: "Cli") -> None:
    shown: Any = cli("abuse", "203.0.113.0/24", "--json").json()
    assert "2 throttles or bans, of these 2 bans" in shown["description"]


def test_the_host_is_named_with_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hostname --fqdn` of Debian: the host name is short, /etc/hosts has the domain."""
    answers = {"mx": "mx.example.test", "alone": "localhost", "mx.example.org": "mx.example.org"}
    monkeypatch.setattr(abuse, "getfqdn", answers.__getitem__)
    assert [abuse.full_name(name) for name in answers] == [
        "mx.example.test",
        "alone",
        "mx.example.org",
    ]


@pytest.mark.usefixtures("store")
def test_a_log_that_is_gone(cli: "Cli", log: Path) -> None:
    log.unlink()
    data = cli("abuse", "198.51.100.7", "--json").out.encode()
    found = _check(data, "198.51.100.7", "reconnaissance")  # as no line has the client's port
    assert found.evidence == []
    assert found.probed_resources == ["smtp port 587", "AUTH"]
    assert "Log lines" not in cli("abuse", "198.51.100.7").out


def test_at_most_so_many_lines(store: Path) -> None:
    with closing(Store.open(str(store))) as opened:
        found = collect(opened, "198.51.100.0/24", 0.0, time.time())
    assert len(found.lines) <= LINES


@pytest.mark.parametrize(
    "line",
    [
        'reject: RCPT from u[203.0.113.9]: 550 5.1.1 <"alice b"@example.org>: x; to=<"alice b"@d>',
        "550 5.1.1 <alice>: Recipient address rejected: User unknown; from=<b@c> to=<alice> p",
        "553 5.7.1 <b@c>: Sender address rejected: not owned by user alice; from=<b@c> to=<d@e>",
        "553 5.7.1 <b@c>: Sender address rejected: not owned by user alice@example.org",
        "554 5.7.1 Service unavailable; Sender address [alice@example.com] blocked using dbl",
        "Illegal address syntax from u[203.0.113.9] in RCPT command: <alice b@example.org>",
        'non-SMTP command from u[203.0.113.9]: To: alice@example.org, "alice b"@example.org',
        '{"log":"554 5.7.1 \\u003calice@example.org\\u003e: Relay access denied"}',
        "RCPT command: <@relay.example,@a.example:alice@example.org>",
    ],
)
def test_names_of_users_are_removed_wherever_postfix_writes_them(line: str) -> None:
    [text] = masked([line])
    assert "alice" not in text
    assert "[removed]" in text
    assert text.replace("[removed]", "") != line
    assert masked([text]) == [text]


def test_what_names_no_user_stays() -> None:
    line = (
        "NOQUEUE: reject: RCPT from h.example[203.0.113.9]:4711: 450 4.7.1 <h.example>: Helo "
        "command rejected: Host not found; from=<> proto=ESMTP helo=<h.example>"
    )
    assert masked([line]) == [line]


def test_masks() -> None:
    [line] = masked(["x to=<a.b+c@d>, from=<>, <x>, sasl_username=a b, c"])
    assert not re.search(r"a\.b", line)
    assert line == "x to=<[removed]@d>, from=<>, <x>, sasl_username=[removed]"
