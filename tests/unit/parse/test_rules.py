import pytest

from throttled.parse.header import Origin
from throttled.parse.rules import TEXT_LENGTH, Detail, Rule, Table

ORIGIN = Origin("mx", "postfix", "smtpd", 7)


def refuse(text: str) -> Detail | None:
    return None if text == "no" else Detail(text, user="u")


def name(text: str) -> Detail:
    return Detail(user=text)


TABLE = Table(
    (
        Rule("connect", "connect from <client>"),
        Rule("timeout", "timeout after <where> from <client>"),
        Rule("pregreet", "said from <client>: <text>"),
        Rule("login", "asked from <client>: <text>", "AUTH", refuse),
        Rule("rate_limit", "warning: above <value> from <client> for service <service>"),
        Rule("bad_address", "wrong from <client> in <where> command<said>"),
        Rule("reject", "<id>: reject: <where> from <client>: <text>"),
        Rule("accepted", "<id>: client=<client>"),
        Rule("auth_failure", "warning: <client>: SASL <text>", detail=refuse),
        Rule("login", "<id>: user=<client> <text>", detail=name),
        Rule("denylisted", "DENYLISTED <client>"),
        Rule("saturated", "stressed by <service>"),
    )
)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("connect from x[203.0.113.8]", "connect"),
        ("NOQUEUE: connect from x[203.0.113.8]", "connect"),
        ("4A5B6C7D: connect from x[203.0.113.8]", "connect"),
        ("said from x[203.0.113.8]: hello", "pregreet"),
        ("said from x[203.0.113.8]:", "pregreet"),
        ("said from x[203.0.113.8]", "pregreet"),
        ("asked from x[203.0.113.8]: hello", "login"),
        ("asked from x[203.0.113.8]: no", None),
        ("warning: above 61 from x[203.0.113.8] for service smtp", "rate_limit"),
        ("warning: above 61 from x[203.0.113.8] for nobody", None),
        ("wrong from x[203.0.113.8] in MAIL command: <>", "bad_address"),
        ("wrong from x[203.0.113.8] in MAIL command", "bad_address"),
        ("NOQUEUE: reject: RCPT from x[203.0.113.8]: 550 no", "reject"),
        ("reject: RCPT from x[203.0.113.8]: 550 no", None),
        ("4A5B6C7D: client=x[203.0.113.8]", "accepted"),
        ("client=x[203.0.113.8]", None),
        ("warning: x[203.0.113.8]: SASL what from x[198.51.100.1]", "auth_failure"),
        ("warning: x[203.0.113.8]: SASL no", None),
        ("DENYLISTED x[203.0.113.8]", "denylisted"),
        ("DENYLISTED x[203.0.113.888]", None),
        # an entry is the whole text in front of the client
        ("re connect from x[203.0.113.8]", None),
        ("connect connect from x[203.0.113.8]", None),
        ("warning: connect from x[203.0.113.8]", None),
        ("connect from x[unknown]", None),
        ("connect from ", None),
        ("connect from", None),
        (" from x[203.0.113.8]", None),
        ("", None),
    ],
)
def test_match(body: str, kind: str | None) -> None:
    event = TABLE.read(body, ORIGIN, 0.0)
    assert (event and event.kind) == kind
    assert event is None or event.client == "203.0.113.8"


def test_fields() -> None:
    event = TABLE.read("warning: above 61 from x[203.0.113.8]:9 for service smtp", ORIGIN, 1.5)
    assert event is not None
    assert (event.text, event.service, event.port, event.name) == ("61", "smtp", 9, "x")
    assert (event.host, event.instance, event.process, event.pid, event.time) == (*ORIGIN, 1.5)
    event = TABLE.read("wrong from x[203.0.113.8] in MAIL command: <a>", ORIGIN, 0.0)
    assert event is not None
    assert (event.where, event.text) == ("MAIL", "<a>")
    event = TABLE.read("asked from x[203.0.113.8]: a", ORIGIN, 0.0)
    assert event is not None
    assert (event.where, event.text, event.user) == ("AUTH", "a", "u")


def test_a_line_that_names_nobody() -> None:
    event = TABLE.read("stressed by smtp", ORIGIN, 0.0)
    assert event is not None
    assert (event.client, event.service) == ("", "smtp")


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        ("DATA (1234 bytes)", "DATA"),
        ("DATA content", "DATA"),
        ("BDAT content (7 bytes)", "BDAT"),
        ("END-OF-MESSAGE", "END-OF-MESSAGE"),
    ],
)
def test_stages(stage: str, where: str) -> None:
    event = TABLE.read(f"timeout after {stage} from x[203.0.113.8]", ORIGIN, 0.0)
    assert event is not None
    assert event.where == where


def test_the_text_is_bounded() -> None:
    event = TABLE.read("said from x[203.0.113.8]: " + "y" * 2000, ORIGIN, 0.0)
    assert event is not None
    assert event.text == "y" * TEXT_LENGTH


def test_the_user_name_is_bounded() -> None:
    event = TABLE.read("4A5B6C7D: user=x[203.0.113.8] " + "y" * 2000, ORIGIN, 0.0)
    assert event is not None
    assert event.user == "y" * TEXT_LENGTH


def test_what_is_remembered_is_bounded() -> None:
    for number in range(3_000):
        assert TABLE.read(f"warning: above {number} from x[203.0.113.8] for service s", ORIGIN, 0.0)
    assert TABLE._known.cache_info().currsize <= 1_024
