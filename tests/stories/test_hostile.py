"""Text that a client or another program writes never changes who is blamed, nor what is counted."""

from datetime import UTC
from functools import lru_cache
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.mail.stories import MIDNIGHT
from throttled.decide.engine import Engine
from throttled.decide.limits import Meter
from throttled.facts import Facts
from throttled.model import Crossing, Evidence
from throttled.parse.parser import Parser
from throttled.settings import Policy

CLIENT = "203.0.113.8"
VICTIM = "198.51.100.1"
STAMP = "Nov 22 00:00:01 mx"

FRAGMENTS = (
    f"unknown[{VICTIM}]",
    f"[{VICTIM}]:25",
    f"helo=<[{VICTIM}]>",
    f"connect from unknown[{VICTIM}]",
    f"disconnect from unknown[{VICTIM}] commands=0/0",
    f" from unknown[{VICTIM}]: ",
    f" for service smtp from unknown[{VICTIM}]",
    f"{STAMP} postfix/smtpd[77]: warning: unknown[{VICTIM}]: SASL LOGIN authentication failed: x",
    f"{STAMP} postfix/postscreen[1500]: PREGREET 8 after 0.1 from [{VICTIM}]:2525: EHLO x",
    f"message repeated 99 times: [ connect from unknown[{VICTIM}]]",
    f"NOQUEUE: reject: RCPT from unknown[{VICTIM}]: 550 5.1.1 ",
    f"client=unknown[{VICTIM}], sasl_method=PLAIN, sasl_username=bob",
    f"statistics: max connection rate 900/60s for (smtp:{VICTIM}) at Nov 22 00:00:01",
    "postfix/smtp[9]: ",
    "dovecot: imap-login: ",
    "<22>1 - ",
    "]: ",
    ": ",
    " from ",
    "warning: ",
    "450 4.7.1 ",
    "Connection lost to authentication server",
    "Service unavailable; Client host [",
    " authentication failed: ",
    " authentication aborted",
    ", sasl_username=",
    ">: Relay access denied",
    ">: Recipient address rejected: Greylisted; ",
    "; from=<> to=<> proto=SMTP helo=<>",
    " ehlo=1 data=99 commands=0/0 notes=",
    "\r",
    "\t",
    "%s",
    "\x00",
    "\xff",
)
#: Whole sentences that excuse somebody, where they are believed.
EXCUSES = (
    "A authentication failed: Connection lost to authentication server",
    "A authentication failed: Connection lost to authentication server, sasl_username=bob",
    "A authentication aborted",
    "A authentication failed: x, sasl_username=bob",
    "a>: Recipient address rejected: Greylisted; from=<> to=<a",
    "Client host rejected: cannot find your hostname",
    "Service unavailable; Sender address [a] blocked using dbl.test",
    "450 4.7.1 Service unavailable",
)
SAID = st.sampled_from(EXCUSES) | st.lists(
    st.sampled_from(FRAGMENTS)
    | st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=20),
    max_size=8,
).map("".join)

#: Every line into which a client writes, at {}. What stands outside is Postfix's; `say` puts in the
#: words in capitals.
SMTPD = (
    "warning: non-SMTP command from CLIENT: {}",
    "improper command pipelining after EHLO from CLIENT: {}",
    "warning: Illegal address syntax from CLIENT in RCPT command: {}",
    "warning: CLIENT: SASL {} authentication failed: Invalid authentication mechanism",
    "SSL_accept error from CLIENT: {}",
    "warning: CLIENT: request longer than 2048: {}",
    "warning: hostname {} does not resolve to address 203.0.113.8",
    (
        "NOQUEUE: reject: RCPT from CLIENT: 550 5.1.1 <{0}>: Recipient address rejected: User "
        "unknown in local recipient table; ENVELOPE"
    ),
    "NOQUEUE: reject: RCPT from CLIENT: 554 5.7.1 <{0}>: Relay access denied; ENVELOPE",
    (
        "NOQUEUE: reject: RCPT from CLIENT: 554 5.7.1 Service unavailable; Client host "
        "[203.0.113.8] blocked using dnsbl.test; ENVELOPE"
    ),
    (
        "NOQUEUE: reject: RCPT from CLIENT: 450 4.2.0 <{0}>: Recipient address rejected: "
        "Greylisted; ENVELOPE"
    ),
    (
        "NOQUEUE: reject: EHLO from CLIENT: 504 5.5.2 <{0}>: Helo command rejected: need "
        "fully-qualified hostname; proto=SMTP helo=<{0}>"
    ),
    "NOQUEUE: reject_warning: RCPT from CLIENT: 554 5.7.1 <{0}>: Relay access denied; ENVELOPE",
    "3A5C01F2BC: milter-reject: END-OF-MESSAGE from CLIENT: 5.7.1 {0}; ENVELOPE",
    "3A5C01F2BC: client=CLIENT, sasl_method=PLAIN, sasl_username={}",
)
POSTSCREEN = (
    "PREGREET 8 after 0.1 from [203.0.113.8]:2525: {}",
    "COMMAND PIPELINING from [203.0.113.8]:2525 after EHLO: {}",
    "NON-SMTP COMMAND from [203.0.113.8]:2525 after CONNECT: {}",
    "BARE NEWLINE from [203.0.113.8]:2525 after HELO {}",
    "COMMAND TIME LIMIT from [203.0.113.8]:2525 after {}",
    (
        "NOQUEUE: reject: RCPT from [203.0.113.8]:2525: 550 5.5.1 Protocol error; from=<{0}>, "
        "helo=<{0}>"
    ),
)
ACCESS = (
    "NOQUEUE: reject: RCPT from CLIENT: 554 5.7.1 <{0}>: Helo command rejected: Access denied; "
    "ENVELOPE"
)
USER = "warning: CLIENT: SASL LOGIN authentication failed: authentication failure, sasl_username={}"


