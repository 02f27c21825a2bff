"""Whose a message is, from lines as Postfix writes them."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC
from functools import partial
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lab.mail.orders import MESSAGES, shuffled
from lab.mail.orders import Message as Filtered
from throttled.decide import owners, place
from throttled.decide import queue as room
from throttled.decide.queue import Queue
from throttled.decide.uses import Use
from throttled.facts import Facts
from throttled.model import Event, Message
from throttled.parse.parser import Parser

FACTS = Facts(
    mynetworks=("127.0.0.0/8", "198.51.100.0/24"),
    own=frozenset({"192.0.2.1"}),
    xforward=("192.0.2.9",),
    sasl_domain="example.test",
)
SUBMISSION = "submission/smtpd[1]: {}: client=x[203.0.113.7], sasl_method=PLAIN, sasl_username={}"
CLIENT = "smtpd[1]: {}: client=x[{}]"
ACTIVE = "qmgr[2]: {}: from=<{}>, size=400, nrcpt={} (queue active)"
SENT = (
    "{}[3]: {}: to=<b@example.test>, relay={}, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent ({})"
)
BOUNCED = (
    "smtp[3]: {}: to=<x@example.net>, relay=mx.example.net[203.0.113.25]:25, delay=1, "
    "delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.example.net[203.0.113.25] said: 550 no)"
)
REMOVED = "qmgr[2]: {}: removed"


class Log:
    """Takes lines, and adds up what subjects did."""

    def __init__(self, facts: Facts = FACTS, cap: int = 100) -> None:
        self.queue = Queue(facts, cap)
        self.used: Counter[tuple[str, str]] = Counter()
        self.time = "10:00:00"
        self._parser = Parser(UTC, 1.8e9)

    def __call__(self, *bodies: str) -> dict[tuple[str, str], int]:
        for body in bodies:
            event = self._parser.event(f"Nov 22 {self.time} mx postfix/{body}")
            assert event is not None, body
            for use in self.queue.step(event):
                self.used[use.subject, use.counted] += use.amount
        return {key: n for key, n in self.used.items() if key[1] not in ("bytes", "networks")}

    def later(self) -> dict[tuple[str, str], int]:
        """Let the time of all that waits be over."""
        self.time = "10:01:00"
        return self(REMOVED.format("FFFFFFFFF"))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_message_of_an_account(log: Log) -> None:
    log(SUBMISSION.format("3A5C01F2B", "Alice"), ACTIVE.format("3A5C01F2B", "a@example.test", 3))
    log(BOUNCED.format("3A5C01F2B"), ACTIVE.format("3A5C01F2B", "a@example.test", 2))
    assert log.queue.subject("3A5C01F2B") == "account:alice"
    assert log.used == {
        ("account:alice", "networks"): 1,
        ("account:alice", "messages"): 1,
        ("account:alice", "recipients"): 3,
        ("account:alice", "bytes"): 400,
        ("account:alice", "bounces"): 1,
    }
    log(REMOVED.format("3A5C01F2B"), BOUNCED.format("3A5C01F2B"))
    assert len(log.queue) == 0
    assert log.used["account:alice", "bounces"] == 1
    assert log.queue.subject("3A5C01F2B") == ""


def test_names_are_joined_and_shown_as_first_written(log: Log) -> None:
    log(*(SUBMISSION.format("3A5C01F2B", n) for n in ("Alice", "alice@Example.Test", "ALICE")))
    assert set(log.used) == {("account:alice", "networks")}
    assert log.queue.shown("account:alice") == "account:Alice"
    assert log.queue.shown("uid:3") == "uid:3"


def test_names_that_are_not_ascii(log: Log) -> None:
    """A line has a character per byte, and a name in UTF-8 two for a letter with an umlaut."""
    name = "J\u00dcRGEN".encode().decode("latin-1")
    log(SUBMISSION.format("3A5C01F2B", name))
    sent = SENT.format("lmtp", "3A5C01F2C", "x", "ok")
    log(sent.replace("b@example", "\u00e4@\u00f6".encode().decode("latin-1")))
    assert set(log.used) == {
        ("domain:ö.test", "received"),
        ("account:j\u00fcrgen", "networks"),
        ("mailbox:\u00e4@\u00f6.test", "messages"),
    }
    assert log.queue.shown("account:j\u00fcrgen") == "account:J\u00dcRGEN"


def test_networks_of_a_login(log: Log) -> None:
    event = Event("login", "203.0.113.7", "smtpd", "postfix", 1, 0.0, user="a")  # no message
    parsed = Parser(UTC, 1.8e9).event(
        f"Nov 22 10:00:00 mx postfix/{SUBMISSION.format('3A5C01F2B', 'a')}"
    )
    assert parsed is not None
    assert log.queue.step(parsed) == (Use("account:a", "networks", 1, "203.0.113.0/24"),)
    assert log.queue.step(event) == ()


def test_local_users_and_inside_hosts(log: Log) -> None:
    log("pickup[1]: 3A5C01F2B: uid=33 from=<www-data>", ACTIVE.format("3A5C01F2B", "w@x.test", 1))
    log(CLIENT.format("3A5C01F2C", "198.51.100.9"), ACTIVE.format("3A5C01F2C", "p@x.test", 2))
    log(CLIENT.format("3A5C01F2D", "127.0.0.1"), ACTIVE.format("3A5C01F2D", "q@x.test", 1))
    assert log.later() == {
        ("uid:33", "messages"): 1,
        ("uid:33", "recipients"): 1,
        ("198.51.100.9", "messages"): 1,
        ("198.51.100.9", "recipients"): 2,
        ("127.0.0.1", "messages"): 1,
        ("127.0.0.1", "recipients"): 1,
    }


@pytest.mark.parametrize(
    "lines",
    [
        [CLIENT.format("3A5C01F2B", "203.0.113.9")],  # a stranger
        [],  # queued before the start
        ["pickup[1]: 3A5C01F2B: uid=102 from=<a@x.test> orig_id=4C5C01F2B"],  # of a stranger
        # a short id that is used again
        [SUBMISSION.format("3A5C01F2B", "alice"), CLIENT.format("3A5C01F2B", "203.0.113.9")],
        [
            SUBMISSION.format("3A5C01F2B", "alice"),
            "pickup[1]: 3A5C01F2B: uid=102 from=<a@x.test> orig_id=4C5C01F2B",
        ],
        # a null sender: an answer, a notification
        [SUBMISSION.format("3A5C01F2B", "alice"), ACTIVE.format("3A5C01F2B", "", 1)],
        # a stranger's, handed back by a filter
        [CLIENT.format("3A5C01F2B", "127.0.0.1") + ", orig_queue_id=4C5C01F2B"],
        # XFORWARD of a host that may not use it
        [
            SUBMISSION.format("4C5C01F2B", "alice"),
            CLIENT.format("3A5C01F2B", "203.0.113.9") + ", orig_queue_id=4C5C01F2B",
        ],
    ],
)
def test_mail_that_is_nobodys(log: Log, lines: list[str]) -> None:
    assert log(*lines, ACTIVE.format("3A5C01F2B", "a@x.test", 3), BOUNCED.format("3A5C01F2B")) == {}


@pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.9"])
def test_a_content_filter_with_xforward(log: Log, client: str) -> None:
    first, second = "4jcT2p1kjCzKT37", "4jcT2p1kjCzKT38"
    log(SUBMISSION.format(first, "alice"), ACTIVE.format(first, "a@x.test", 3))
    log(CLIENT.format(second, client) + f", orig_queue_id={first}, orig_client=x[203.0.113.7]")
    log(SENT.format("smtp", first, f"x[{client}]:10024", f"250 Ok: queued as {second}"))
    log(REMOVED.format(first), ACTIVE.format(second, "a@x.test", 3), BOUNCED.format(second))
    assert log() == {
        ("account:alice", "messages"): 1,
        ("account:alice", "recipients"): 3,
        ("account:alice", "bounces"): 1,
    }
    log(CLIENT.format("3A5C01F2B", "127.0.0.1"), ACTIVE.format("3A5C01F2B", "a@x.test", 1))
    assert log.later()["127.0.0.1", "messages"] == 1


def test_a_filters_answer_outweighs_what_xforward_says(log: Log) -> None:
    """After `postsuper -r` XFORWARD has a queue id from before, which may be used again by now."""
    log(SUBMISSION.format("3A5C01F2B", "alice"), ACTIVE.format("3A5C01F2B", "a@x.test", 1))
    log(SUBMISSION.format("4A5C01F2B", "bob"), ACTIVE.format("4A5C01F2B", "b@x.test", 1))
    for number, first in enumerate(("3A5C01F2B", "5A5C01F2B")):
        second = f"6A5C01F2{number}"
        log(CLIENT.format(second, "127.0.0.1") + ", orig_queue_id=4A5C01F2B")
        log(ACTIVE.format(second, "a@x.test", 1), BOUNCED.format(second))
        log(SENT.format("smtp", first, "x[127.0.0.1]:10024", f"250 Ok: queued as {second}"))
        log(REMOVED.format(first), BOUNCED.format(second))
    assert log()["account:alice", "bounces"] == 2
    assert ("account:bob", "bounces") not in log.later()


def test_a_message_that_is_gone_when_it_is_known_whose_it_is(log: Log) -> None:
    """Behind two filters: the last is evicted, or its id is used again, before the first's line."""
    last = "5A5C01F2B"
    for number, first in enumerate(("3A5C01F20", "3A5C01F21")):
        if number == 0:  # else a stranger's
            log(SUBMISSION.format(first, "alice"), ACTIVE.format(first, "a@x.test", 1))
        second = f"4A5C01F2{number}"
        for one in (second, last):
            log(CLIENT.format(one, "127.0.0.1"), ACTIVE.format(one, "a@x.test", 1))
        log(SENT.format("smtp", second, "x[127.0.0.1]:10025", f"250 Ok: queued as {last}"))
        log(SUBMISSION.format(last, "bob"))
        log(SENT.format("smtp", first, "x[127.0.0.1]:10024", f"250 Ok: queued as {second}"))
    assert log.queue.subject(last) == "account:bob"
    assert log.queue.subject("4A5C01F20") == "account:alice"
    assert log.queue.subject("4A5C01F21") == ""


