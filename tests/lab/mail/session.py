"""Clients that send mail through smtplib, from an address of their own."""

import smtplib

from lab.mail.postfix import PASSWORD
from lab.network.netns import SERVER4, SERVER6

LETTER = "Subject: x\r\n\r\nx\r\n"


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
