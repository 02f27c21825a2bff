"""Clients that send mail through smtplib, from an address of their own."""

import smtplib

from lab.mail.postfix import PASSWORD
from lab.network.netns import DEADMAN, SERVER4, SERVER6, Namespace

LETTER = "Subject: x\r\n\r\nx\r\n"


def greets(client: Namespace, source: str, port: int = 25) -> bool:
    """Return whether the lab's Postfix greets a source.

    Else its packets are dropped, or the daemon ends the session that was let in. The kernel answers
    a connection at once; Postfix may take its time for the greeting.
    """
    try:
        with client.connect(source, SERVER6 if ":" in source else SERVER4, port, 0.7) as sock:
            sock.settimeout(DEADMAN)
            return sock.recv(100).startswith(b"220 ")
    except (TimeoutError, ConnectionResetError):
        return False


def session(source: str, user: str = "", seconds: float = 60.0) -> smtplib.SMTP:
    """Open a session with the lab's Postfix; the calling thread is in the client's namespace.

    Args:
        source: address of the client, which connects by the same version of IP.
        user: as whom it logs in, at port 587; if empty it does not, at port 25.
        seconds: after which it gives up a reply.
    """
    target, port = SERVER6 if ":" in source else SERVER4, 587 if user else 25
    made = smtplib.SMTP(target, port, timeout=seconds, source_address=(source, 0))
    made.ehlo("client.example.net")
    if user:
        made.login(user, PASSWORD)
    return made
