"""Subjects that are no addresses: accounts, local users, mailboxes, domains. Pure.

Text as `account:alice`, `uid:33`, `mailbox:bob@example.org`, `domain:example.org`. An address or a
network is written as it is (`throttled.address`). The part behind the colon is case-folded, so
that equal subjects are equal strings. Owns one bounded cache, of the accounts of login names.
"""

import re
from functools import lru_cache
from typing import Literal

from throttled.address import is_named, is_subject, kind

Of = Literal["client", "account", "uid", "inside", "mailbox", "domain"]

#: A mailbox's local part has 64 characters at most, its domain 255 (RFC 5321, 4.5.3.1).
LONGEST = 320
#: Local parts that have no extension, whatever the delimiter is; and where it is "-".
_WHOLE = "postmaster", "mailer-daemon", "double-bounce"
_LIST = re.compile(r"owner-.*|.*-request", re.DOTALL)


def from_log(text: str) -> str:
    """Return text of a log line, one character per byte, as the UTF-8 that Postfix writes."""
    if text.isascii():
        return text
    return text.encode("latin-1", "backslashreplace").decode("utf-8", "backslashreplace")


def account(login: str, local_domain: str = "") -> str:
    """Return the subject of a login name.

    Args:
        login: as the client wrote it.
        local_domain: of smtpd_sasl_local_domain, which names the same account as no domain.
    """
    key = login.casefold()[:LONGEST]
    if local_domain:
        key = key.removesuffix(f"@{local_domain.casefold()}")
    return f"account:{key}"


@lru_cache(maxsize=4_096)  # a dictionary of names comes from a thousand addresses
def account_in_log(login: str, local_domain: str) -> str:
    """Return the subject of a login name as a log line has it, see `from_log` and `account`."""
    return account(from_log(login), local_domain)


def uid(number: int) -> str:
    """Return the subject of a local user who calls sendmail(1)."""
    return f"uid:{number}"


def mailbox(recipient: str) -> str:
    """Return the subject of a recipient's address."""
    return f"mailbox:{recipient.casefold()[:LONGEST]}"


def without_extension(mailbox_subject: str, delimiters: str) -> str:
    """Return a mailbox without the extension of its address: of alice+x that of alice.

    Postfix delivers to it where there is no other, and splits addresses so (split_addr.c).

    Args:
        mailbox_subject: as `mailbox` returns it.
        delimiters: characters of recipient_delimiter (postconf(5)).
    """
    name, at, where = mailbox_subject.removeprefix("mailbox:").rpartition("@")
    if not at:
        name, where = where, ""
    end = next((n for n, each in enumerate(name) if each in delimiters), 0)
    whole = name in _WHOLE or ("-" in delimiters and _LIST.fullmatch(name))
    return mailbox_subject if whole or not end else f"mailbox:{name[:end]}{at}{where}"


def domain(recipient: str) -> str:
    """Return the subject of an address's domain; "" where it has none."""
    name = recipient.rpartition("@")[2] if "@" in recipient else ""
    return f"domain:{name.casefold()[:LONGEST]}" if name else ""


def read(written: str) -> str:
    """Return the canonical text of a subject that an operator wrote: account:Alice, uid:33.

    Raises:
        ValueError: it is none.
    """
    word, _, name = written.strip().partition(":")
    found = f"{word.lower()}:{name.casefold()[:LONGEST]}"
    if not is_named(found) or of(found) is None:
        raise ValueError(f"not an account, uid, mailbox or domain: {written!r}")
    return found


def counted(canonical_subject: str, local_domain: str) -> str:
    """Return a canonical subject as it is counted: an account without the local domain.

    Args:
        canonical_subject: as `read` returns it, or an address or network.
        local_domain: see `account`.
    """
    if kind(canonical_subject) != "account":
        return canonical_subject
    return account(canonical_subject.removeprefix("account:"), local_domain)


def spellings(canonical_subject: str, local_domain: str) -> list[str]:
    """Return the canonical subjects that are counted as one: an account with and without domain.

    Args:
        canonical_subject: as `read` returns it, or an address, a network or a host name.
        local_domain: see `account`.
    """
    if not local_domain or kind(canonical_subject) != "account":
        return [canonical_subject]
    plain = counted(canonical_subject, local_domain)
    return [plain, f"{plain}@{local_domain.casefold()}"]


def of(subject: str) -> Of | None:
    """Return what a subject is; None for text that is none.

    An address or a network is `inside` here: which clients are outside only Postfix's mynetworks
    tell.
    """
    found = kind(subject)
    if found == "address" or found == "network":  # noqa: PLR1714 - so that mypy narrows
        return "inside" if is_subject(subject) else None
    name = subject[len(found) + 1 :]
    valid = name.isascii() and name.isdigit() if found == "uid" else name
    return found if valid else None
