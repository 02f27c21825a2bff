"""The way from an address that a client names to the mailboxes that its mail is delivered to."""

import pytest

from throttled.decide.mailboxes import Mailboxes
from throttled.model import Event, Message

ALICE, BOB = ("mailbox:alice@a.test", "domain:a.test"), ("mailbox:bob@b.test", "domain:b.test")


def learnt(*deliveries: tuple[str, str]) -> Mailboxes:
    """Return what knows of deliveries: the address before it was rewritten, and the mailbox."""
    made = Mailboxes()
    made.enabled = True
    for original, mailbox in deliveries:
        deliver(made, original, mailbox)
    return made


def deliver(
    made: Mailboxes, original: str, mailbox: str, process: str = "local", status: str = "sent"
) -> str:
    """Let a delivery be read; return the mailbox that it was to."""
    event = Event("delivery", "", process, "postfix", 1, 1.0)
    message = Message("3A5C01F2B", original=original, recipient=mailbox, status=status)
    return made.learn(event, message)


def test_an_address_that_is_not_known_is_itself() -> None:
    made = learnt()
    assert made.targets("Alice@A.test") == (ALICE, [])
    assert made.targets("alice") == (("mailbox:alice",), [])
    assert made.targets("\u00c3\u00a4@a.test")[0][0] == "mailbox:\u00e4@a.test"  # UTF-8


def test_an_alias_leads_to_where_its_mail_was_delivered() -> None:
    made = learnt(("Info@A.test", "bob@b.test"), ("info@a.test", "bob@b.test"), ("", "bob@b.test"))
    assert made.targets("info@a.test") == (("mailbox:info@a.test", "domain:a.test"), [BOB])
    assert made.targets("bob@b.test") == (BOB, [BOB])
    assert deliver(made, "info@a.test", "alice@a.test") == ALICE[0]
    assert made.targets("INFO@a.test")[1] == [BOB, ALICE]
    made.enabled = False
    assert deliver(made, "other@a.test", "alice@a.test") == ALICE[0]
    assert made.targets("other@a.test")[1] == []
    made.clear()
    assert made.targets("info@a.test")[1] == []


def test_of_a_long_list_it_is_known_that_there_are_others() -> None:
    made = learnt(*(("list@a.test", f"m{n}@a.test") for n in range(12)))
    found = made.targets("list@a.test")[1]
    assert (len(found), found[-1]) == (9, ())


def test_a_pipe_delivers_to_mailboxes_if_its_transport_does() -> None:
    made = learnt()
    made.pipes = frozenset({"dovecot"})

    def piped(relay: str) -> str:
        event = Event("delivery", "", "pipe", "postfix", 1, 1.0)
        message = Message("3A5C01F2B", recipient="bob@b.test", status="sent", relay=relay)
        return made.learn(event, message)

    assert piped("spamassassin") == ""  # a filter: its mail comes back
    assert piped("dovecot") == BOB[0]


def test_what_a_filter_takes_over_is_no_delivery() -> None:
    made = learnt()
    event = Event("delivery", "", "lmtp", "postfix", 1, 1.0)
    message = Message("3A5C01F2B", recipient="bob@b.test", status="sent", following="4B6D12F3C")
    assert made.learn(event, message) == ""
    assert made.targets("bob@b.test")[1] == []


def test_a_name_that_nobody_has_takes_no_room() -> None:
    made = learnt()
    assert deliver(made, "", "bob@b.test", status="bounced") == BOB[0]
    assert made.targets("bob@b.test")[1] == []


def test_an_extension_leads_where_its_address_does() -> None:
    made = learnt(("info@a.test", "bob@b.test"))
    made.delimiters = "+"
    assert deliver(made, "", "bob+x@b.test") == BOB[0]  # and is not remembered
    assert made.targets("bob+y@b.test")[1] == [BOB]
    assert made.targets("alice+y@a.test")[1] == [ALICE]  # nothing was delivered yet
    assert made.targets("info+1@a.test")[1] == [BOB]
    deliver(made, "info+sales@a.test", "alice@a.test")  # an alias of its own
    assert made.targets("info+sales@a.test")[1] == [ALICE]
    assert deliver(made, "bob+z@b.test", "carol@b.test", "smtp") == ""
    assert made.targets("bob+z@b.test")[1] == [()]


@pytest.mark.parametrize("address", ["postmaster", "Postmaster", "POSTMASTER@a.test"])
def test_a_postmaster_is_nobody_who_could_receive_too_much(address: str) -> None:
    assert learnt((address, "bob@b.test")).targets(address) == ((), [])
