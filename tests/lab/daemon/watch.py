"""What the tests of the daemon do and ask: attacks, the daemon, the network."""

from collections.abc import Sequence
from functools import partial

from lab.daemon.daemon import Daemon
from lab.mail.bots import Bot, Report
from lab.mail.postfix import Lab
from lab.mail.session import greets
from lab.network import netns
from throttled.model import Action, Scope

V4, V6 = "198.18.7.7", "2001:db8:b:7::7"
BOTH = (V4, V6)


def has(guard: Daemon, subject: str, action: Action, scope: Scope) -> bool:
    """Return whether a subject is throttled or banned, as the daemon says."""
    return any((row.action, row.scope) == (action, scope) for row in guard.rows(subject))


def attack(lab: Lab, kind: str, sources: Sequence[str] = BOTH, seconds: float = 3.0) -> Report:
    """Let a bot talk, and wait for its end."""
    return Bot(lab.client, kind, seconds, sources).report()


def banned(
    lab: Lab,
    guard: Daemon,
    sources: Sequence[str] = (V4,),
    kind: str = "guess",
    scope: Scope = "submission",
) -> None:
    """Let sources attack until each of them is banned."""
    bot = Bot(lab.client, kind, netns.DEADMAN, sources)
    try:
        for source in sources:
            netns.until(partial(has, guard, source, "ban", scope), f"{source} is banned")
    finally:
        bot.end()


def throttled(lab: Lab, guard: Daemon) -> Report:
    """Let both sources flood until each of them is throttled; return what they could until then."""
    bot = Bot(lab.client, "flood", netns.DEADMAN, BOTH)
    try:
        for source in BOTH:
            netns.until(partial(has, guard, source, "throttle", "mx"), f"{source} is throttled")
        return bot.stop()
    finally:
        bot.end()


def answers(lab: Lab, source: str, port: int) -> bool:
    """Return whether Postfix greets a source."""
    return greets(lab.client, source, port)


def sessions(lab: Lab, source: str) -> str:
    """The connections that the server has with a source."""
    to = f"[{source}]" if ":" in source else source
    return lab.server.run("ss", "-Htn", "state", "established", "dst", to).stdout


def no_sessions(lab: Lab, source: str) -> bool:
    """Return whether the server has no connection with a source."""
    return not sessions(lab, source)