def test_what_names_no_message_here(log: Log) -> None:
    """XFORWARD of another host, and a filter before the queue whose answer is not a queue id's."""
    log(CLIENT.format("3A5C01F2B", "192.0.2.9") + ", orig_queue_id=4A5C01F2B")
    log("smtpd[1]: proxy-accept: END-OF-MESSAGE: 250 Ok: queued as 5A5C01F2B; from=<a@x.test>")
    assert len(log.queue) == 0


def test_a_stranger_with_xforward_and_no_answer_is_nobody(log: Log) -> None:
    log(CLIENT.format("3A5C01F2B", "127.0.0.1") + ", orig_queue_id=4A5C01F2B")
    log(ACTIVE.format("3A5C01F2B", "a@x.test", 1), BOUNCED.format("3A5C01F2B"))
    assert log.later() == {}


def test_a_content_filter_without_xforward(log: Log) -> None:
    for number, first in enumerate(("3A5C01F2B", "3A5C01F2C")):
        second = f"4A5C01F2{number}"
        log(SUBMISSION.format(first, "alice"), ACTIVE.format(first, "a@x.test", 3))
        log(CLIENT.format(second, "127.0.0.1"), ACTIVE.format(second, "a@x.test", 3))
        log(SENT.format("smtp", first, "x[127.0.0.1]:10024", f"250 Ok: queued as {second}"))
        log(REMOVED.format(first), ACTIVE.format(second, "a@x.test", 3), BOUNCED.format(second))
    log(CLIENT.format("5A5C01F2B", "127.0.0.1"), ACTIVE.format("5A5C01F2B", "a@x.test", 1))
    assert log.later() == {
        ("account:alice", "messages"): 2,
        ("account:alice", "recipients"): 6,
        ("account:alice", "bounces"): 2,
    }, "which of the messages of this host are a filter's cannot be known"


