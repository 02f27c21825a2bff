"""`throttled mail` on a real Postfix, and mail that the daemon had put on hold."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from lab.daemon.daemon import THROTTLED, Daemon
from lab.mail import asking
from lab.mail.asking import (
    ACCOUNT,
    CLIENT,
    DEVICE,
    LIMIT,
    at_once,
    ban,
    decided,
    on_hold,
    send,
    throttle,
)
from lab.mail.postfix import Lab
from lab.mail.session import session
from lab.network.netns import until
from throttled.host.on_hold import Held, OnHold
from throttled.model import Rate

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.usefixtures("emptied")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with asking.lab() as made:
        yield made


@pytest.fixture
def guard(guard: Daemon) -> Daemon:
    guard.configure(f'{LIMIT}[accounts]\nban = "hold"\nhold = "1s"\n')
    return guard


def run(guard: Daemon, *argv: str) -> tuple[int, str]:
    done = guard.command("mail", *argv)
    return done.returncode, done.stdout + done.stderr


def configure(lab: Lab, *argv: str) -> None:
    lab.server.run("postconf", "-c", str(lab.mail.config), *argv)


def records(guard: Daemon) -> OnHold:
    return OnHold(str(guard.home / "throttled.db"))


def test_mail_on_hold_is_released_at_the_rate_after_the_daemons_death(
    lab: Lab, guard: Daemon
) -> None:
    """None of the 60 is lost, and the daemon that knew of them is killed."""
    before = lab.mail.delivered()
    decided(guard.home / "throttled.db", throttle(DEVICE, Rate(10, 1.0, 2)))
    guard.start()
    accepted = at_once(10, lambda: send(lab, 6, sessions=True))
    held = on_hold(lab)
    assert (len(accepted), held > 20) == (60, True)
    assert guard.status().on_hold == held
    guard.signal(signal.SIGKILL)
    shown = json.loads(guard.command("status", "--json").stdout)  # exit code 3: no daemon
    assert shown["on_hold"] == held
    until(lambda: time.time() > max(one.deadline for one in records(guard).all()), "all are due")
    began = time.monotonic()
    code, said = run(guard, "release", "--due")
    assert (code, said) == (0, f"{held} messages released\n")
    assert time.monotonic() - began > (held - 1) / 10  # later on a busy machine
    assert on_hold(lab) == 0
    until(lambda: lab.mail.delivered() == before + 60, "all are delivered")
    assert records(guard).count() == 0


def test_only_what_we_put_on_hold_is_released(lab: Lab, guard: Daemon) -> None:
    """Others' hold, and a queue id that another message has by now."""
    guard.start()
    configure(lab, "-e", "smtpd_end_of_data_restrictions=check_client_access static:HOLD")
    asking.reload(lab)
    try:
        assert len(send(lab, 3)) == 3
    finally:
        configure(lab, "-X", "smtpd_end_of_data_restrictions")
        asking.reload(lab)
    ids = [path.name for path in lab.mail.queued("hold")]
    instance, now = str(lab.mail.config), time.time()
    records(guard).add(Held(instance, ids[0], "account:mallory", now, now, 1, 1.0))
    records(guard).add(Held(instance, ids[1], DEVICE, now - 7200, now - 3600, 1, 1.0))
    code, said = run(guard, "release", "--due")
    assert (code, said) == (0, "0 messages released\n")
    assert on_hold(lab) == 3
    assert records(guard).count() == 0
    health = {finding.key: finding.what for finding in guard.status().health}
    assert health["on-hold-left"].endswith("as their queue file is not as recorded: 2")
    assert run(guard, "release", "--id", ids[0], "--id", ids[1])[0] == 0
    assert "on-hold-left" not in {finding.key for finding in guard.status().health}


def test_what_cannot_be_recorded_is_deferred(lab: Lab, guard: Daemon) -> None:
    decided(guard.home / "throttled.db", ban(ACCOUNT))
    (guard.home / "on-hold").write_text("")
    guard.start()
    assert send(lab, 2, CLIENT, login=True) == []
    assert on_hold(lab) == 0
    assert guard.log.read_text().count("messages are deferred") == 1


def test_queued_mail_of_an_account(lab: Lab, guard: Daemon) -> None:
    """By its login: the sender's address, the same for all here, is nobody's."""
    decided(guard.home / "throttled.db", ban(ACCOUNT), ban(DEVICE))
    guard.start()
    assert len(send(lab, 4, CLIENT, login=True)) == 4
    assert len(send(lab, 3)) == 3
    code, said = run(guard, "list", ACCOUNT)
    assert (code, said.startswith("4 messages of account:alice (4 hold)")) == (0, True)
    assert len(guard.ask("mail", "list", DEVICE)["messages"]) == 3
    code, said = run(guard, "list", ACCOUNT, "--since", "1s")
    assert code == 0
    code, said = run(guard, "delete", ACCOUNT)
    assert (code, "nobody can be asked" in said) == (2, True)
    code, said = run(guard, "delete", ACCOUNT, "--yes")
    assert (code, said) == (0, "4 messages of account:alice deleted\n")
    assert on_hold(lab) == 3
    assert records(guard).count() == 3
    assert "delete" in guard.command("audit").stdout
    code, said = run(guard, "release", DEVICE)
    assert (code, said) == (0, f"3 messages of {DEVICE} released\n")
    until(lambda: on_hold(lab) == 0, "they are sent")
    code, said = run(guard, "release", DEVICE)
    assert (code, said) == (1, f"0 messages of {DEVICE} released\n")


