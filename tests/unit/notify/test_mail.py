"""Mail: what the server gets, and what is said where it refuses."""

import subprocess
import sys
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import msgspec
import pytest

from lab.programs import smtp_sink
from throttled.errors import ThrottledError
from throttled.notify.letter import Letter
from throttled.notify.mail import message, send


def test_a_mail_with_a_page_and_an_empty_sender() -> None:
    with smtp_sink.serve() as sink:
        send(Letter("root@example.org", "Bänne:\r\nBcc: x@y", "tëxt\n.\n", "<p>é", sink.address))
    [mail] = sink.mails
    assert (mail.sender, mail.recipients) == ("", ["root@example.org"])
    found = mail.message()
    assert found["Subject"] == "Bänne: Bcc: x@y"
    assert found["Bcc"] is None
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["Date"]
    assert found["Message-ID"]
    body, page = found.iter_parts()
    assert body.get_content() == "tëxt\r\n.\r\n"
    assert page.get_filename() == "report.html"
    assert page.get_content().strip() == "<p>é"


@pytest.mark.parametrize(
    "text",
    [
        "account:=?utf-8?q?=0D=0A=0D=0Aevil_body?= is above",
        "x =?utf-8?b?DQpCY2M6IHg=?= y",
        "a=?utf-8?q?=0D=0AX:_y?=b",
        "=?=?utf-8?q?=0D=0AX:_y?=",
        "é =?utf-8?q?=0AX:_y?= é",
        "\x0bX: y\u2028X: y",
    ],
)
def test_what_clients_write_is_text_of_the_subject(text: str) -> None:
    made = bytes(message(Letter("root", text, "text\n")))
    fields = [line.partition(b":")[0] for line in made.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    assert b"X" not in fields
    assert b"Bcc" not in fields
    found = message_from_bytes(made, policy=default)
    assert found["Subject"] == " ".join(text.replace("=?", "= ?").split())
    assert isinstance(found, EmailMessage)
    assert found.get_content() == "text\r\n"


def test_text_alone() -> None:
    assert message(Letter("root", "s", "text\n")).get_content_type() == "text/plain"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("RCPT", r"refused root: 554 5\.7\.1 not wanted here"),
        ("DATA", "refused the mail: 554 5.7.1 not"),
        (".", "refused the mail: 554 5.6.0 no"),
    ],
)
def test_a_refusal_is_an_error(command: str, said: str) -> None:
    with smtp_sink.serve(command) as sink, pytest.raises(ThrottledError, match=said):
        send(Letter("root", "s", "text", server=sink.address))


def test_an_accepted_mail_is_sent_however_the_session_ends() -> None:
    with smtp_sink.serve("QUIT") as sink:
        send(Letter("root", "s", "text", server=sink.address))
    assert len(sink.mails) == 1


def test_no_server_is_an_error() -> None:
    with smtp_sink.serve() as sink:
        gone = sink.address
    with pytest.raises(ThrottledError, match=f"mail server {gone}: .*refused") as failed:
        send(Letter("root", "s", "text", server=gone))
    assert "[notify] smtp" in failed.value.hint


def test_as_a_process() -> None:
    def run(data: bytes) -> subprocess.CompletedProcess[bytes]:
        argv = [sys.executable, "-m", "throttled.notify.mail"]
        return subprocess.run(argv, input=data, capture_output=True, check=False, timeout=60)

    with smtp_sink.serve() as sink:
        letter = msgspec.json.encode(Letter("root", "s", "text", server=sink.address))
        assert run(letter).returncode == 0
        assert len(sink.mails) == 1
    ended = run(letter)
    assert ended.returncode == 1
    assert b"Connection refused" in ended.stderr
    assert run(b"{").returncode == 1
