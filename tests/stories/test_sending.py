"""Good senders at the defaults, each with its evil twin: the same shape, and stopped."""

from collections.abc import Callable

from lab.mail.stories import (
    ACCEPTED,
    DEAD,
    DELIVERED,
    GREYLISTED,
    HOUR,
    RELAY,
    SUBMISSION,
    Story,
    failed,
    login,
    rejected,
)

Judge = Callable[[Story], set[tuple[str, str, str]]]
A = "198.51.100.7"
REFUSED = "ehlo=2 starttls=1 mail=1 rcpt=0/1 data=0/1 rset=1 quit=1 commands=6/8"


def banned(client: str) -> tuple[str, str, str]:
    return "ban", client, "mx"


def test_greylisting_in_bulk(judge: Judge) -> None:
    """A list server brings 300 messages to a host that greylists, and again ten minutes later.

    It pipelines, so that DATA fails after each refused recipient; the second time all is taken.
    """
    story = Story()
    for number in range(300):
        story.session(number * 1.5, A, GREYLISTED, commands=REFUSED)
        story.session(600 + number * 1.5, A, ACCEPTED, commands=DELIVERED)
    assert judge(story) == set()


def test_greylisting_of_many_recipients_at_once(judge: Judge) -> None:
    """Twenty recipients a message, all but one greylisted: Postfix calls that too many errors.

    Postfix counts a 4xx towards its hard error limit; one dead address makes it no harvester.
    """
    story = Story()
    commands = "ehlo=1 mail=1 rcpt=0/20 commands=2/22"
    for number in range(40):
        bodies = [GREYLISTED] * 19 + [DEAD, "too many errors after RCPT from CLIENT"]
        story.session(number * 60.0, A, *bodies, commands=commands)
    assert judge(story) == set()


def test_the_twin_of_the_greylisted_harvests_addresses(judge: Judge) -> None:
    """The same sessions, but it is the recipients that do not exist."""
    story = Story()
    for number in range(60):
        bodies = [DEAD] * 20 + ["too many errors after RCPT from CLIENT"]
        commands = "ehlo=1 mail=1 rcpt=0/20 commands=2/22"
        story.session(number * 15.0, A, *bodies, commands=commands)
    assert banned(A) in judge(story)


def test_milter_errors(judge: Judge) -> None:
    """The milter is down for an hour, and everything is deferred, wherever it was to be asked.

    At the end of a message it is cleanup that says so; smtpd only counts a DATA that failed.
    """
    story = Story(without_event=720)  # cleanup's
    later = "451 4.7.1 Service unavailable - try again later"
    stages = ("CONNECT", "EHLO", "MAIL", "RCPT")
    lines = [rejected(stage, later, prefix="NOQUEUE: milter-reject") for stage in stages]
    counted = (
        "ehlo=0/1 helo=0/1 mail=0/1 rcpt=0/1 data=0/1 rset=0/1 quit=1 commands=1/7",
        "ehlo=0/1 helo=0/1 mail=0/1 rcpt=0/1 data=0/1 quit=1 commands=1/6",
        "ehlo=1 mail=0/1 rcpt=0/1 data=0/1 rset=1 quit=1 commands=3/6",
        "ehlo=1 mail=1 rcpt=0/1 data=0/1 rset=1 quit=1 commands=4/6",
    )
    for number in range(720):
        for client, (line, commands) in enumerate(zip(lines, counted, strict=True)):
            story.session(number * 5.0, f"203.0.113.{client}", line, commands=commands)
        story.session(
            number * 5.0, A, ACCEPTED, commands="ehlo=1 mail=1 rcpt=1 data=0/1 quit=1 commands=4/5"
        )
        cleanup = "3A5C01F2BC: milter-reject: END-OF-MESSAGE from unknown[198.51.100.7]: 4.7.1 "
        story.line(number * 5.0 + 1, "postfix/cleanup", cleanup + "Service unavailable")
    assert judge(story) == set()


def test_milter_errors_on_one_connection(judge: Judge) -> None:
    """A list server keeps its connection open for message after message, and each is deferred.

    After twenty of them Postfix hangs up, as after twenty errors of any kind.
    """
    story = Story()
    end = "too many errors after END-OF-MESSAGE from CLIENT"
    commands = "ehlo=1 mail=20 rcpt=20 data=0/20 commands=41/61"
    for number in range(60):
        story.session(number * 30.0, A, *[ACCEPTED] * 20, end, commands=commands, seconds=20)
    assert judge(story) == set()


def test_full_mailboxes_and_content(judge: Judge) -> None:
    """A school's list finds every mailbox of a class full, twenty at a time."""
    full = rejected("RCPT", "552 5.2.2 <u@example.org>: Recipient address rejected: Quota exceeded")
    story = Story()
    for number in range(60):
        bodies = [full] * 20 + ["too many errors after RCPT from CLIENT"]
        commands = "ehlo=1 mail=1 rcpt=0/20 commands=2/22"
        story.session(number * 10.0, A, *bodies, commands=commands)
    assert judge(story) == set()