def test_messages_by_queue_id(lab: Lab, guard: Daemon) -> None:
    """Of sendmail(1) no queue file says whose it is."""
    configure(lab, "-e", "defer_transports = local")
    lab.mail.command("reload")
    try:
        handed = f"echo x | sendmail -C {lab.mail.config} alice@example.test"
        lab.server.run("sh", "-c", handed)
        until(lambda: bool(queued(lab)), "it is queued")
        (queue_id,) = queued(lab)
        code, said = run(guard, "hold", "--id", queue_id)
        assert (code, said) == (0, "1 message on hold\n")
        assert on_hold(lab) == 1
        assert run(guard, "hold", "uid:0")[0] == 2
    finally:
        configure(lab, "-X", "defer_transports")
        lab.mail.command("reload")


def queued(lab: Lab) -> list[str]:
    return [path.name for path in lab.mail.queued("active", "deferred")]


def test_everything_on_hold_is_released_at_once(lab: Lab, guard: Daemon) -> None:
    """As the package's removal does."""
    guard.configure(f'{LIMIT}[accounts]\nban = "hold"\n')
    decided(guard.home / "throttled.db", ban(DEVICE))
    guard.start()
    assert len(send(lab, 5)) == 5
    guard.stop()
    code, said = run(guard, "release", "--all")
    assert (code, said) == (0, "5 messages released\n")
    assert on_hold(lab) == 0


def test_many_messages_are_released_by_few_commands(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    before = lab.mail.delivered()
    decided(guard.home / "throttled.db", ban(DEVICE))
    guard.start()
    assert len(send(lab, 30)) == 30
    assert on_hold(lab) == 30
    calls = tmp_path / "calls"
    for name in ("postqueue", "postsuper", "postkick"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} >>{calls}\nexec {which(name)} "$@"\n')
        (tmp_path / name).chmod(0o755)
    words = (THROTTLED, "--config", str(guard.config), "mail", "release", "--all")
    path = f"PATH={tmp_path}:{os.environ['PATH']}"
    assert lab.server.run("env", path, *words).stdout == "30 messages released\n"
    until(lambda: lab.mail.delivered() == before + 30, "all are delivered")
    assert len(calls.read_text().split()) < 10


def test_what_a_power_failure_leaves_of_a_record_suffices(lab: Lab, guard: Daemon) -> None:
    """The file's name: its content may never have come to the disk."""
    guard.configure(f'{LIMIT}[accounts]\nban = "hold"\n')
    decided(guard.home / "throttled.db", ban(DEVICE), ban(ACCOUNT))
    guard.start()
    assert len(send(lab, 2)) == len(send(lab, 2, CLIENT, login=True)) == 2
    for path in records(guard).place.iterdir():
        path.write_bytes(b"")
    code, said = run(guard, "release", "--all")
    assert (code, said) == (0, "4 messages released\n")
    assert on_hold(lab) == 0


def test_a_message_that_is_received_is_waited_for(lab: Lab, guard: Daemon) -> None:
    """It was answered with HOLD, and goes on hold when its content has come."""
    guard.configure(f'{LIMIT}[accounts]\nban = "hold"\n')
    decided(guard.home / "throttled.db", ban(DEVICE))
    guard.start()
    done: list[tuple[int, str]] = []

    def deliver() -> None:
        with session(DEVICE) as client:
            client.mail("someone@example.net")
            client.rcpt("alice@example.test")
            assert client.docmd("DATA")[0] == 354
            command = threading.Thread(target=lambda: done.append(run(guard, "release", "--all")))
            command.start()
            command.join(1.0)
            assert not done
            client.send("Subject: x\r\n\r\nx\r\n.\r\n")
            assert client.getreply()[0] == 250
            command.join()

    lab.client.call(deliver)
    assert done == [(0, "1 message released\n")]
    assert (on_hold(lab), records(guard).count()) == (0, 0)


def test_operators_throttle_and_ban_accounts_and_inside_hosts(lab: Lab, guard: Daemon) -> None:
    """Of the words of the commands, and with what mail that is sent meanwhile comes to."""
    guard.start()
    done = guard.command("ban", ACCOUNT)
    assert (done.returncode, "throttled postfix connect" in done.stderr) == (1, True)
    assert len(send(lab, 1)) == 1
    for subject in (ACCOUNT, DEVICE):
        done = guard.command("throttle", subject, "--rate", "2/s")
        assert (done.returncode, done.stderr) == (0, "")
        login = subject == ACCOUNT
        began = time.monotonic()
        assert len(send(lab, 20, CLIENT if login else DEVICE, login=login)) == 20
        assert time.monotonic() - began > 4
        done = guard.command("ban", subject)
        assert (done.returncode, done.stderr) == (0, "")
        before = on_hold(lab)
        assert len(send(lab, 2, CLIENT if login else DEVICE, login=login)) == 2
        assert on_hold(lab) == before + 2
    guard.stop()
    guard.start()
    assert {row.subject for row in guard.rows()} == {ACCOUNT, DEVICE}
    for subject in (ACCOUNT, DEVICE):
        done = guard.command("unban", subject)
        assert (done.returncode, done.stderr) == (0, "")
        login = subject == ACCOUNT
        before = on_hold(lab)
        assert len(send(lab, 2, CLIENT if login else DEVICE, login=login)) == 2
        assert on_hold(lab) == before
    assert guard.command("throttle", ACCOUNT, "--rate", "fast").returncode == 2


def test_mail_that_nobody_releases_is_reported(guard: Daemon) -> None:
    before = time.time() - 8000
    records(guard).add(Held("/nowhere", "3A5C01F2", DEVICE, before, before + 1, 1, 1.0))
    guard.start()
    health = {finding.key: finding.what for finding in guard.status().health}
    assert health["on-hold"] == "messages on hold that should be released by now: 1"
    assert "on hold    1 messages" in guard.command("status").stdout
