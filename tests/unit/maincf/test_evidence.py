"""What lines say of limits. Lines are those of a real Postfix 3.7 (shared samples)."""

import pytest

from throttled.maincf import evidence as module
from throttled.maincf.evidence import Evidence

A, B = "mx.example.org[198.51.100.7]", "unknown[203.0.113.9]"


def test_a_session_that_delivered_is_honest() -> None:
    one = Evidence()
    one.read("smtpd", f"disconnect from {A} ehlo=1 mail=1 rcpt=2/9 data=1 quit=1 commands=6/13")
    one.read("smtpd", f"disconnect from {B} ehlo=1 mail=1 rcpt=0/40 commands=2/42")
    one.read("smtpd", f"disconnect from {A} ehlo=1 mail=1 rcpt=1 bdat=1 commands=4")
    assert one.highest("errors") == (7, "198.51.100.7")
    assert one.good == {"198.51.100.7"}


def test_a_login_is_honest() -> None:
    one = Evidence()
    one.read("smtpd", f"4F1A2: client={A}, sasl_method=PLAIN, sasl_username=alice")
    one.read("smtpd", f"disconnect from {B} ehlo=1 auth=1 commands=2")
    one.read("smtpd", "4F1A2: client=x[198.51.100.8]")
    assert one.good == {"198.51.100.7", "203.0.113.9"}


def test_anvil_counts_for_honest_clients_only() -> None:
    one = Evidence()
    one.peak("connection rate", "203.0.113.9", 90)
    one.peak("connection rate", "198.51.100.7", 9)
    one.peak("connection rate", "198.51.100.7", 4)
    one.peak("connection count", "198.51.100.7", 3)
    one.peak("cache size", "198.51.100.7", 8)
    one.read("anvil", "statistics: max cache size 3 at Nov 29 10:00:00")
    assert one.highest("connection rate") is None
    one.good.add("198.51.100.7")
    assert one.highest("connection rate") == (9, "198.51.100.7")
    assert one.highest("connections") == (3, "198.51.100.7")
    assert set(one.reached) == {"connection rate", "connections"}


def test_messages_in_the_queue() -> None:
    one = Evidence()
    one.read("qmgr", "4F1A2: from=<a@b.test>, size=12345, nrcpt=40 (queue active)")
    one.read(
        "qmgr", "4F1A3: from=<a, size=9, nrcpt=9 (queue active)@b>, size=1, nrcpt=2 (queue active)"
    )
    one.read("qmgr", "4F1A2: removed")
    assert one.highest("size") == (12345, "")
    assert one.highest("recipients") == (40, "")


def test_hits_by_client() -> None:
    one = Evidence()
    for client in (A, A, B):
        one.read("smtpd", f"too many errors after RCPT from {client}")
    one.read("cleanup", "warning: 4F1A2: queue file size limit exceeded")
    one.read("smtpd", f"warning: {A}: SASL LOGIN authentication failed: too many errors")
    one.read("smtpd", f"connect from {A}")
    one.read("local", "too many errors after RCPT from x[198.51.100.7]")
    hits = one.hits["smtpd_hard_error_limit"]
    assert (hits.count, hits.most()) == (3, [("198.51.100.7", 2), ("203.0.113.9", 1)])
    assert one.hits["message_size_limit"].count == 1
    assert one.hits["message_size_limit"].most() == []
    assert set(one.hits) == {"smtpd_hard_error_limit", "message_size_limit"}


def test_nothing_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLIENTS", 2)
    one = Evidence()
    for number in range(40):
        client = f"x[198.51.100.{number}]"
        one.read("smtpd", f"too many errors after RCPT from {client}")
        one.read("smtpd", f"disconnect from {client} data=1 commands=1/3")
    hits = one.hits["smtpd_hard_error_limit"]
    assert (hits.count, len(hits.clients), len(one.reached["errors"])) == (40, 2, 2)
    assert len(one.good) == 20
