"""A cap on strangers in front of a real Postfix: silent clients that never end, and good mail."""

import socket
import statistics
import time
from contextlib import ExitStack

import pytest

from lab.mail.postfix import Lab, lab
from lab.network.netns import SERVER4, SERVER6, until
from throttled.enforce import sockets
from throttled.enforce.admission.bpf import Bpf
from throttled.enforce.admission.protocol import AdmissionLimits

pytestmark = pytest.mark.root

GOOD = {4: "198.18.250.9", 6: "2001:db8:b:fa::9"}
CAP = 80
SILENT, EVERY = 300, 10  # connections; every so many the good client comes


def greeting(host: Lab, source: str, seconds: float = 30.0) -> float:
    """Return the seconds until Postfix greets a client."""
    begin = time.monotonic()
    target = SERVER6 if ":" in source else SERVER4
    with host.client.connect(source, target, 25, seconds) as made:
        assert made.recv(100).startswith(b"220 ")
        return time.monotonic() - begin


def silent(host: Lab, stack: ExitStack, number: int, version: int) -> None:
    """Begin a connection of a client that will say nothing; the kernel repeats its SYN."""
    with host.client.entered():
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        made = stack.enter_context(socket.socket(family))
    source = f"198.18.{number % 250}.{1 + number // 250}"
    made.bind((source if version == 4 else f"2001:db8:b:{number + 1000:x}::1", 0))
    made.setblocking(False)
    made.connect_ex((SERVER4 if version == 4 else SERVER6, 25))


@pytest.mark.parametrize("version", [4, 6])
def test_good_mail_does_not_wait_behind_silent_strangers(version: int) -> None:
    with lab() as host, ExitStack() as stack:
        admission, server = Bpf(), host.server
        stack.callback(server.call, admission.stop)
        known = [*GOOD.values(), "127.0.0.0/8", "::1"]
        server.call(admission.start, (25,), AdmissionLimits(CAP, pace=8), known)
        alone = statistics.median(greeting(host, GOOD[version]) for _ in range(10))
        waits = []
        for number in range(SILENT):
            silent(host, stack, number, version)
            if number % EVERY == 0:
                waits.append(greeting(host, GOOD[version]))
        until(lambda: admission.counts().open >= CAP, "the cap is reached")
        waits += [greeting(host, GOOD[version]) for _ in range(10)]
        assert statistics.median(waits) < 20 * alone, (alone, waits)
        strangers = server.call(sockets.opened, (25,))
        assert CAP <= len(strangers) <= CAP + 11  # good clients' last sessions may be among them
        assert host.mail.smtpd() <= 100
        ended = server.call(sockets.destroy, strangers)
        assert ended >= CAP
        stack.enter_context(host.client.connect("198.18.251.1", SERVER4, 25, 30))
        until(lambda: admission.counts().open == len(server.call(sockets.opened, (25,))), "agreed")


def test_postfix_is_stopped_and_started() -> None:
    with lab() as host, ExitStack() as stack:
        admission, server = Bpf(), host.server
        stack.callback(server.call, admission.stop)
        server.call(admission.start, (25,), AdmissionLimits(0), [GOOD[4]])
        for _ in range(2):
            assert greeting(host, GOOD[4]) < 30
            with pytest.raises(TimeoutError):
                greeting(host, "198.18.1.1", 0.5)
            with host.mail.stopped():
                server.call(admission.renew)
            server.call(admission.renew)
