"""`throttled suggest --store`: the real daemon on a log written here, against `suggest FILE`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.network import netns

pytestmark = pytest.mark.root


@pytest.fixture
def guard() -> Iterator[Daemon]:
    with (
        netns.directory("nopostfix") as postfix,
        netns.namespace("suggest") as server,
        daemon(server, postfix) as made,
    ):
        server.run("ip", "link", "set", "lo", "up")
        (made.home / "mail.log").touch()
        text = made.config.read_text().replace("[postfix]", '[postfix]\nhosts = ["mx"]')
        made.config.write_text(
            f'{text}\n[log]\nfiles = ["{made.home}/mail.log"]\n'
            "[firewall]\nports = { mx = [25], submission = [587] }\n"
        )
        yield made


def traffic(log: Path) -> int:
    """Forty good senders, some in bursts and with errors; strangers that send HTTP or guess."""
    stamp = time.strftime("%b %e %H:%M:%S")
    lines = []
    for n in range(40):
        head = f"{stamp} mx postfix/smtpd[{n + 1}]: "
        client = f"m.example[198.51.100.{n}]"
        lines += [
            f"{head}connect from {client}",
            f"{head}NOQUEUE: reject: RCPT from {client}: 550 5.1.1 <x@a>: User unknown; from=<>",
            f"{head}disconnect from {client} ehlo=1 mail=1 rcpt=1/2 data=1 commands=4/5",
        ] * (70 if n < 3 else n % 5 + 1)
    for n in range(9):
        head = f"{stamp} mx postfix/smtpd[{n + 100}]: "
        lines.append(f"{head}connect from unknown[203.0.113.{n}]")
        guess = f"{head}warning: unknown[203.0.113.{n}]: SASL LOGIN authentication failed: "
        lines += [f"{guess}x, sasl_username=u{name}" for name in range(n)]
        lines += [f"{head}warning: non-SMTP command from unknown[203.0.113.{n}]: GET / HTTP"] * n
    with log.open("a") as file:
        file.write("\n".join(lines) + "\n")
    return len(lines)


def found(guard: Daemon, *arguments: str) -> list[dict[str, Any]]:
    done = guard.command("suggest", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    suggestions: list[dict[str, Any]] = json.loads(done.stdout)["suggestions"]
    return suggestions


@pytest.mark.long
def test_the_store_says_what_the_log_says(guard: Daemon) -> None:
    log = guard.home / "mail.log"
    guard.start()
    count = traffic(log)
    netns.until(lambda: guard.status().lines >= count, "the log has been read")
    assert guard.stop() == 0  # what it noted goes into the store at its end
    of_log = found(guard, str(log))
    assert max(s["highest"] for s in of_log) == 70
    assert found(guard, "--store") == of_log
    guard.start()  # it reads the window back, and counts nothing twice
    assert found(guard, "--store") == of_log
    assert guard.stop() == 0
    assert found(guard, "--store") == of_log
