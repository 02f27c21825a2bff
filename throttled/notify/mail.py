"""Mail to the operator, by SMTP to the local Postfix. Also a process of its own, see `hook`.

As a process it sends the message of standard input (JSON, see `Letter`) and ends with 0 once the
server has accepted it, else with a sentence on standard error. The envelope's sender is empty: a
mail that cannot be delivered causes no bounce, and Postfix's log shows no sender whose messages
a limit could count (`decide/queue.py` counts none without). Owns no state.
"""

import os
import smtplib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

import msgspec

from throttled.errors import ThrottledError
from throttled.notify.letter import Letter
from throttled.printable import blanked

#: Seconds for each step of the session.
_TIMEOUT = 30.0


def send(letter: Letter) -> None:
    """Send a mail.

    Raises:
        ThrottledError: the server did not accept it; the hint says what to look at.
    """
    with _session(letter.server) as session:
        try:
            session.send_message(message(letter), "", [letter.to])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, text)] = error.recipients.values()
            raise _refused(letter.to, code, text) from error


def accepts(to: str, server: str) -> None:
    """Ask a mail server whether it accepts mail to an address; send none.

    Raises:
        ThrottledError: it does not.
    """
    with _session(server) as session:
        session.ehlo_or_helo_if_needed()
        for code, text in (session.mail(""), session.rcpt(to)):
            if code // 100 != 2:
                raise _refused(to, code, text)


def _refused(to: str, code: int, text: bytes | str) -> ThrottledError:
    return ThrottledError(
        f"the mail server refused {to}: {code} {_plain(text)}", "correct the address"
    )


@contextmanager
def _session(server: str) -> Iterator[smtplib.SMTP]:
    """Give a session, and raise SMTP's errors as ThrottledError."""
    host, _, port = server.rpartition(":")
    hint = f"is Postfix running, and is [notify] smtp right? it is {server}"
    try:
        session = smtplib.SMTP(host.strip("[]"), int(port), _name(), timeout=_TIMEOUT)
        try:
            yield session
        finally:
            with suppress(OSError, smtplib.SMTPException):  # all that matters is answered
                session.quit()
            session.close()
    except smtplib.SMTPResponseException as error:
        what = f"the mail server refused the mail: {error.smtp_code} {_plain(error.smtp_error)}"
        raise ThrottledError(what, "see the mail server's log") from error
    except (OSError, smtplib.SMTPException) as error:
        raise ThrottledError(f"mail server {server}: {error}", hint) from error


def message(letter: Letter) -> EmailMessage:
    """Return the message; line breaks in its header fields cannot be."""
    name = _name()
    made = EmailMessage(policy=SMTP)
    made["From"] = f"throttled <root@{name}>" if "." in name else "throttled <root>"
    made["To"] = letter.to
    # Python decodes encoded words (RFC 2047) in what it is given, and these may have line breaks.
    made["Subject"] = " ".join(letter.subject.split()).replace("=?", "= ?")
    made["Date"] = formatdate(localtime=True)
    made["Message-ID"] = make_msgid(domain=name)
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(letter.text)
    if letter.page:
        made.add_attachment(letter.page, subtype="html", filename="report.html")
    return made


def _name() -> str:
    return os.uname().nodename or socket.gethostname()


def _plain(text: bytes | str) -> str:
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(blanked(decoded).split())


def main() -> int:
    """Send what standard input says, and return the exit code."""
    try:
        send(msgspec.json.decode(sys.stdin.buffer.read(), type=Letter))
    except (ThrottledError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
