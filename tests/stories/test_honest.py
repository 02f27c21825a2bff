"""Clients that are hit elsewhere though they do nothing wrong, each with its evil twin.

Health checks, phones and offices, callouts, and refusals that say nothing of the client; the
configuration is the default one.
"""

from collections.abc import Callable

import pytest

from lab.mail.stories import (
    ACCEPTED,
    DEAD,
    DELIVERED,
    HOUR,
    MX,
    POSTSCREEN,
    SMTPS,
    SUBMISSION,
    Story,
    failed,
    login,
    rejected,
)

Judge = Callable[[Story], set[tuple[str, str, str]]]
A = "198.51.100.7"
SIX = "2001:db8:7::25"
QUIT = "ehlo=1 quit=1 commands=2"
LOST = "lost connection after CONNECT from CLIENT"
TAGS = ((MX, "mx"), (SUBMISSION, "submission"), (SMTPS, "submission"))


def actions(done: set[tuple[str, str, str]]) -> set[str]:
    return {action for action, _, _ in done}


# Health checks


@pytest.mark.parametrize("client", [A, SIX])
@pytest.mark.parametrize("every", [2, 5, 10, 60])
@pytest.mark.parametrize(
    ("bodies", "commands"),
    [
        ((LOST,), "commands=0/0"),
        ((), QUIT),
        ((), "ehlo=2 starttls=1 quit=1 commands=4"),  # crowdsecurity/crowdsec issue 1106
        (("improper command pipelining after QUIT from CLIENT: ",), QUIT),
        (("improper command pipelining after QUIT from CLIENT: QUIT\\r\\n",), "quit=1 commands=1"),
        (("improper command pipelining after CONNECT from CLIENT: QUIT\\n",), "quit=1 commands=1"),
        (("improper command pipelining after EHLO from CLIENT: QUIT\\r\\n",), QUIT),
        # smtpd_forbid_unauth_pipelining: the command fails for it
        (
            ("improper command pipelining after EHLO from CLIENT: QUIT\\r\\n",),
            "ehlo=0/1 commands=0/1",
        ),
        (("SSL_accept error from CLIENT: lost connection", LOST), "commands=0/0"),
    ],
)
def test_a_health_check(
    judge: Judge, bodies: tuple[str, ...], commands: str, every: int, client: str
) -> None:
    """On each service, however often and however it says good-bye."""
    story = Story()
    for second in range(0, 1800, every):
        for tag, _ in TAGS:
            story.session(second, client, *bodies, tag=tag, commands=commands, seconds=0)
    assert judge(story) == set()


@pytest.mark.parametrize("text", ["QUIT\\r\\n", "QUIT\\n", "EHLO probe\\r\\nQUIT\\r\\n"])
def test_a_health_check_in_front_of_postscreen(judge: Judge, text: str) -> None:
    """`echo QUIT | nc` every five seconds."""
    story = Story()
    for second in range(0, 1800, 5):
        port = 20_000 + second
        story.line(second, POSTSCREEN, f"CONNECT from [{A}]:{port} to [198.51.100.2]:25")
        story.line(second, POSTSCREEN, f"PREGREET 6 after 0.1 from [{A}]:{port}: {text}")
        hangup = f"HANGUP after 0 from [{A}]:{port} in tests before SMTP handshake"
        story.line(second, POSTSCREEN, hangup)
        story.line(second, POSTSCREEN, f"DISCONNECT [{A}]:{port}")
    assert judge(story) == set()


@pytest.mark.parametrize(
    "text",
    [
        "MAIL FROM:<x@sender.example>\\r\\nRCPT TO:<u@example.org>\\r\\nDATA\\r\\n",
        "QUIT\\r\\nMAIL FROM:<x@sender.example>\\r\\n",
    ],
)
def test_the_twin_of_the_health_check_sends_mail_without_waiting(judge: Judge, text: str) -> None:
    """A spam bot sends all it has after EHLO."""
    story = Story()
    for second in range(0, 1800, 5):
        line = f"improper command pipelining after EHLO from CLIENT: {text}"
        story.session(second, A, line, commands="ehlo=1 commands=1")
    assert ("ban", A, "mx") in judge(story)


