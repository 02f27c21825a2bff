"""Attackers that do good first, or imitate Postfix's words, with a real Postfix and nftables."""

import base64
from datetime import UTC
from functools import partial

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import V4, has
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6
from throttled.parse.parser import Parser

pytestmark = [pytest.mark.root, pytest.mark.postfix]

NETWORK = "2001:db8:b:9::/64"
MAIL = ["MAIL FROM:<a@client.example>", "RCPT TO:<alice@example.test>", "DATA", "\r\ntext\r\n."]


def talk(lab: Lab, source: str, port: int, *commands: str) -> list[str]:
    """Return the replies to some commands; none where the packets are dropped."""
    target = SERVER6 if ":" in source else SERVER4
    replies: list[str] = []
    try:
        with lab.client.connect(source, target, port, 0.7) as sock, sock.makefile("rb") as file:
            sock.settimeout(netns.DEADMAN)
            for command in ("", "EHLO client.example", *commands, "QUIT"):
                if command:
                    sock.sendall(f"{command}\r\n".encode())
                line = file.readline()
                while line[3:4] == b"-":
                    line = file.readline()
                replies.append(line.decode())
    except (TimeoutError, ConnectionError):
        pass
    return replies


def test_a_64_whose_addresses_all_delivered_before(lab: Lab, guard: Daemon) -> None:
    """Forty addresses deliver two mails each; sixteen have an entry when the /64 is throttled."""
    guard.start()
    clients = [f"2001:db8:b:9::{number:x}" for number in range(1, 41)]
    for client in clients:
        assert talk(lab, client, 25, *MAIL, *MAIL)[-2].startswith("250 ")
    wrong = "AUTH PLAIN " + base64.b64encode(b"\0boss\0wrong").decode()
    for number in range(60):
        talk(lab, clients[number % 40], 587, wrong)
    netns.until(partial(has, guard, NETWORK, "throttle", "submission"), "the /64 is throttled")
    let_in = [bool(talk(lab, client, 587, wrong)) for client in clients]
    assert 10 <= sum(let_in) <= 17  # those with an entry, and one by the network's rate


def test_a_recipient_that_imitates_the_next_server(lab: Lab, guard: Daemon) -> None:
    """It is a guessed recipient however Postfix writes it."""
    guard.start()
    words = "x>: Recipient address rejected: unverified address: host y said: 552 "
    recipient = f'RCPT TO:<"{words}"@example.test>'
    replies = talk(lab, V4, 25, MAIL[0], recipient)
    assert replies[3].startswith("550 5.1.1 ")
    parse = Parser(UTC, 0.0).event
    netns.until(lambda: "said: 552" in lab.mail.log.read_text("latin-1"), "it is logged")
    lines = lab.mail.log.read_text("latin-1").splitlines()
    (found,) = [e for line in lines if "said: 552" in line and (e := parse(line, 2e9))]
    assert (found.client, found.reason) == (V4, "unknown_user")
