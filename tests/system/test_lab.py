"""The lab itself: its bots make a real Postfix write the lines that they are meant for."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC
from pathlib import Path

import pytest

from lab.mail import swarm
from lab.mail.bots import ATTACKS, Bot
from lab.mail.postfix import Lab
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6
from throttled.address import network_of
from throttled.model import Event, Kind, Reason
from throttled.parse.parser import Parser

pytestmark = [pytest.mark.root, pytest.mark.postfix]

_WITH_LAB = {**os.environ, "PYTHONPATH": str(Path(netns.__file__).parents[2])}

SOURCES = ("198.18.70.7", "2001:db8:b:70::7")


def events(log: Path) -> list[Event]:
    parser = Parser(UTC, log.stat().st_mtime)
    found = (parser.event(line) for line in log.read_text("latin-1").splitlines())
    return [event for event in found if event is not None]


def counts(log: Path) -> Counter[tuple[str, Kind, Reason]]:
    return Counter((event.client, event.kind, event.reason) for event in events(log))


def all_ended(log: Path) -> bool:
    """Return whether our clients' sessions are over; a test before may have left others."""
    seen = Counter((event.client, event.kind) for event in events(log))
    return all(0 < seen[each, "connect"] == seen[each, "disconnect"] for each in SOURCES)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flood", ("lost_connection", "")),
        ("guess", ("auth_failure", "")),
        ("garbage", ("non_smtp_command", "")),
        ("relay", ("reject", "relay")),
        ("harvest", ("reject", "unknown_user")),
        ("sender", ("accepted", "")),
        ("user", ("login", "")),
    ],
)
def test_a_bot_makes_postfix_write_what_it_is_meant_for(
    lab: Lab, kind: str, expected: tuple[Kind, Reason]
) -> None:
    lab.mail.log.write_text("")
    bot = Bot(lab.client, kind, netns.DEADMAN, SOURCES)
    try:
        netns.until(lambda: all(counts(lab.mail.log)[each, *expected] for each in SOURCES), kind)
    finally:
        bot.terminate()
    report = bot.report()
    netns.until(lambda: all_ended(lab.mail.log), "every session is logged to its end")
    seen = counts(lab.mail.log)
    for source in SOURCES:
        assert seen[source, "connect", ""] > 0
        assert seen[source, "too_many_errors", ""] == 0  # Postfix slows such a session down
    if kind in ATTACKS:
        assert report.sessions >= len(SOURCES)
        assert report.blocked == 0
        assert set(report.answered) == set(SOURCES)
    else:
        assert len(report.latencies) == report.sent > 0


@pytest.mark.parametrize(("version", "networks"), [(4, 400), (6, 5000)])
def test_a_botnet_has_addresses_of_many_networks(version: int, networks: int) -> None:
    found = swarm.addresses(5_000, version)
    assert len(set(found)) == 5_000
    assert len({network_of(address) for address in found}) == networks


@pytest.mark.parametrize("kind", ["quit", "rcpt", "noop"])
def test_bots_do_nothing_wrong_and_wait_for_nobody(lab: Lab, kind: str) -> None:
    lab.mail.log.write_text("")
    report = swarm.Swarm(lab.client, kind, 20.0, 4.0, 1_000).report()
    assert 0 < report.greeted <= report.tried <= 80
    assert report.lost == 0
    kinds = {event.kind for event in events(lab.mail.log)}
    assert kinds <= {"connect", "disconnect", "lost_connection", "reject"}


def test_good_mail_lies_in_the_mailbox(lab: Lab) -> None:
    before = lab.mail.delivered("alice"), lab.mail.delivered("bob")
    sent = [Bot(lab.client, kind, 0.5, SOURCES).report().sent for kind in ("sender", "user")]
    netns.until(lambda: lab.mail.delivered("alice") == before[0] + sent[0], "to alice")
    netns.until(lambda: lab.mail.delivered("bob") == before[1] + sent[1], "to bob")


def test_what_is_ended_while_it_prints_prints_all() -> None:
    """After hours there is more than a pipe holds."""
    code = """
import asyncio
from lab.mail.apart import print_result

async def run():
    return list(range(100_000))

asyncio.run(print_result(run(), asyncio.Event()))
"""
    argv = sys.executable, "-c", code
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=_WITH_LAB) as child:
        assert child.stdout is not None
        begin = child.stdout.read(1)
        child.terminate()
        assert json.loads(begin + child.stdout.read()) == list(range(100_000))


def test_cpu_and_processes_are_counted(lab: Lab) -> None:
    before = lab.mail.cpu()
    connections = [
        lab.client.connect(source, target, 25)
        for source, target in zip(SOURCES * 3, (SERVER4, SERVER6) * 3, strict=True)
    ]
    for each in connections:
        assert each.recv(100).startswith(b"220 ")
    assert lab.mail.smtpd() >= len(connections)
    for each in connections:
        each.close()
    assert lab.mail.cpu() > before


_MAKES_A_PAIR = """
import time
from lab.network import netns
with netns.unwinding(), netns.pair() as (server, client), netns.directory("x"):
    child = server.popen(["sleep", "60"])
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_a_lab_that_is_ended_leaves_nothing(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MAKES_A_PAIR],
        env=_WITH_LAB,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        kinds = Counter(line.split()[0] for line in netns.leftovers(child.pid))
        assert kinds == {"namespace": 2, "mount": 2, "directory": 1, "process": 1}
        child.send_signal(number)
    if number == signal.SIGKILL:  # nobody can clean up after that but the next who comes
        assert netns.leftovers(child.pid)
        assert netns.sweep() == []
    assert netns.leftovers(child.pid) == []