def test_what_an_alias_forwards_through_a_filter_says_nothing_of_the_sender(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_NAMES", 1)
    for number in range(2):
        first, second = f"3A5C01F2{number}", f"4A5C01F2{number}"
        log(SUBMISSION.format(first, "alice"), ACTIVE.format(first, "a@x.test", 3))
        log(CLIENT.format(second, "127.0.0.1") + f", orig_queue_id={first}")
        sent = SENT.format("smtp", first, "x[127.0.0.1]:10024", f"250 Ok: queued as {second}")
        alias = "to=<x@example.net>, orig_to=<list@x.test>"
        log(sent.replace("to=<b@example.test>", alias), BOUNCED.format(second))
    assert log().get(("account:alice", "bounces")) is None
    assert len(log.queue._forwarded) <= 2


def test_a_strangers_mail_through_a_filter_is_nobodys(log: Log) -> None:
    log(CLIENT.format("3A5C01F2B", "203.0.113.9"), CLIENT.format("4A5C01F2B", "127.0.0.1"))
    log(SENT.format("smtp", "3A5C01F2B", "x[127.0.0.1]:10024", "250 Ok: queued as 4A5C01F2B"))
    assert log(ACTIVE.format("4A5C01F2B", "a@x.test", 3), BOUNCED.format("4A5C01F2B")) == {}


def test_no_other_server_names_a_queue_id_of_ours(log: Log) -> None:
    log(SUBMISSION.format("3A5C01F2B", "eve"), SUBMISSION.format("3A5C01F2C", "alice"))
    log(CLIENT.format("3A5C01F2D", "127.0.0.1"))
    for one in ("3A5C01F2C", "3A5C01F2D"):
        log(SENT.format("smtp", "3A5C01F2B", "mx[203.0.113.25]:25", f"250 Ok: queued as {one}"))
    log(SENT.format("smtp", "3A5C01F2B", "x[127.0.0.1]:25", "250 Ok: queued as 3A5C01F2C"))
    assert log.queue.subject("3A5C01F2C") == "account:alice"
    assert log.queue.subject("3A5C01F2D") == "127.0.0.1"


def test_a_message_that_is_queued_again(log: Log) -> None:
    log(SUBMISSION.format("3A5C01F2B", "alice"), ACTIVE.format("3A5C01F2B", "a@x.test", 3))
    log("postsuper[4]: 3A5C01F2B: requeued")
    log("pickup[1]: 4A5C01F2B: uid=102 from=<a@x.test> orig_id=3A5C01F2B")
    log(ACTIVE.format("4A5C01F2B", "a@x.test", 3), BOUNCED.format("4A5C01F2B"))
    assert log() == {
        ("account:alice", "messages"): 1,
        ("account:alice", "recipients"): 3,
        ("account:alice", "bounces"): 1,
    }
    assert len(log.queue) == 1


def test_mailboxes_and_domains_that_are_delivered_for(log: Log) -> None:
    log(SENT.format("lmtp", "3A5C01F2B", "mx[private/lmtp]", "250 2.0.0 Saved"))
    log(
        SENT.format("local", "3A5C01F2B", "local", "delivered to mailbox").replace(
            "@example.test", ""
        )
    )
    log(SENT.format("smtp", "3A5C01F2B", "mx[203.0.113.25]:25", "250 Ok"))
    log(SENT.format("lmtp", "3A5C01F2B", "mx[203.0.113.25]:25", "250 Ok: queued as 4A5C01F2B"))
    for one, sender in (("3A5C01F2B", "a@Example.test"), ("3A5C01F2C", "a@forged.test")):
        log(SUBMISSION.format(one, "alice"), ACTIVE.format(one, sender, 2), BOUNCED.format(one))
    used = {key: n for key, n in log().items() if not key[0].startswith("account:")}
    assert used == {
        ("mailbox:b@example.test", "messages"): 1,
        ("mailbox:b", "messages"): 1,
        ("domain:example.test", "received"): 1,
        ("domain:example.test", "messages"): 1,
        ("domain:example.test", "recipients"): 2,
        ("domain:example.test", "bounces"): 1,
    }


@pytest.mark.parametrize(
    ("process", "status", "behind"),
    [
        ("smtp", "sent (250 Ok)", ()),  # a mailbox elsewhere
        ("smtp", "sent (250 Ok: queued as 4A5C01F2B)", ()),
        ("smtp", "deferred (no route)", ()),
        ("pipe", "sent (delivered via dovecot service)", ()),  # … and one that is not counted
        ("local", "deferred (its disk is full)", ("mailbox:c@example.test", "domain:example.test")),
        ("virtual", "bounced (no space)", ("mailbox:c@example.test", "domain:example.test")),
    ],
)
def test_an_alias_that_leads_to_others_too(
    log: Log, process: str, status: str, behind: tuple[str, ...]
) -> None:
    log.queue.mailboxes.enabled = True
    delivery = (
        "postfix/{}[1]: 3A5C01F2B: to=<{}@example.test>, orig_to=<both@example.test>, relay=x, "
        "delay=1, dsn=2.0.0, status={}"
    )
    log(delivery.format("local", "b", "sent (delivered to mailbox)"))
    bob = ("mailbox:b@example.test", "domain:example.test")
    assert log.queue.mailboxes.targets("both@example.test")[1] == [bob]
    log(delivery.format(process, "c", status))
    assert log.queue.mailboxes.targets("both@example.test")[1] == [bob, behind]
    log(SENT.format("smtp", "3A5C01F2B", "mx[203.0.113.25]:25", "250 Ok"))  # no alias
    assert log.queue.mailboxes.targets("b@example.test")[1] == []


def test_the_oldest_is_evicted_at_the_cap() -> None:
    log = Log(cap=3)
    for number in range(5):
        log(SUBMISSION.format(f"3A5C01F{number}B", "alice"))
    log(SUBMISSION.format("3A5C01F2B", "alice"))  # taken again: the youngest
    log(SUBMISSION.format("3A5C01F5B", "alice"))
    assert [log.queue.subject(f"3A5C01F{n}B") != "" for n in range(6)] == [
        *(False, False, True, False, True, True),
    ]
    assert (len(log.queue), log.queue.evicted) == (3, 3)


def test_everything_else_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_NAMES", "_DOMAINS"):
        monkeypatch.setattr(room, name, 2)
    monkeypatch.setattr(place, "_ADDRESSES", 2)
    monkeypatch.setattr(owners, "_SHARED", 2)
    log = Log()
    for number in range(9):
        log(SUBMISSION.format(f"3A5C01F{number}B", f"alice{number}"))
        log(CLIENT.format(f"4A5C01F{number}B", f"203.0.113.{number}"))
        log(SENT.format("lmtp", "1A5C01F2B", "x", "ok").replace("example.test", f"{number}.test"))
    queue = log.queue
    assert max(len(queue._names), len(queue._owners._shared), len(queue._hosted)) <= 2
    assert len(queue._here._known) <= 2


def test_a_message_known_from_its_queue_file(log: Log) -> None:
    log(SUBMISSION.format("3A5C01F2C", "bob"))
    for one in ("3A5C01F2B", "3A5C01F2C"):
        learned = log.queue.learn(one, "Alice", "203.0.113.7", "a@x.test")
        assert learned == (one == "3A5C01F2B")
        log(ACTIVE.format(one, "a@x.test", 3), BOUNCED.format(one))
    assert log()["account:alice", "bounces"] == 1
    assert ("account:alice", "messages") not in log()
    assert log()["account:bob", "bounces"] == 1
    assert log.queue.learn("3A5C01F21", "", "198.51.100.9", "a@x.test")
    for client, sender in (("198.51.100.9", ""), ("127.0.0.1", "a@x.test"), ("", "a@x.test")):
        assert not log.queue.learn("3A5C01F22", "", client, sender)


IDS = st.sampled_from([f"3A5C01F{n}B" for n in range(4)])
LINES = st.one_of(
    st.tuples(st.just(SUBMISSION), IDS, st.sampled_from(["alice", "bob"])),
    st.tuples(st.just(CLIENT), IDS, st.sampled_from(["203.0.113.9", "198.51.100.9"])),
    st.tuples(st.just(ACTIVE), IDS, st.sampled_from(["a@x.test", ""]), st.just(2)),
    st.tuples(st.just(BOUNCED), IDS),
    st.tuples(st.just(REMOVED), IDS),
)


@example(  # a short id that is used again
    lines=[
        (SUBMISSION, "3A5C01F2B", "alice"),
        (ACTIVE, "3A5C01F2B", "a@x.test", 2),
        (ACTIVE, "3A5C01F2B", "", 2),
        (BOUNCED, "3A5C01F2B"),
    ]
)
@given(st.lists(LINES, max_size=30))
def test_a_bounce_is_of_who_queued_that_id_last(lines: list[tuple[str, ...]]) -> None:
    log = Log()
    whose: dict[str, str] = {}
    expected: Counter[str] = Counter()
    for form, queue_id, *rest in lines:
        log(form.format(queue_id, *rest))
        if form is SUBMISSION:
            whose[queue_id] = f"account:{rest[0]}"
        elif form is CLIENT:
            whose[queue_id] = rest[0] if rest[0] == "198.51.100.9" else ""
        elif form is REMOVED or (form is ACTIVE and not rest[0]):
            whose[queue_id] = ""
        elif form is BOUNCED and whose.get(queue_id):
            expected[whose[queue_id]] += 1
    bounces = {subject: n for (subject, count), n in log.used.items() if count == "bounces"}
    assert bounces == dict(expected)


@settings(max_examples=300)
@given(MESSAGES, st.randoms(use_true_random=False))
def test_a_filters_messages_in_every_order_of_lines(
    specs: list[tuple[str, list[str], list[str]]], random: Random
) -> None:
    log = Log()
    messages = [Filtered(number, *spec) for number, spec in enumerate(specs)]
    answers = any(message.answered() for message in messages)
    expected: Counter[tuple[str, str]] = Counter()
    for message in messages:
        expected += message.expected(answers=answers)
    log(*shuffled(messages, random))
    assert log.later() == expected
    assert len(log.queue) == 0


def test_what_is_evicted_when_senders_are_switched_off(log: Log) -> None:
    log(SUBMISSION.format("3A5C01F2B", "Alice"))
    log.queue.clear()
    assert len(log.queue) == 0
    assert log.queue.shown("account:alice") == "account:alice"
    assert not log.queue.inside("203.0.113.99")


# Policy requests: what Postfix asks before it takes a message


def ask(log: Log, queue_id: str, user: str = "", client: str = "203.0.113.7") -> None:
    message = Message(queue_id, sender="a@example.test", recipients=3)
    event = Event("policy_request", client, "smtpd", "postfix", 0, 0.0, user=user, message=message)
    for use in log.queue.step(event):
        log.used[use.subject, use.counted] += use.amount


LOGIN = SUBMISSION.format("3A5C01F2B", "alice")
QUEUED = ACTIVE.format("3A5C01F2B", "a@example.test", 4)
ONCE = {("account:alice", "messages"): 1, ("account:alice", "recipients"): 3}


@pytest.mark.parametrize("order", ["asked first", "logged first", "asked twice", "read at last"])
def test_a_message_that_is_asked_about_counts_once(log: Log, order: str) -> None:
    asked, logged = partial(ask, log, "3A5C01F2B", "Alice"), partial(log, LOGIN)
    orders: dict[str, tuple[Callable[[], object], ...]] = {
        "asked first": (asked, logged, partial(log, QUEUED)),
        "logged first": (logged, asked, partial(log, QUEUED)),
        "asked twice": (asked, logged, asked, partial(log, QUEUED)),
        "read at last": (asked, partial(log, LOGIN, QUEUED)),
    }
    for step in orders[order]:
        step()
    assert log() == ONCE
    assert log.used["account:alice", "bytes"] == 400
    log(QUEUED, BOUNCED.format("3A5C01F2B"))
    assert log.used["account:alice", "bounces"] == 1
    assert log.used["account:alice", "bytes"] == 400


def test_a_queue_id_that_is_used_again_is_another_message(log: Log) -> None:
    for order in (0, 1):
        ask(log, "3A5C01F2B", "alice")
        log(LOGIN, QUEUED, *(() if order else (REMOVED.format("3A5C01F2B"),)))
    ask(log, "3A5C01F2B", "alice")  # the log is late: `removed` is not read yet
    log(LOGIN)
    assert log()["account:alice", "messages"] == 3
    log(LOGIN, QUEUED)  # Postfix does not ask any more
    assert log()["account:alice", "messages"] == 4


def test_inside_hosts_are_asked_about_and_others_are_nobody(log: Log) -> None:
    ask(log, "3A5C01F2B", client="198.51.100.9")
    log(CLIENT.format("3A5C01F2B", "198.51.100.9"), QUEUED)
    ask(log, "3A5C01F2C")  # a stranger
    ask(log, "3A5C01F2D", client="127.0.0.1")  # a filter may be on this host: the log knows
    ask(log, "3A5C01F2E", client="192.0.2.9")
    ask(log, "", "alice")
    assert log() == {("198.51.100.9", "messages"): 1, ("198.51.100.9", "recipients"): 3}
    assert len(log.queue) == 1


def test_a_bounce_that_is_asked_about_is_nobodys(log: Log) -> None:
    event = Event(
        *("policy_request", "198.51.100.9", "smtpd", "postfix", 0, 0.0),
        message=Message("3A5C01F2B"),
    )
    assert log.queue.step(event) == ()


def test_whose_a_message_is_says_the_log(log: Log) -> None:
    """Not a request, which a compromised smtpd may send of any account and queue id."""
    log(LOGIN)
    ask(log, "3A5C01F2B", "bob")
    assert log.queue.subject("3A5C01F2B") == "account:alice"
    assert log() == {("account:bob", "messages"): 1, ("account:bob", "recipients"): 3}
    log(QUEUED)
    assert log()["account:alice", "recipients"] == 4


def test_a_hosted_domain_is_asked_about_too(log: Log) -> None:
    log("local[3]: 1A5C01F2B: to=<b@example.test>, relay=local, delay=1, status=sent (x)")
    log.used.clear()
    ask(log, "3A5C01F2B", "alice")
    log(LOGIN, QUEUED)
    domain = {(s, c): n for (s, c), n in log().items() if s == "domain:example.test"}
    assert domain == {
        ("domain:example.test", "messages"): 1,
        ("domain:example.test", "recipients"): 3,
    }


def test_an_operators_subject_as_it_is_counted() -> None:
    queue = Queue(replace(FACTS, sasl_domain="example.test"))
    assert queue.counted("account:alice@example.test") == "account:alice"
    assert queue.counted("mailbox:alice@example.test") == "mailbox:alice@example.test"
    both = ["account:alice", "account:alice@example.test"]
    assert queue.spellings("account:alice") == queue.spellings(both[1]) == both