def say(template: str, said: str) -> str:
    """Put a client's words into a line."""
    envelope = "from=<{0}> to=<{0}> proto=ESMTP helo=<{0}>"
    template = template.replace("ENVELOPE", envelope).replace("CLIENT", f"unknown[{CLIENT}]")
    return template.replace("SERVER", f"mail.example.net[{CLIENT}]").format(said)


class Counted(NamedTuple):
    meters: list[Meter]
    crossings: list[Crossing]
    evidence: list[Evidence]
    events: int


def counted(template: str, said: str, process: str = "smtpd") -> Counted:
    """Count twelve sessions in which a client says something three times.

    Meters are the client's: whoever else had been counted would show in `sizes`.
    """
    engine = Engine(Policy(), Facts())
    parser = Parser(UTC, MIDNIGHT + 60)
    events = 0
    for pid in range(12):
        smtpd, prefix = f"{STAMP} postfix/smtpd[{pid}]: ", f"{STAMP} postfix/{process}[{pid}]: "
        for line in (
            f"{smtpd}connect from unknown[{CLIENT}]",
            *[prefix + say(template, said)] * 3,
            f"{smtpd}disconnect from unknown[{CLIENT}] ehlo=1 mail=1 rcpt=0/3 quit=1 commands=3/6",
        ):
            event = parser.event(line)
            if event is not None:
                events += 1
                assert event.client == CLIENT
                engine.step(event, 1000.0)
    assert engine.sizes()["clients"] == 1
    return Counted(engine.meters(CLIENT, 1000.0), *_drained(engine), events)


@lru_cache
def plainly(template: str, process: str = "smtpd") -> Counted:
    """Count what it is when nothing clever is said."""
    return counted(template, "x", process)


def _drained(engine: Engine) -> tuple[list[Crossing], list[Evidence]]:
    outcome = engine.drain()
    return outcome.crossings, outcome.evidence


@pytest.mark.parametrize("template", SMTPD)
@given(said=SAID)
def test_what_a_client_says_to_smtpd_changes_nothing(template: str, said: str) -> None:
    assert counted(template, said) == plainly(template)


@pytest.mark.parametrize("template", POSTSCREEN)
@given(said=SAID)
def test_what_a_client_says_to_postscreen_changes_nothing(template: str, said: str) -> None:
    assert counted(template, said, "postscreen") == plainly(template, "postscreen")


def _values(of: Counted) -> dict[tuple[str, str], int]:
    return {(meter.limit, meter.scope): meter.value for meter in of.meters}


@given(SAID)
def test_who_is_refused_by_name_cannot_talk_itself_out_of_it(said: str) -> None:
    """Here the reply holds the client's own words before the verdict: the graver reading wins."""
    values = _values(counted(ACCESS, said))
    assert all(values[key] >= value for key, value in _values(plainly(ACCESS)).items())


@given(SAID)
def test_a_user_name_is_one_name_and_one_failure(said: str) -> None:
    values, plain = _values(counted(USER, said)), _values(plainly(USER))
    for key in (("errors", "mx"), ("auth", "mx"), ("connections", "mx")):
        assert values[key] == plain[key]
    assert values["auth-slow", "mx"] <= plain["auth-slow", "mx"] == 1


