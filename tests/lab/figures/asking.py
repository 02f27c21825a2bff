"""Asks a policy server as fast as it answers, or so often a second, over many connections.

`python asking.py SOCKET CONNECTIONS RATE SECONDS [STATE]` prints the time of each request, in
seconds, one a line; the protocol state is DATA unless given. Run as a process of its own, so that
what it costs is not the server's.
"""

import selectors
import socket
import sys
import time
from collections import deque

_REQUEST = """\
request=smtpd_access_policy
protocol_state={state}
protocol_name=ESMTP
client_address=203.0.113.7
client_name=mx.example.net
client_port=40123
reverse_client_name=mx.example.net
server_address=198.51.100.1
server_port=587
helo_name=laptop.example.net
sender=user{user}@example.test
recipient=someone@example.net
recipient_count=1
queue_id={queue_id}
instance=1a2b.6541.7c.0
size=0
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username=user{user}@example.test
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=

"""


def request(number: int, state: str = "DATA") -> bytes:
    """Return a request as Postfix writes it, of one of 10,000 accounts."""
    values = {"user": number % 10_000, "queue_id": f"{number:06X}A", "state": state}
    return _REQUEST.format(**values).encode()


def main(
    path: str, connections: int, rate: float, seconds: float, state: str = "DATA"
) -> list[float]:
    """Ask, at a rate, and return the seconds that each answer lasted."""
    selector = selectors.DefaultSelector()
    idle: deque[socket.socket] = deque()
    for _ in range(connections):
        end = socket.socket(socket.AF_UNIX)
        end.connect(path)
        selector.register(end, selectors.EVENT_READ)
        idle.append(end)
    sent: dict[socket.socket, float] = {}
    times: list[float] = []
    begin = time.perf_counter()
    number = 0
    while (now := time.perf_counter() - begin) < seconds:
        while idle and number < now * rate:
            end = idle.popleft()
            sent[end] = time.perf_counter()
            end.sendall(request(number, state))
            number += 1
        for key, _events in selector.select(max(0.0, number / rate - now)):
            end = key.fileobj  # type: ignore[assignment]
            if end.recv(4096)[-1:] != b"\n":
                raise RuntimeError("no answer")
            times.append(time.perf_counter() - sent[end])
            idle.append(end)
    return times


if __name__ == "__main__":
    where, count, often, long, *state = sys.argv[1:]
    for lasted in main(where, int(count), float(often), float(long), *state):
        print(f"{lasted:.6f}")