def test_the_twin_of_the_deferred_sends_commands_that_do_not_exist(judge: Judge) -> None:
    """One deferred MAIL first, and then nothing but junk: the refusal excuses what follows from it,
    and nothing else."""
    later = rejected("MAIL", "450 4.1.8 <a@nx.test>: Sender address rejected: Domain not found")
    story = Story()
    for number in range(60):
        end = "too many errors after UNKNOWN from CLIENT"
        commands = "ehlo=1 mail=0/1 unknown=0/19 commands=1/21"
        story.session(number * 10.0, A, later, end, commands=commands)
    assert banned(A) in judge(story)


def test_postfix_own_rate_limits(judge: Judge) -> None:
    """Postfix limits messages, and a newsletter is deferred once a minute: one point a session.

    What the refused MAIL takes with it, recipient and DATA, is the same offence. Over IPv6 the
    limit is a network's, and nobody's offence.
    """
    story = Story()
    line = "warning: Message delivery request rate limit exceeded: 101 from CLIENT for service smtp"
    commands = "ehlo=1 mail=0/1 rcpt=0/1 data=0/1 quit=1 commands=2/5"
    for minute in range(120):
        story.session(minute * 60.0, A, line, commands=commands)
    for second in range(0, 7200, 5):
        story.session(second, "2001:db8::7", line, commands=commands)
    many = [line.replace("Message delivery request", "Recipient address")] * 20
    for second in range(0, 7200, 60):
        end = "too many errors after RCPT from CLIENT"
        commands = "ehlo=1 mail=1 rcpt=0/20 commands=2/22"
        story.session(second, "2001:db8::8", *many, end, commands=commands)
    assert judge(story) == set()


def test_the_twin_of_the_newsletter_never_stops(judge: Judge) -> None:
    """It meets Postfix's limit once a second."""
    story = Story()
    line = "warning: Message delivery request rate limit exceeded: 101 from CLIENT for service smtp"
    for second in range(600):
        commands = "ehlo=1 mail=0/1 rcpt=0/1 data=0/1 quit=1 commands=2/5"
        story.session(second, A, line, commands=commands)
    assert banned(A) in judge(story)


def test_gmails_pool(judge: Judge) -> None:
    """Six addresses of one /64 deliver all day, are greylisted at first, and hit a dead address now
    and then."""
    pool = [f"2001:db8:4864:20::{number:x}" for number in range(0x520, 0x526)]
    story = Story()
    for number in range(3000):
        client = pool[number % 6]
        at = number * 10.0
        if number % 10 == 0:
            story.session(at, client, GREYLISTED, commands=REFUSED)
        elif number % 15 == 1:
            story.session(at, client, DEAD, commands=REFUSED)
        else:
            story.session(at, client, ACCEPTED, commands=DELIVERED)
    assert judge(story) == set()


def test_the_twin_of_gmails_pool_guesses_recipients(judge: Judge) -> None:
    """Twelve addresses of one /64 that know nobody here; nothing good ever came from there."""
    story = Story()
    pool = [f"2001:db8:bad:1::{number:x}" for number in range(1, 13)]
    for number in range(1200):
        story.session(
            number * 1.0,
            pool[number % 12],
            *[DEAD] * 3,
            commands="ehlo=1 mail=1 rcpt=0/3 quit=1 commands=3/6",
        )
    done = judge(story)
    assert {banned(client) for client in pool} <= done
    assert banned("2001:db8:bad:1::/64") in done


def test_a_host_that_never_uses_an_address_of_its_64_twice(judge: Judge) -> None:
    """No address of it does enough for a limit; all together do what would ban ten."""
    story = Story()
    for number in range(700):
        client = f"2001:db8:bad:1:{number:x}::1"
        story.session(number / 2, client, DEAD, commands=REFUSED)
    assert judge(story) == {(action, "2001:db8:bad:1::/64", "mx") for action in ("throttle", "ban")}


def test_a_pool_of_hundreds_in_one_64(judge: Judge) -> None:
    """Each of them delivers one message and has one dead recipient, all within minutes."""
    story = Story()
    for number in range(700):
        client = f"2001:db8:4864:20::{number:x}"
        story.session(number / 2, client, DEAD, ACCEPTED, commands=DELIVERED)
    assert judge(story) == set()


def test_one_bad_machine_beside_gmails_pool(judge: Judge) -> None:
    """Twelve bad neighbours get the /64 banned; who is known to be good in it stays exempt."""
    story = Story()
    good = "2001:db8:4864:20::520"
    for number in range(100):
        story.session(number * 15.0, good, ACCEPTED, commands=DELIVERED)
    pool = [f"2001:db8:4864:20::bad:{number:x}" for number in range(12)]
    for number in range(1200):
        story.session(
            number * 1.0,
            pool[number % 12],
            *[DEAD] * 3,
            commands="ehlo=1 mail=1 rcpt=0/3 quit=1 commands=3/6",
        )
    done = judge(story)
    network = "2001:db8:4864:20::/64"
    assert {subject for action, subject, _ in done if action == "ban"} == {*pool, network}
    assert {subject for action, subject, _ in done if action == "exempt"} == {good}
    assert ("throttle", good, "mx") not in done


