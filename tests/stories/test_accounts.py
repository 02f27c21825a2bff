"""Accounts at the defaults, each story with its evil twin: the same shape, and reported.

All mail passes a content filter that uses XFORWARD, as amavis does.
"""

import itertools
from datetime import UTC

from lab.mail.stories import HOUR, SUBMISSION, Story
from throttled.decide.senders import Senders
from throttled.facts import Facts
from throttled.limits import default_limits
from throttled.parse.parser import Parser
from throttled.settings import Policy

HOME, FILTER = "203.0.113.7", "127.0.0.1[127.0.0.1]:10024"
DAY = 24 * HOUR


class Accounts:
    """What accounts send."""

    def __init__(self, **highest: int) -> None:
        """Begin; the arguments are accounts' highest days so far, in recipients."""
        self.story = Story()
        self.senders = Senders(Policy(limits=default_limits()), Facts(mynetworks=("127.0.0.0/8",)))
        self.senders.learn({f"account:{name}": n for name, n in highest.items()}, since=True)
        self._ids = itertools.count()

    def mail(
        self, at: float, user: str, recipients: int = 1, dead: int = 0, client: str = HOME
    ) -> None:
        """Send a message from an account, through the filter to its recipients."""
        first, second = (f"{next(self._ids):09X}" for _ in range(2))
        active = f"from=<{user}@x.test>, size=900, nrcpt={recipients}"
        steps = itertools.count()

        def line(after: float, tag: str, body: str) -> None:
            self.story.line(after + next(steps) / 1000, tag, body)

        who = f"client=unknown[{client}], sasl_method=PLAIN, sasl_username={user}"
        line(at, SUBMISSION, f"{first}: {who}")
        line(at, "postfix/qmgr", f"{first}: {active} (queue active)")
        forwarded = f"client=localhost[127.0.0.1], orig_queue_id={first}, orig_client=x[{client}]"
        line(at, "postfix/smtpd", f"{second}: {forwarded}")
        line(at, "postfix/qmgr", f"{second}: {active} (queue active)")
        sent = f"dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {second})"
        for number in range(recipients):
            line(
                at, "postfix/smtp", f"{first}: to=<{number}@y.test>, relay={FILTER}, {_DELAY}{sent}"
            )
        line(at, "postfix/qmgr", f"{first}: removed")
        for number in range(recipients):
            said = "5.1.1, status=bounced (550 no)" if number < dead else "2.0.0, status=sent (ok)"
            to = f"to=<{number}@y.test>, relay=mx.y.test[203.0.113.25]:25, {_DELAY}dsn={said}"
            line(at + 1, "postfix/smtp", f"{second}: {to}")
        line(at + 1, "postfix/qmgr", f"{second}: removed")

    def reported(self) -> list[tuple[str, str]]:
        """Return who was reported, by which limit."""
        parser = Parser(UTC, next(self.story.lines())[0] + 7 * DAY)
        for at, text in self.story.lines():
            event = parser.event(text)
            if event is not None and event.message is not None:
                self.senders.step(event, at)
        return sorted({(report.subject, report.limit) for report in self.senders.drain()})


_DELAY = "delay=1, delays=0/0/0/1, "


def test_a_newsletter_of_which_a_twentieth_is_dead() -> None:
    accounts = Accounts(news=4000)
    for number in range(100):
        accounts.mail(number * 20.0, "news", recipients=40, dead=2)
    assert accounts.reported() == []


def test_the_twin_of_the_newsletter_is_a_stolen_login() -> None:
    """It writes to bought addresses, of which three in ten are dead."""
    accounts = Accounts(alice=4000)
    for number in range(40):
        accounts.mail(number * 20.0, "alice", recipients=10, dead=3)
    assert accounts.reported() == [("account:alice", "account-bounces")]


def test_a_travelling_user() -> None:
    """At home, in the tram by two mobile networks, at the station, in the train, and at work."""
    accounts = Accounts(alice=20)
    for number in range(12):
        accounts.mail(number * 280.0, "alice", client=f"203.0.{number % 6}.7")
    assert accounts.reported() == []


def test_the_twin_of_the_travelling_user_is_a_botnet() -> None:
    accounts = Accounts(alice=20)
    for number in range(12):
        accounts.mail(number * 280.0, "alice", client=f"203.0.{number}.7")
    assert accounts.reported() == [("account:alice", "account-networks")]


def test_a_web_shops_confirmations() -> None:
    """A sale: nine times the orders of its best day so far."""
    accounts = Accounts(shop=100)
    for number in range(900):
        accounts.mail(number * 80.0, "shop")
    assert accounts.reported() == []


def test_the_twin_of_the_web_shop_has_a_form_that_anybody_can_use() -> None:
    """Strangers have it write to whom they like."""
    accounts = Accounts(shop=100)
    for number in range(1100):
        accounts.mail(number * 60.0, "shop")
    assert accounts.reported() == [("account:shop", "account-volume")]
