import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.model import Reason
from throttled.parse.reply import milter, reject


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        # the code decides
        ("450 4.7.1 <x>: Helo command rejected: Host not found; from", 450, "temporary"),
        ("421 4.3.0 mx Server local data error", 421, "temporary"),
        ("454 <x>: Relay access denied", 454, "relay"),
        # the DSN decides
        ("550 5.1.1 <x>: Recipient address rejected: User unknown in", 550, "unknown_user"),
        ("550 5.1.0 <x>: Sender address rejected: User unknown", 550, "access"),
        ("553 5.1.3 <x>: bad", 553, "syntax"),
        ("556 5.1.10 <x>: Recipient address rejected: Domain", 556, "content"),
        ("550 5.1.8 <x>: Sender address rejected: Domain not found", 550, "content"),
        ("552 5.2.2 <x>: Recipient address rejected: full", 552, "content"),
        ("550 5.3.2 Service currently unavailable", 550, "access"),
        ("552 5.3.4 Message size exceeds fixed limit", 552, "content"),
        ("503 5.5.0 <DATA>: Data command rejected: Improper use", 503, "protocol"),
        ("550 5.5.1 Protocol error; from=<>", 550, "protocol"),
        ("504 5.5.2 <x>: Helo command rejected: need fully-qualified hostname", 504, "syntax"),
        ("550 5.5.3 <x>: Recipient address rejected: Multi-recipient bounce", 550, "content"),
        ("550 5.6.7 <x>: Sender address rejected: x", 550, "content"),
        ("550 5.7.25 Client host rejected: cannot find your hostname", 550, "content"),
        ("550 5.7.23 <x>: Recipient address rejected: SPF", 550, "content"),
        ("550 5.7.0 <x>: Recipient address rejected: no", 550, "content"),
        ("550 5.4.1 <x>: Recipient address rejected: no", 550, ""),
        ("550 5.9.1 <x>: no", 550, ""),
        # 5.7.1: the text decides
        ("554 5.7.1 <x>: Relay access denied; from=<>", 554, "relay"),
        ("554 5.7.1 <x>: Client host rejected: Access denied", 554, "access"),
        ("550 5.7.1 Client host rejected: cannot find your hostname, [x]", 550, "content"),
        ("554 5.7.1 Service unavailable; Client host [x] blocked using y", 554, "dnsbl"),
        ("554 5.7.1 Service unavailable; Unverified Client host [x] blocked", 554, "dnsbl"),
        ("554 5.7.1 Service unavailable; Helo command [x] blocked using y", 554, "dnsbl"),
        ("554 5.7.1 Client host [x] blocked, see http://", 554, "dnsbl"),
        ("550 5.7.1 Service unavailable; client [x] blocked using y", 550, "dnsbl"),
        ("554 5.7.1 Service unavailable; Sender address [x] blocked using y", 554, "content"),
        ("554 5.7.1 go away", 554, ""),
        # no DSN: the text decides
        ("554 <x>: Relay access denied", 554, "relay"),
        ("550 <x>: Recipient address rejected: User unknown", 550, "unknown_user"),
        ("501 <x>: Helo command rejected: Invalid name", 501, "syntax"),
        ("504 <x>: Helo command rejected: need fully-qualified hostname", 504, "syntax"),
        ("552 Message size exceeds fixed limit", 552, ""),
        # no code
        ("bare <LF> received; proto=SMTP", 0, "protocol"),
        ("too many connections", 0, "temporary"),
        ("all server ports busy", 0, "temporary"),
        ("something new", 0, ""),
        ("999 5.7.1 x", 0, ""),
    ],
)
def test_reject(text: str, code: int, reason: Reason) -> None:
    detail = reject(text)
    assert (detail.code, detail.reason, detail.text) == (code, reason, text)


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("550 5.7.1 Command rejected; from", 550, "milter"),
        ("5.7.1 Spam message rejected; from", 0, "milter"),
        ("451 4.7.1 Service unavailable - try again later", 451, "temporary"),
        ("4.7.1 Greylisted", 0, "temporary"),
        ("whatever", 0, "milter"),
    ],
)
def test_milter(text: str, code: int, reason: Reason) -> None:
    detail = milter(text)
    assert (detail.code, detail.reason) == (code, reason)


@given(st.text())
def test_a_client_cannot_talk_itself_out_of_a_reason(said: str) -> None:
    """What stands in <> is the client's, Postfix's words follow."""
    assert reject(f"554 5.7.1 <{said}>: Relay access denied; from=<{said}>").reason == "relay"
    unknown = f"550 5.1.1 <{said}>: Recipient address rejected: User unknown; to=<{said}>"
    assert reject(unknown).reason == "unknown_user"
    softened = f"454 4.7.1 <{said}>: Relay access denied; from=<{said}> to=<{said}>"
    assert reject(softened).reason == "relay"
    denied = reject(f"554 5.7.1 <{said}>: Helo command rejected: Access denied; helo=<{said}>")
    assert denied.reason not in {"", "content", "temporary"}


