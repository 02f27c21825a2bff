"""Rotating the log in the middle of a flood: every line counts, and counts once."""

import subprocess
import time
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.mail.bots import Bot
from lab.mail.postfix import Lab
from lab.mail.postfix import lab as laboratory
from lab.network import netns
from lab.show import scene

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def connects(log: Path) -> int:
    """How many clients connected, by the `connect` lines of a log and its rotated generations.

    A connection that is reset before smtpd asks for the peer has no address, and so no client:
    Postfix logs `unknown[unknown]` (smtpd_peer.c).
    """
    count = 0
    for path in log.parent.glob(f"{log.name}*"):
        reader = ["zcat", str(path)] if path.suffix == ".gz" else ["cat", str(path)]
        text = subprocess.run(reader, capture_output=True, check=True).stdout
        count += text.count(b"]: connect from ")
        count -= text.count(b"]: connect from unknown[unknown]")
    return count


def rotate_in_a_flood(lab: Lab, guard: Daemon) -> None:
    """Rotate a log twice while it is written; every line must count exactly once."""
    sources = [f"198.18.{n}.9" for n in range(40)]
    bots = [Bot(lab.client, kind, 5.0, sources) for kind in ("flood", "harvest")]
    # Who is banned writes no more: without a good one there may be no log to rotate.
    bots.append(Bot(lab.client, "sender", 7.0, scene.SENDERS))
    for pause in (1.5, 1.5):
        time.sleep(pause)  # into the flood
        lab.mail.rotate()
    for bot in bots:
        bot.report()
    netns.until(
        lambda: guard.status().events.get("connect", 0) == connects(lab.mail.log),
        f"all of {connects(lab.mail.log)} connections are counted: {guard.status().events}",
    )
    assert guard.status().lines_lost == 0


@pytest.mark.long
def test_rotation_in_a_flood_loses_no_line(lab: Lab, guard: Daemon) -> None:
    for old in lab.mail.log.parent.glob("maillog.*"):
        old.unlink()
    guard.start()
    rotate_in_a_flood(lab, guard)


@pytest.mark.long
def test_rotation_by_rsyslog_in_a_flood_loses_no_line() -> None:
    with laboratory("rsyslog") as lab:
        more = f'[log]\nfiles = ["{lab.mail.log}"]\n'
        with daemon(lab.server, lab.mail.config, more) as guard:
            guard.start()
            rotate_in_a_flood(lab, guard)