def test_a_mailing_list_with_dead_recipients(judge: Judge) -> None:
    """A list that never wrote before brings 6,000 messages in an hour, each with its own return
    path, and every twentieth subscriber is gone."""
    story = Story()
    for number in range(6000):
        if number % 20:
            story.session(number * 0.6, A, ACCEPTED, commands=DELIVERED)
        else:
            story.session(number * 0.6, A, DEAD, commands=REFUSED)
    assert "ban" not in {action for action, _, _ in judge(story)}


def test_a_mailing_list_with_dead_recipients_many_at_once(judge: Judge) -> None:
    """The same list without return paths of their own: fifty recipients a message."""
    story = Story()
    for number in range(120):
        dead = 2 + number % 2
        commands = f"ehlo=1 mail=1 rcpt={50 - dead}/50 data=1 quit=1 commands={54 - dead}/54"
        bodies = [ACCEPTED, *[DEAD] * dead]
        story.session(number * 10.0, A, *bodies, commands=commands, seconds=8)
    assert "ban" not in {action for action, _, _ in judge(story)}


def test_the_twin_of_the_mailing_list_bought_its_addresses(judge: Judge) -> None:
    """The list again, but nineteen of twenty subscribers never existed."""
    story = Story()
    for number in range(6000):
        if number % 20:
            story.session(number * 0.6, A, DEAD, commands=REFUSED)
        else:
            story.session(number * 0.6, A, ACCEPTED, commands=DELIVERED)
    assert banned(A) in judge(story)


def test_connections_lost_after_data(judge: Judge) -> None:
    """A firewall cuts a good sender's long messages off; it tries again every five seconds all
    morning."""
    story = Story()
    lost = "lost connection after DATA (1398101 bytes) from CLIENT"
    for number in range(2000):
        story.session(
            number * 5.0,
            A,
            ACCEPTED,
            lost,
            commands="ehlo=2 starttls=1 mail=1 rcpt=1 data=0/1 commands=5/6",
        )
    assert judge(story) == set()


def test_the_twin_of_the_cut_off_gives_up_after_refused_recipients(judge: Judge) -> None:
    """It hangs up after DATA as well, but it asked for other people's addresses before."""
    story = Story()
    lost = "lost connection after DATA from CLIENT"
    for number in range(2000):
        story.session(
            number * 5.0, A, RELAY, lost, commands="ehlo=1 mail=1 rcpt=0/1 data=0/1 commands=2/4"
        )
    assert banned(A) in judge(story)


def test_reject_warning(judge: Judge) -> None:
    """The operator tries a new restriction with warn_if_reject, and a thousand mails meet it."""
    story = Story(without_event=1000)
    line = rejected(
        "RCPT",
        "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using dnsbl.test",
        prefix="NOQUEUE: reject_warning",
    )
    for number in range(1000):
        story.session(number * 2.0, A, line, ACCEPTED, commands=DELIVERED)
    assert judge(story) == set()


def test_the_twin_of_the_warned_is_refused(judge: Judge) -> None:
    """The same lines without `_warning`, when the operator meant it."""
    story = Story()
    line = rejected(
        "RCPT", "554 5.7.1 Service unavailable; Client host [198.51.100.7] blocked using dnsbl.test"
    )
    for number in range(1000):
        story.session(number * 2.0, A, line, commands=REFUSED)
    assert banned(A) in judge(story)


def test_an_infected_office_keeps_its_submission(judge: Judge) -> None:
    """Thirty users behind one address send mail on submission all day; one PC is infected and
    floods port 25. It is stopped there, and the users do not notice."""
    story = _office()
    _flood(story)
    done = judge(story)
    assert ("throttle", A, "mx") in done
    assert {scope for _, _, scope in done} == {"mx"}


def test_an_infected_office_that_guesses_passwords(judge: Judge) -> None:
    """The PC tries thirty names on submission as well: the office is slowed down there, not shut
    out."""
    story = _office()
    for number in range(300):
        story.session(
            17 * HOUR + number * 2.0,
            A,
            failed(f"name{number % 30}"),
            tag=SUBMISSION,
            commands="ehlo=1 auth=0/1 quit=1 commands=2/3",
        )
    assert {action for action, _, _ in judge(story)} == {"throttle"}


def test_the_twin_of_the_office_has_no_users(judge: Judge) -> None:
    """The same flood from an address where nobody ever logged in."""
    story = Story()
    _flood(story)
    assert banned(A) in judge(story)


def _office() -> Story:
    story = Story()
    for number in range(30 * 16):
        at = 8 * HOUR + number * 60.0
        story.session(
            at,
            A,
            login(f"user{number % 30}"),
            commands=f"auth=1 {DELIVERED}",
            tag=SUBMISSION,
        )
    return story


def _flood(story: Story) -> None:
    for number in range(4000):
        story.session(
            9 * HOUR + number * 0.5,
            A,
            RELAY,
            RELAY,
            commands="ehlo=1 mail=1 rcpt=0/2 quit=1 commands=3/5",
        )