def test_a_mailer_that_pipelines_after_each_message(judge: Judge) -> None:
    """A web shop's library sends the message with DATA, and QUIT with the message's end."""
    story = Story()
    for number in range(360):
        where = ("DATA", "END-OF-MESSAGE", "RSET")[number % 3]
        line = f"improper command pipelining after {where} from CLIENT: QUIT\\r\\n"
        if where == "DATA":
            line = line.replace("QUIT", "Received: by shop")
        story.session(number * 10.0, A, ACCEPTED, line, commands=DELIVERED)
    assert judge(story) == set()


def test_the_twin_of_the_mailer_delivers_nothing(judge: Judge) -> None:
    """It sends the message with DATA as well, and all its recipients were refused before."""
    story = Story()
    line = "improper command pipelining after DATA from CLIENT: Received: by bot"
    for number in range(360):
        ends = "ehlo=1 mail=1 rcpt=0/1 data=0/1 commands=2/4"
        story.session(number * 10.0, A, DEAD, line, commands=ends)
    assert ("ban", A, "mx") in judge(story)


# Phones and offices


@pytest.mark.parametrize("tag", [SUBMISSION, SMTPS])
@pytest.mark.parametrize("text", ["???????", "????????_?.?", "????"])
def test_a_phone_that_speaks_tls_at_once(judge: Judge, text: str, tag: str) -> None:
    """Its set-up tries all it knows, every five seconds, until somebody looks."""
    story = Story()
    for second in range(0, 1800, 5):
        line = f"warning: non-SMTP command from CLIENT: {text}"
        story.session(second, A, line, tag=tag, commands="unknown=0/1 commands=0/1")
    assert judge(story) == set()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_phone_that_speaks_tls_to_an_old_postfix(judge: Judge, number: int) -> None:
    """Before Postfix 3.6 only the counters show it."""
    story = Story()
    for second in range(0, 1800, 5):
        line = "lost connection after UNKNOWN from CLIENT"
        ends = f"unknown=0/{number} commands=0/{number}"
        story.session(second, A, line, tag=SUBMISSION, commands=ends)
    assert judge(story) == set()


def test_the_garbage_twin_of_the_phone_has_no_line_either(judge: Judge) -> None:
    story = Story()
    for second in range(0, 120, 2):
        ends = "unknown=0/15 commands=0/15"
        story.session(second, A, tag=SUBMISSION, commands=ends, seconds=1)
    assert ("ban", A, "submission") in judge(story)


def test_the_twin_of_the_phone_speaks_http(judge: Judge) -> None:
    """A bot looks for web servers on the same port."""
    story = Story()
    for second in range(0, 1800, 20):
        line = "warning: non-SMTP command from CLIENT: GET / HTTP/1.1"
        story.session(second, A, line, tag=SUBMISSION, commands="unknown=0/1 commands=0/1")
    assert ("ban", A, "submission") in judge(story)


MECHANISM = "warning: CLIENT: SASL NTLM authentication failed: authentication failure"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("mail", [False, True])
def test_a_mechanism_that_fails_before_the_login(judge: Judge, *, named: bool, mail: bool) -> None:
    """An office's mail programs try NTLM first, each minute some of twenty; some of them only log
    in to see whether they can. What names its user needs the login's line, which comes with mail.
    """
    if named and not mail:
        return
    story = Story()
    for number in range(360):
        user = f"u{number % 20}@example.org"
        line = f"{MECHANISM}, sasl_username={user}" if named else MECHANISM
        done = "mail=1 rcpt=1 data=1 quit=1 commands=8/9" if mail else "quit=1 commands=5/6"
        bodies = [line, login(user)] if mail else [line]
        commands = f"ehlo=2 starttls=1 auth=1/2 {done}"
        story.session(number * 5.0, A, *bodies, tag=SUBMISSION, commands=commands)
    assert judge(story) == set()


def test_the_twin_of_the_office_has_one_account(judge: Judge) -> None:
    """A bot logs in to its own account at the end of each session, and tries other names before:
    the login excuses none of them."""
    story = Story()
    for number in range(360):
        tries = [failed(f"name{number}{letter}@example.org") for letter in "abc"]
        commands = "ehlo=1 auth=1/4 mail=1 rcpt=1 data=1 quit=1 commands=6/9"
        bodies = [*tries, login("bot@example.org")]
        story.session(number * 5.0, A, *bodies, tag=SUBMISSION, commands=commands)
    assert {"throttle", "ban"} & actions(judge(story))


NOT_OWNED = rejected(
    "RCPT", "553 5.7.1 <shop@example.org>: Sender address rejected: not owned by user order"
)