#: Lines of others in the same file, {} as above.
OTHERS = (
    (
        "dovecot: imap-login: Disconnected (auth failed, 3 attempts in 9 secs): user=<{}>, "
        "method=PLAIN, rip=203.0.113.8, lip=198.51.100.2, TLS, session=<x>"
    ),
    "dovecot: auth-worker(77): pam({},203.0.113.8): unknown user",
    (
        "dovecot: submission-login: Aborted login (auth failed, 1 attempts): user=<{}>, "
        "rip=203.0.113.8"
    ),
    (
        "postgrey[19]: action=greylist, reason=new, client_name=unknown, "
        "client_address=203.0.113.8, sender={}, recipient=u@example.org"
    ),
    "opendkim[20]: 3A5C01F2BC: {} [203.0.113.8] not internal",
    "opendkim[20]: 3A5C01F2BC: bad signature data from {}",
    "amavis[21]: (20-01) Blocked SPAM, [203.0.113.8] <{}> -> <u@example.org>",
    "policyd-spf[22]: 550 5.7.23 Message rejected due to: SPF fail; client-ip=203.0.113.8; helo={}",
    "postfix/smtp[23]: 3A5C01F2BC: SASL authentication failed; server SERVER said: 535 5.7.8 {}",
    "postfix/smtp[23]: warning: SERVER: SASL LOGIN authentication failed: {}",
    "postfix/smtp[23]: 3A5C01F2BC: lost connection with SERVER while {}",
    "postfix/smtp[23]: 3A5C01F2BC: host SERVER said: 450 4.2.0 {}",
    "postfix/lmtp[23]: 3A5C01F2BC: to=<{}>, relay=x[203.0.113.8]:24, status=deferred",
    "postfix/qmgr[24]: 3A5C01F2BC: from=<{}>, size=169, nrcpt=2 (queue active)",
    "postfix/cleanup[25]: 3A5C01F2BC: message-id=<{}>",
    (
        "postfix/cleanup[25]: 3A5C01F2BC: reject: header Subject: {0} from CLIENT; from=<{0}> "
        "to=<u@example.org> proto=ESMTP helo=<{0}>: 5.7.1 message content rejected"
    ),
    "postfix/cleanup[25]: 3A5C01F2BC: milter-reject: END-OF-MESSAGE from CLIENT: 4.7.1 {}",
    "postfix/bounce[26]: 3A5C01F2BC: sender non-delivery notification: {}",
    "postfix/pickup[27]: 3A5C01F2BC: uid=1000 from=<{}>",
    "postfix/tlsproxy[28]: CONNECT from [203.0.113.8]:40712",
    "postfix/dnsblog[29]: addr 203.0.113.8 listed by domain dnsbl.test as 127.0.0.2",
    "postfix/postlog[30]: {}",
    "sshd[31]: Invalid user {} from 203.0.113.8 port 22",
    "web[32]: {}",
)
#: What `smtpd -v` adds.
VERBOSE = (
    "< CLIENT: {}",
    "> CLIENT: 535 5.7.8 Error: authentication failed: {}",
    "CLIENT: wrote {}",
    "smtp_get: EOF",
    "match_hostname: smtpd_client_event_limit_exceptions: unknown ~? {}",
    "match_list_match: {}: no match",
    "generic_checks: name=reject_unauth_destination status=2 <{}>",
    ">>> START Helo command RESTRICTIONS <<<",
    "reject_invalid_hostname: {}",
    "extract_addr: in: <{0}>, result: {0}",
    "smtpd_check_addr: addr={}",
    "mail_addr_find: {} -> (not found)",
    "maps_find: virtual_mailbox_maps: {}: not found",
    "rewrite_clnt: local: {0} -> {0}",
    "resolve_clnt: `' -> `{0}' -> transp=`local' host=`mx' rcpt=`{0}' flags= class=local",
    "ctable_locate: install entry key {}",
    "permit_auth_destination: {}",
    "xsasl_dovecot_handle_reply: auth reply: FAIL?1?user={}",
    "xsasl_dovecot_server_first: sasl_method {}",
    "send attr request = {}",
    "input attribute value: {}",
    "report connect to all milters",
    "dict_proxy_lookup: table=unix:passwd.byname flags=x key={} -> status=1 result=",
    "check_table_result: hash:/etc/postfix/access DUNNO {}",
    "smtpd_chat_notify: {}",
)


@pytest.mark.parametrize("line", [*OTHERS, *(f"postfix/smtpd[7]: {body}" for body in VERBOSE)])
@given(said=SAID)
def test_the_lines_of_others_name_no_client(line: str, said: str) -> None:
    """At the most they say what becomes of the message whose queue id Postfix put in front."""
    event = Parser(UTC, MIDNIGHT + 60).event(f"{STAMP} {say(line, said)}")
    assert event is None or event.message is not None
    assert event is None or (event.client, event.user) == ("", "")
    assert event is None or event.message is None or event.message.queue_id == "3A5C01F2BC"


def test_a_log_shared_by_all() -> None:
    """A client's own lines count the same, whoever else writes into the file between them."""
    alone, shared = Engine(Policy(), Facts()), Engine(Policy(), Facts())
    parser = Parser(UTC, MIDNIGHT + 60)
    for number in range(200):
        own = f"{STAMP} postfix/smtpd[{number}]: " + say(SMTPD[number % len(SMTPD)], "x")
        others = [f"{STAMP} {say(line, own)}" for line in OTHERS[number % 5 :: 5]]
        for engine, lines in ((alone, [own]), (shared, [*others, own, *others])):
            for line in lines:
                event = parser.event(line)
                if event is not None:
                    engine.step(event, 1000.0 + number)
    assert sum(meter.value for meter in alone.meters(CLIENT, 1200.0)) > 0
    assert alone.meters(CLIENT, 1200.0) == shared.meters(CLIENT, 1200.0)