@given(st.text(st.characters(exclude_characters="<>")), st.text())
def test_a_client_cannot_say_that_it_has_logged_in(said: str, helo: str) -> None:
    """The name that it gives as HELO is written without blanks and brackets."""
    name = "".join(char if char not in ' <>()\\";@' else "?" for char in helo)
    text = f"550 5.1.1 <{said}>: Recipient address rejected: User unknown; from=<{said}>"
    forged = f'{text} to=<" proto=ESMTP helo=<a> sasl_username=<{said}> "@x> proto=SMTP'
    assert reject(f"{forged} helo=<{name}>").user == ""
    assert reject(forged).user == ""


def test_a_long_line_may_have_been_cut_behind_the_clients_words() -> None:
    forged = " proto=ESMTP helo=<a> sasl_username=<bob>"
    assert reject("554 5.7.1 <x>: Relay access denied; to=<x" + forged).user == "bob"
    assert reject(f"554 5.7.1 <x>: Relay access denied; to=<{'x' * 600}" + forged).user == ""


@pytest.mark.parametrize("code", ["550 5.1.1", "450 4.1.1"])
@pytest.mark.parametrize("what", ["undeliverable", "unverified"])
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("550 5.1.1 <u@example.org> User doesn't exist", "unknown_user"),
        ("550-5.1.1 no such user", "unknown_user"),
        ("550 unknown", "unknown_user"),
        ("550 5.4.1 Recipient address rejected: Access denied.", "unknown_user"),  # Exchange
        ("552 5.2.2 <u@example.org> Quota exceeded (mailbox for user is full)", "content"),
        ("552 mailbox full", "content"),
        ("550 5.2.1 disabled", "content"),
        ("554-5.3.0 trouble", "content"),
        ("554 5.7.1 <u@example.org>: Relay access denied", "content"),
    ],
)
def test_what_the_next_server_said_of_a_recipient(
    code: str, what: str, said: str, reason: Reason
) -> None:
    front = f"{code} <u@example.org>: Recipient address rejected: {what} address"
    text = f"{front}: host mx[10.0.0.1] said: {said} (in reply to RCPT TO command)"
    assert reject(f"{text}; from=<a@b.example> to=<u@example.org> proto=ESMTP").reason == reason


def test_a_recipient_that_imitates_what_the_next_server_said() -> None:
    words = "x>: Recipient address rejected: unverified address: host y said: 552 "
    for recipient in (words, words + "y" * 600):
        text = f"550 5.1.1 <{recipient}@example.org>: Recipient address rejected: User unknown in"
        text = f"{text} table; from=<a@b.example> to=<"
        whole = f'{text}"{recipient}"@example.org> proto=ESMTP'
        assert reject(text if len(recipient) > 600 else whole).reason == "unknown_user"


LISTED = "554 5.7.1 Service unavailable; Client host [x] blocked using list.example"
LONG = "." * 506


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("; error: open resolver; from=<a@b> to=<c@d> proto=ESMTP", "temporary"),
        ("; error: open resolver; proto=ESMTP helo=<x>", "temporary"),
        ("; error: open resolver", "temporary"),
        ("; spam; from=<error: open resolver@b> to=<c@d> proto=ESMTP", "dnsbl"),
        ("; spam; proto=ESMTP helo=<error: open resolver>", "dnsbl"),
        (f"; {LONG}error:", "temporary"),
        (f"; .{LONG}error:", "dnsbl"),  # a longer text than a list has
    ],
)
def test_what_a_list_says_of_who_asks_it(rest: str, reason: Reason) -> None:
    assert reject(LISTED + rest).reason == reason
    assert reject(f"4{LISTED[1:]}{rest}").reason == reason


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True)])
def test_a_line_may_be_cut_from_600_characters_on(*, more: int, cut: bool) -> None:
    login = " proto=ESMTP helo=<a> sasl_username=<bob>"
    text = "554 5.7.1 <x>: Relay access denied; to=<".ljust(599 + more - len(login), "x") + login
    assert reject(text).user == ("" if cut else "bob")
    front = "550 5.1.1 <u@x>: Recipient address rejected: undeliverable address: host mx"
    # The front is no part of what is measured.
    text = f"{front} said: 552 ".ljust(len("550 5.1.1 ") + 599 + more, "x")
    assert reject(text).reason == ("unknown_user" if cut else "content")


@pytest.mark.parametrize(
    ("sender", "null"),
    [
        ("; from=<> to=<u@x> proto", True),
        ("; from=<double-bounce@mx.example> to=<u@x>", True),
        ("; from=<a@b> to=<u@x>", False),
        ("", False),
        ("; from=<a@b; from=<> to=<> to=<u@x>", False),  # the client wrote the second one
    ],
)
def test_the_null_sender_is_what_postfix_says_it_is(sender: str, *, null: bool) -> None:
    unknown = f"550 5.1.1 <x>: Recipient address rejected: User unknown{sender}"
    assert reject(unknown).null_sender is null
    assert not reject(f"554 5.7.1 <x>: Relay access denied{sender}").null_sender
