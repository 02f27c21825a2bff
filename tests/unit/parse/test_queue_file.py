"""What postqueue and postcat of Postfix 3.7 print."""

from throttled.parse.queue_file import Queued, listed, read

LIST = """\
-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
E729423062D     213 Sun Nov 29 12:00:52  someone@example.net
                                                                       (later)
                                         b@later.test

D396C230625*    194 Sun Nov  9 12:00:52  MAILER-DAEMON
                                         D396C230626     194 Sun Nov 29 12:00:52  a@x.test

4jcT2p1kjCzKT37!     194 Sun Nov 29 12:00:52  someone@example.net
                                         a@later.test

-- 0 Kbytes in 3 Requests.
"""
ENVELOPE = """\
*** ENVELOPE RECORDS deferred/D/D396C230625 ***
message_size:             194             710               1               0
named_attribute: sasl_method=PLAIN
named_attribute: sasl_username=alice
sender: someone@example.net
named_attribute: log_client_address=198.18.70.7
named_attribute: client_address=198.18.70.7
named_attribute: helo_name=named_attribute: sasl_username=eve
named_attribute: sasl_username=eve
original_recipient: a@later.test
*** MESSAGE FILE END deferred/D/D396C230625 ***
"""


def test_queue_ids_but_those_of_bounces() -> None:
    assert listed(LIST) == ["E729423062D", "4jcT2p1kjCzKT37"]
    assert listed("Mail queue is empty\n") == []


def test_who_queued_a_message() -> None:
    assert read(ENVELOPE) == Queued("alice", "198.18.70.7", "someone@example.net")
    assert read("sender: \nnamed_attribute: client_address=unknown\n") == Queued()