@pytest.mark.parametrize("line", [NOT_OWNED, DEAD, f"{DEAD} sasl_username=<order@example.org>"])
def test_refusals_of_a_client_that_has_logged_in(judge: Judge, line: str) -> None:
    """A shop's program uses a sender that is not its own, or customers' mistyped addresses."""
    story = Story()
    commands = "ehlo=2 starttls=1 auth=1 mail=1 rcpt=0/1 quit=1 commands=6/7"
    for number in range(400):
        story.session(number * 5.0, A, line, tag=SUBMISSION, commands=commands)
    assert judge(story) == set()


def test_the_twin_of_the_shop_only_says_that_it_has_logged_in(judge: Judge) -> None:
    """In its HELO name and its recipients, where anybody may write anything."""
    story = Story()
    tail = (
        'from=<a@b.example> to=<" proto=ESMTP helo=<x> sasl_username=<bob>"@else.example> '
        "proto=ESMTP helo=<sasl_username=bob>"
    )
    text = (
        '554 5.7.1 <" proto=ESMTP helo=<x> sasl_username=<bob>"@else.example>: Relay access denied'
    )
    commands = "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"
    for number in range(100):
        story.session(number * 5.0, A, rejected("RCPT", text, tail), commands=commands)
    assert ("ban", A, "mx") in judge(story)


# Callouts


def null(sender: str = "") -> str:
    tail = f"from=<{sender}> to=<u@example.org> proto=ESMTP helo=<mx.sender.example>"
    text = DEAD.partition(" from CLIENT: ")[2].partition("; from=")[0]
    return rejected("RCPT", text, tail)


ONE = "ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"


@pytest.mark.parametrize("sender", ["", "double-bounce@mx.sender.example"])
def test_sender_callouts_after_forged_mail(judge: Judge, sender: str) -> None:
    """Somebody forges mail from addresses of ours that do not exist, and an honest server asks
    about each, or returns it: five a minute, all day."""
    story = Story()
    for number in range(2000):
        story.session(number * 12.0, A, null(sender), commands=ONE)
    assert judge(story) == set()


def test_many_sender_callouts_are_throttled(judge: Judge) -> None:
    """Every three seconds for an hour: to be slowed down, not to be shut out."""
    story = Story()
    for number in range(1200):
        story.session(number * 3.0, A, null(), commands=ONE)
    assert judge(story) == {("throttle", A, "mx")}


def test_the_twin_of_the_callouts_asks_for_many(judge: Judge) -> None:
    """A harvester with the null sender asks for ten addresses in each session."""
    story = Story()
    commands = "ehlo=1 mail=1 rcpt=0/10 quit=1 commands=3/13"
    for number in range(60):
        story.session(number * 30.0, A, *[null()] * 10, commands=commands)
    assert ("ban", A, "mx") in judge(story)


def test_the_fast_twin_of_the_callouts(judge: Judge) -> None:
    """One address a session, four sessions a second, and never a mail."""
    story = Story()
    for number in range(2400):
        story.session(number / 4, A, null(), commands=ONE, seconds=0)
    assert ("ban", A, "mx") in judge(story)


def test_the_twin_of_the_callouts_writes_the_null_sender_into_its_recipients(judge: Judge) -> None:
    story = Story()
    tail = 'from=<a@b.example> to=<"; from=<> to=<"@example.org> proto=ESMTP helo=<x>'
    text = '550 5.1.1 <"; from=<> to=<"@example.org>: Recipient address rejected: User unknown'
    for number in range(300):
        story.session(number * 5.0, A, rejected("RCPT", text, tail), commands=ONE)
    assert ("ban", A, "mx") in judge(story)


# Refusals that say nothing of the client


