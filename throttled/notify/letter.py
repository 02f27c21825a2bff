"""A mail to the operator, as the daemon hands it to the process that sends it (`mail`). Pure."""

from msgspec import Struct


class Letter(Struct):
    """A mail: text, and for a report its page."""

    to: str
    subject: str
    text: str
    page: str = ""  # HTML, attached
    server: str = "localhost:25"
