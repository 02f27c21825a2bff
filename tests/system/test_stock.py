"""A mail server exactly as Debian installs it, and `throttled` as its package configures it.

Postfix's main.cf and master.cf, its chroot and the logger are untouched: see lab.stock. Everything
between an attacker's connection and its ban is real, in the journal and in rsyslog's mail.log.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.daemon.daemon import Daemon
from lab.daemon.watch import BOTH, has
from lab.mail import postfix, stock
from lab.mail.bots import Bot
from lab.mail.postfix import USER
from lab.mail.session import greets
from lab.network import netns
from lab.network.netns import Namespace

pytestmark = [
    pytest.mark.root,
    pytest.mark.postfix,
    pytest.mark.long,
]

ROOT = Path(__file__).resolve().parents[2]
#: Good senders go on after the bans: a bot is banned within three seconds.
_GOOD_SECONDS = 6.0
GOOD = ("198.18.9.9", "2001:db8:b:9::9")
LOGS = {"journald": "journal", "rsyslog": "/var/log/mail.log"}


class Site(NamedTuple):
    host: stock.Host
    client: Namespace
    guard: Daemon
    log: str

    def banned(self, source: str) -> bool:
        return has(self.guard, source, "ban", "mx")

    def packets(self, sources: Sequence[str]) -> list[int]:
        """Return how many packets of each source the kernel has dropped."""
        return [row.packets for source in sources for row in self.guard.rows(source, "mx")]

    def delivered(self) -> int:
        """Return how many messages of good senders are in the mailbox of a local user."""
        box = self.host.path(f"var/mail/{USER}")
        return box.read_text().count("\nMessage-ID: ") if box.exists() else 0

    def answers(self, source: str) -> bool:
        return greets(self.client, source)


@pytest.fixture(scope="module", params=LOGS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with (
        netns.pair() as (server, client),
        stock.host(server, request.param) as host,
        netns.directory("daemon") as home,
    ):
        host.run("useradd", "--no-create-home", USER)
        host.run("mkdir", "-p", "/etc/throttled", "/var/lib/throttled")
        settings = (ROOT / "packaging/throttled.toml").read_text()
        host.path("etc/throttled/throttled.toml").write_text(settings)
        guard = Daemon(server, home, Path("/etc/postfix"))
        guard.within, guard.config = host.within, Path("/etc/throttled/throttled.toml")
        guard.socket = host.path("run/throttled/control.sock")
        guard.start()
        try:
            yield Site(host, client, guard, LOGS[request.param])
        finally:
            guard.kill()


def settings(text: str) -> dict[str, str]:
    """Return what a main.cf sets, a name's last value."""
    found = re.findall(r"^(\w+) *= *(.*?) *$", text, re.MULTILINE)
    return dict(found)


def test_postfix_is_as_debian_installs_it(site: Site) -> None:
    """What the other tests' Postfix starts from is that too."""
    main = site.host.path("etc/postfix/main.cf").read_text()
    assert settings(main) == settings(postfix.debian())
    assert settings(site.host.run("postconf", "-n")) == settings(main)
    master = site.host.path("etc/postfix/master.cf").read_text()
    assert master == Path("/usr/share/postfix/master.cf.dist").read_text()


def test_the_log_is_found_and_all_is_well(site: Site) -> None:
    status = site.guard.ask("status")
    assert [tail["path"] for tail in status["tails"]] == [site.log]
    checked = site.guard.command("check")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("kind", "sources"),
    [
        ("garbage", ("198.18.11.7", "2001:db8:b:11::7")),
        ("harvest", ("198.18.12.7", "2001:db8:b:12::7")),
        ("relay", ("198.18.13.7", "2001:db8:b:13::7")),  # Debian defers it: 454 4.7.1
    ],
)
def test_an_attacker_is_banned(site: Site, kind: str, sources: tuple[str, str]) -> None:
    """Good senders deliver all the while, at first try, and nothing is decided about them."""
    before = site.delivered()
    assert all(site.answers(source) for source in sources)
    good = Bot(site.client, "sender", _GOOD_SECONDS, GOOD)
    bot = Bot(site.client, kind, 2 * netns.DEADMAN, sources)
    try:
        for source in sources:
            netns.until(partial(site.banned, source), f"{source} is banned")
        assert not any(site.answers(source) for source in sources)
        netns.until(lambda: all(site.packets(sources)), "what they send is dropped and counted")
        report = good.report()
    finally:
        bot.end()
        good.end()
    assert site.guard.status().packets_dropped >= sum(site.packets(sources)) > 0
    assert report.tries == len(report.latencies) == report.sent > len(GOOD)
    netns.until(lambda: site.delivered() == before + report.sent, "their mail is delivered")
    assert all(site.answers(source) for source in GOOD)
    assert not any(site.guard.rows(source) for source in GOOD)
    assert not any(site.guard.decisions(source) for source in GOOD)


def test_what_was_logged_before_a_start_counts(site: Site) -> None:
    """The daemon is killed, clients attack, and it is started again."""
    site.guard.kill()
    Bot(site.client, "garbage", 5.0, BOTH).report()
    assert all(site.answers(source) for source in BOTH)
    site.guard.start()
    for source in BOTH:
        netns.until(partial(site.banned, source), f"{source} is banned")
        assert not site.answers(source)