LISTED = "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.example.org"
HARMLESS = (
    f"{LISTED}; Error: open resolver; https://check.spamhaus.org/returnc/pub/192.0.2.53/",
    f"{LISTED}; Error: excessive number of queries; https://www.example.org/returnc/vol/",
    f"{LISTED}; 127.0.0.1 -> Query Refused. See http://uribl.com/refused.shtml",
    "550 5.7.23 <u@example.org>: Recipient address rejected: SPF fail - not authorized",
    "550 5.7.1 <u@example.org>: Recipient address rejected: SPF fail, see http://www.openspf.net",
    "554 5.7.1 <u@example.org>: Recipient address rejected: quota of your domain is used up",
    "550 5.7.1 <a@sender.example>: Sender address rejected: DMARC policy",
    (
        "450 4.1.1 <u@example.org>: Recipient address rejected: unverified address: Address "
        "verification in progress"
    ),
    "450 4.7.1 <sender.example>: Helo command rejected: Host not found",
    "451 4.3.0 <u@example.org>: Temporary lookup failure",
    "450 4.7.1 <u@example.org>: Recipient address rejected: Try again later",
    "450 4.1.8 <a@sender.example>: Sender address rejected: Domain not found",
    # A policy server of this host that is down, and Dovecot's quota-status.
    "451 4.3.5 <u@example.org>: Recipient address rejected: Server configuration problem",
    "452 4.2.2 <u@example.org>: Recipient address rejected: Mailbox is full",
    # reject_unknown_client_hostname, as long as DNS may recover (smtpd_check.c).
    "450 4.7.25 Client host rejected: cannot find your hostname, [198.51.100.7]",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_refusals_that_say_nothing_of_the_client(judge: Judge, text: str) -> None:
    """A provider's server meets them in every session, every two seconds for an hour."""
    story = Story()
    for number in range(1800):
        story.session(number * 2.0, A, rejected("RCPT", text), commands=ONE)
    assert judge(story) == set()


SOFTENED = (
    "454 4.7.1 <u@else.example>: Relay access denied",  # Debian's defer_unauth_destination
    "450 4.1.1 <u@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
    "450 4.1.1 <u@example.org>: Recipient address rejected: undeliverable address: unknown user",
    "454 4.7.1 Service unavailable; Client host [198.51.100.7] blocked using zen.example.org",
    "450 4.7.1 <x[198.51.100.7]>: Client host rejected: Access denied",
)


@pytest.mark.parametrize("text", SOFTENED)
def test_the_twin_of_the_refused_is_refused_for_ever_whatever_the_code(
    judge: Judge, text: str
) -> None:
    """Settings make a 4xx of it (soft_bounce, unknown_*_reject_code, …)."""
    story = Story()
    for number in range(1800):
        story.session(number * 2.0, A, rejected("RCPT", text), commands=ONE)
    assert ("ban", A, "mx") in judge(story)


# Sessions without end


def test_a_mailing_list_on_one_connection(judge: Judge) -> None:
    """It keeps its connection open all day: a message a minute, and one dead address each time."""
    story = Story()
    bodies = [ACCEPTED, DEAD] * 600
    commands = "ehlo=1 mail=600 rcpt=600/1200 data=600 quit=1 commands=1802/2402"
    story.session(0, A, *bodies, commands=commands, seconds=10 * HOUR)
    assert "ban" not in actions(judge(story))


def test_a_big_sender_with_a_bad_list_in_one_session(judge: Judge) -> None:
    """A thousand messages within a minute on one connection; 55 subscribers are gone."""
    story = Story()
    bodies = ([ACCEPTED] * 18 + [DEAD]) * 55
    commands = "ehlo=1 mail=990 rcpt=990/1045 data=990 quit=1 commands=2972/3027"
    story.session(0, A, *bodies, commands=commands, seconds=58)
    assert judge(story) == set()


def test_the_twin_of_the_big_sender_probes_for_half_a_minute(judge: Judge) -> None:
    """Five recipients a second: the decision comes while the session lasts, not with its third
    minute."""
    story = Story()
    bodies = ([DEAD] * 9 + [ACCEPTED]) * 17
    commands = "ehlo=1 mail=17 rcpt=17/170 data=17 quit=1 commands=53/206"
    story.session(0, A, *bodies, commands=commands, seconds=30)
    assert ("throttle", A, "mx") in judge(story)


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        (DEAD, "rcpt=400/4000 data=400"),
        (rejected("RCPT", "454 4.7.1 <u@else.example>: Relay access denied"), "rcpt=400/4000"),
        ("warning: Illegal address syntax from CLIENT in RCPT command: <@>", "rcpt=400/4000"),
    ],
)
def test_the_twin_of_the_list_never_hangs_up(judge: Judge, line: str, ends: str) -> None:
    """Nine bad recipients, one mail, again: Postfix counts errors since the last mail."""
    story = Story()
    bodies = ([line] * 9 + [ACCEPTED]) * 400
    commands = f"ehlo=1 mail=400 {ends} quit=1 commands=402/4402"
    story.session(0, A, *bodies, commands=commands, seconds=HOUR)
    assert {"throttle", "ban"} & actions(judge(story))
