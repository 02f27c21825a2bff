"""`throttled postfix` on a real Postfix: what is set works, what would not is refused or reverted.

After every test mail flows: whatever was set, refused, reverted, or killed at any step.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.daemon.daemon import Daemon
from lab.mail.asking import mail_flows
from lab.mail.maincf import settle
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.errors import RefusedError, UsageError
from throttled.operator import postfix

pytestmark = [pytest.mark.root, pytest.mark.postfix]


class Site:
    """A Postfix, and the command."""

    def __init__(self, lab: Lab, guard: Daemon) -> None:
        self.lab = lab
        self.guard = guard
        self.main = lab.mail.config / "main.cf"

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        return self.guard.command("postfix", *argv)

    def set(self, *values: str) -> "subprocess.CompletedProcess[str]":
        return self.run("set", *values, "--yes")

    def rows(self) -> dict[str, dict[str, Any]]:
        (one,) = self.guard.ask("postfix")["instances"]
        return {row["name"]: row for row in one["rows"]}

    def value(self, name: str) -> str:
        argv = ("postconf", "-c", str(self.main.parent), "-h", name)
        return self.lab.server.run(*argv).stdout.strip()

    def journal(self) -> list[dict[str, Any]]:
        (path,) = (self.guard.home / "postfix").glob("*.json")
        found: list[dict[str, Any]] = json.loads(path.read_text())
        return found

    def put(self, text: bytes) -> None:
        """Write main.cf, old enough for Postfix to read it at once."""
        self.main.unlink()
        self.main.write_bytes(text)
        settle(self.main)


@pytest.fixture
def site(lab: Lab, guard: Daemon) -> Iterator[Site]:
    with lab.mail.restored():
        yield Site(lab, guard)
        mail_flows(lab)


def test_what_is_set_works_and_undo_reverts_it_exactly(site: Site) -> None:
    before = site.main.read_bytes()
    site.main.chmod(0o640)
    os.chown(site.main, 0, 4)
    done = site.set("smtpd_soft_error_limit=12", "smtpd_client_connection_count_limit=40")
    assert done.returncode == 0, done.stderr
    assert "smtpd_soft_error_limit = 12 (was: Postfix's default)" in done.stdout
    assert "smtp, submission, submissions greet clients" in done.stdout
    assert site.value("smtpd_soft_error_limit") == "12"
    status = site.main.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, 4)
    assert not list(site.main.parent.glob("main.cf.*"))
    mail_flows(site.lab)
    assert [one["outcome"] for one in site.journal()] == ["applied"]
    done = site.run("undo", "--yes")
    assert done.returncode == 0, done.stderr
    assert site.main.read_bytes() == before
    assert [one["outcome"] for one in site.journal()] == ["undone", "undo"]
    done = site.run("undo", "--yes")
    assert (done.returncode, "nothing to undo" in done.stderr) == (1, True)


#: Values for which something else is advised, though Postfix works with them.
_ODD = (
    "smtpd_recipient_limit = 50",
    "smtpd_hard_error_limit = 3",
    "smtpd_client_connection_count_limit = 2",
    "smtpd_client_message_rate_limit = 100",
    "smtpd_client_event_limit_exceptions =",
    "message_size_limit = 90000",
    "line_length_limit = 600",
    "header_size_limit = 4000",
    "hopcount_limit = 20",
    "soft_bounce = yes",
    "unknown_local_recipient_reject_code = 450",
)


@pytest.mark.long
def test_every_advised_value_alone_and_all_together(site: Site) -> None:
    directory = str(site.main.parent)
    site.lab.server.run("postconf", "-c", directory, "-e", *_ODD)
    settle(site.main)
    before = site.main.read_bytes()
    advised = {name: row["advised"] for name, row in site.rows().items() if row["advised"]}
    odd = {text.partition(" ")[0] for text in _ODD} - {"smtpd_client_message_rate_limit"}
    forbid = ("smtpd_forbid_unauth_pipelining", "smtpd_forbid_bare_newline")
    shown = site.lab.server.run("postconf", "-dh", *forbid).stdout.splitlines()
    off = {name for name, value in zip(forbid, shown, strict=True) if value == "no"}  # before 3.9
    assert set(advised) == odd | off
    for name, value in advised.items():
        assert site.set(f"{name}={value}").returncode == 0
        assert site.value(name) == value
        mail_flows(site.lab)
        site.put(before)
    assert site.set("--advised").returncode == 0
    assert {name: site.value(name) for name in advised} == advised
    mail_flows(site.lab)
    assert not any(row["advised"] for row in site.rows().values())


#: What is refused, and a part of why.
_NEWER = "smtpd_client_ipv6_prefix_length"
_REFUSED: tuple[tuple[list[str], str], ...] = (
    (["smtpd_soft_error_limit=banana"], "not a whole number"),
    (["smtpd_soft_error_limit=0"], "less than 1"),
    (["smtpd_soft_error_limit=-1"], "not a whole number"),
    (["smtpd_soft_error_limit="], "not a whole number"),
    (["smtpd_soft_error_limit=$nonsense"], "not a whole number"),
    (["smtpd_soft_error_limit=99999999999"], "more than 2147483647"),
    (["smtpd_soft_error_limit=10\nsoft_bounce = yes"], "cannot be printed"),
    (["smtpd_error_sleep_time=1x"], "not a time"),
    (["smtpd_error_sleep_time=5m"], "more than 10"),
    (["smtpd_hard_error_limit=1"], "greylisted"),
    (["smtpd_hard_error_limit=${stress?{0}:{20}}"], "under stress"),
    (["smtpd_hard_error_limit=8"], "no effect"),
    (["smtpd_recipient_limit=50"], "RFC 5321"),
    (["line_length_limit=512"], "RFC 5322"),
    (["mailbox_size_limit=1000000"], "never delivered"),
    (["message_size_limit=20000000", "mailbox_size_limit=10000000"], "never delivered"),
    (["queue_minfree=9000000000000000"], "refused"),
    (["default_process_limit=1"], "less than 10"),
    (["soft_bounce=maybe"], "none of"),
    (["smtpd_client_message_rate_limit=9", "smtpd_client_event_limit_exceptions="], "webmail"),
    (["smtpd_relay_restrictions=permit_mynetworks"], "open relay"),
    (["unknown_local_recipient_reject_code=450"], "again for days"),
    (["smtpd_soft_error_limt=12"], "did you mean: smtpd_soft_error_limit"),
    (["inet_interfaces=all"], "no parameter that this command sets"),
)
#: By Postfix before 3.9.
_REFUSED_BEFORE = (
    (["smtpd_forbid_bare_newline=note"], "none of"),
    ([f"{_NEWER}=64"], f"has no {_NEWER}"),
)


def test_a_value_that_would_stop_mail_is_refused(site: Site) -> None:
    """By the command, with nothing written; the others by what the command asks."""
    before = site.main.stat()
    for values, words in _REFUSED[:2]:
        done = site.set(*values)
        assert (done.returncode, words in done.stderr) == (1, True), done
    newer = site.lab.server.run("postconf", "-dH", _NEWER, check=False).stdout
    for values, words in _REFUSED if newer else (*_REFUSED, *_REFUSED_BEFORE):
        wanted = dict(value.split("=", 1) for value in values)
        with pytest.raises((RefusedError, UsageError)) as caught:
            postfix.plan_set(str(site.main.parent), wanted)
        assert words in f"{caught.value.message} {caught.value.hint}", values
    after = site.main.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (site.guard.home / "postfix").exists()


#: Runs the command with something in it changed: what is refused is let through, or a step is
#: the last one.
_WITH = """\
import functools, os, signal, subprocess, sys
import throttled.cli.postfix, throttled.cli.main
from throttled.host import master
from throttled.operator import postfix, maincf
main, config = {main!r}, {config!r}
def step(name):
    pass
{code}
throttled.cli.postfix.Target = functools.partial(maincf.Target, step=lambda name: step(name))
sys.argv = ["throttled", "--config", {toml!r}, "postfix", *{argv!r}]
throttled.cli.main.main()
"""
_UNCHECKED = "postfix.refusals = lambda *_: ()\n"
_UNTRIED = _UNCHECKED + "master.try_smtpd = lambda *_: None\n"


def run_with(site: Site, code: str, *argv: str) -> "subprocess.CompletedProcess[str]":
    names = {"main": str(site.main), "config": str(site.main.parent)}
    script = _WITH.format(code=code, toml=str(site.guard.config), argv=argv, **names)
    return site.lab.server.run(sys.executable, "-c", script, check=False)


def test_smtpd_is_tried_before_anything_is_changed(site: Site) -> None:
    before = site.main.stat()
    done = run_with(site, _UNCHECKED, "set", "smtpd_soft_error_limit=banana", "--yes")
    assert done.returncode == 1
    assert "fatal: bad numerical configuration: smtpd_soft_error_limit = banana" in done.stderr
    assert site.main.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("smtpd_soft_error_limit=banana", "fatal: bad numerical configuration"),
        ("default_process_limit=banana", ""),  # master itself ends
        ("in_flow_delay=banana", ""),  # qmgr
    ],
)
def test_what_is_fatal_all_the_same_is_reverted(site: Site, value: str, words: str) -> None:
    before = site.main.read_bytes()
    done = run_with(site, _UNTRIED, "set", value, "--yes")
    assert done.returncode == 1, done.stdout
    assert words in done.stderr
    assert "main.cf is as before, Postfix works" in done.stderr
    assert site.main.read_bytes() == before
    mail_flows(site.lab)
    assert {one["outcome"] for one in site.journal()} == {"restored"}
    assert "nothing to undo" in site.run("undo", "--yes").stderr


_SLOW = """\
from pathlib import Path
from throttled.host import greeting
pid = int(Path({pid!r}).read_text())
code, greeted = greeting._code, []
def read(connection):
    greeted.append(code(connection))
    if len(greeted) == 3:
        os.kill(pid, signal.SIGCONT)
    return greeted[-1]
def step(name):
    if name == "replaced":  # from here on master reads no signal until three clients were greeted
        os.kill(pid, signal.SIGSTOP)
        greeting._code = read
"""


@pytest.mark.parametrize(("value", "code"), [("banana", 1), ("12", 0)])
def test_the_greeting_of_an_smtpd_of_before_the_reload_does_not_count(
    site: Site, value: str, code: int
) -> None:
    """On a busy machine master(8) acts some time after `postfix reload` has ended."""
    slow = _UNTRIED + _SLOW.format(pid=str(site.lab.mail.home / "queue/pid/master.pid"))
    done = run_with(site, slow, "set", f"smtpd_soft_error_limit={value}", "--yes")
    assert done.returncode == code, done.stdout
    assert ("fatal: bad numerical" in done.stderr) == bool(code)


_KILL = """\
def step(name):
    if name == {step!r}:
        for pid in {pids}:
            os.kill(pid, signal.SIGKILL)
"""


_CHILD, _PARENT, _BOTH = "os.getpid()", "os.getppid()", "os.getppid(), os.getpid()"


@pytest.mark.parametrize(
    ("step", "who"),
    [
        *((step, _CHILD) for step in ("replaced", "finished")),
        ("replaced", _PARENT),
        *((step, _BOTH) for step in ("recorded", "reloaded", "finished")),
    ],
)
def test_a_kill_at_any_step_leaves_a_working_postfix(site: Site, step: str, who: str) -> None:
    """One of the two processes finishes it; both killed, the next command does.

    A state for each: only the journal has the change, main.cf too, Postfix too, it has ended.
    """
    before = site.main.read_bytes()
    code = _KILL.format(step=step, pids=f"({who},)")
    run_with(site, code, "set", "smtpd_soft_error_limit=12", "--yes")
    netns.until(lambda: not running(site), "the command has ended")
    mail_flows(site.lab)
    done = site.run("undo", "--yes")
    finished = who == _PARENT or step == "finished"
    assert ("nothing to undo" in done.stderr) == (not finished and who == _CHILD)
    assert ("was interrupted" in done.stderr) == (not finished and who != _CHILD)
    assert done.returncode == int("nothing to undo" in done.stderr)
    assert site.main.read_bytes() == before
    assert {one["outcome"] for one in site.journal()} == (
        {"undone", "undo"} if finished else {"interrupted"}
    )


def running(site: Site) -> bool:
    """Return whether a process of the command is left."""
    lines = [Path(f"/proc/{pid}/cmdline") for pid in site.lab.server.pids()]
    return any(
        str(site.guard.config).encode() in path.read_bytes() for path in lines if path.exists()
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "who"), [("reloaded", _CHILD), ("reloaded", _BOTH), ("disabled", _BOTH)]
)
def test_a_kill_while_port_25_is_dead(site: Site, step: str, who: str) -> None:
    before = site.main.read_bytes()
    code = _UNTRIED + _KILL.format(step=step, pids=f"({who},)")
    run_with(site, code, "set", "smtpd_soft_error_limit=banana", "--yes")
    netns.until(lambda: not running(site), "the command has ended")
    site.run("undo", "--yes")
    assert site.main.read_bytes() == before
    mail_flows(site.lab)


def test_a_change_by_another_program_meanwhile_is_not_lost(site: Site) -> None:
    code = "def step(name):\n    if name == 'recorded': open(main, 'a').write('# mine\\n')\n"
    done = run_with(site, code, "set", "smtpd_soft_error_limit=12", "--yes")
    assert done.returncode == 1
    assert "changed meanwhile" in done.stderr
    assert site.main.read_text().endswith("# mine\n")
    assert "smtpd_soft" not in site.main.read_text()
    assert site.journal() == []


def test_what_others_change_after_it_stays(site: Site) -> None:
    edit = "subprocess.run(['postconf', '-c', config, '-e', 'smtpd_junk_command_limit=90'])"
    code = f"{_UNTRIED}def step(name):\n    if name == 'replaced': {edit}\n"
    done = run_with(site, code, "set", "smtpd_soft_error_limit=banana", "--yes")
    assert done.returncode == 1
    assert site.value("smtpd_junk_command_limit") == "90"
    assert "smtpd_soft" not in site.main.read_text()
    assert site.set("smtpd_soft_error_limit=12", "smtpd_timeout=200s").returncode == 0
    edit = "smtpd_soft_error_limit=13"
    site.lab.server.run("postconf", "-c", str(site.main.parent), "-e", edit)
    settle(site.main)
    done = site.run("undo", "--yes")
    assert done.returncode == 0, done.stderr
    assert "smtpd_soft_error_limit was changed meanwhile" in done.stdout + done.stderr
    assert (site.value("smtpd_soft_error_limit"), site.value("smtpd_timeout")) == (
        "13",
        "${stress?{10}:{300}}s",
    )


def test_two_commands_at_once(site: Site) -> None:
    """The second one is refused, and the first one's change is whole."""
    command = [sys.executable.replace("python", "throttled"), "--config", str(site.guard.config)]
    command[0] = str(Path(sys.executable).with_name("throttled"))
    values = ["smtpd_soft_error_limit=12", "smtpd_timeout=200s"]
    ends = [
        site.lab.server.popen(
            [*command, "postfix", "set", value, "--yes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for value in values
    ]
    errors = [end.communicate(timeout=netns.DEADMAN)[1] for end in ends]
    for end, text, value in zip(ends, errors, values, strict=True):
        name, _, wanted = value.partition("=")
        assert (site.value(name) == wanted) == (end.returncode == 0)
        assert end.returncode == 0 or "another throttled postfix command" in text
    assert 0 in [end.returncode for end in ends]


def test_a_main_cf_that_is_a_link_is_refused(site: Site) -> None:
    real = site.main.with_name("real.cf")
    site.main.rename(real)
    site.main.symlink_to(real)
    done = site.set("smtpd_soft_error_limit=12")
    assert (done.returncode, "is a symbolic link" in done.stderr) == (1, True)
    site.main.unlink()
    os.link(real, site.main)
    done = site.set("smtpd_soft_error_limit=12")
    assert (done.returncode, "second name" in done.stderr) == (1, True)
    real.unlink()


@pytest.mark.usefixtures("others")
def test_no_postfix_runs_or_nobody_can_be_asked(site: Site) -> None:
    assert site.run("set", "smtpd_soft_error_limit=12", "--json").returncode == 2
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    site.guard.within = nobody
    site.guard.home.chmod(0o755)
    site.guard.config.chmod(0o644)
    assert site.run("set", "smtpd_soft_error_limit=12", "--yes").returncode == 3
    assert site.run().returncode == 0
    site.guard.within = ()
    with site.lab.mail.stopped():
        done = site.set("smtpd_soft_error_limit=12")
    assert (done.returncode, "is not running" in done.stderr) == (1, True)


@pytest.mark.parametrize("answer", ["y", "n"])
def test_it_shows_the_difference_and_asks(site: Site, answer: str) -> None:
    program = str(Path(sys.executable).with_name("throttled"))
    argv = [program, "--config", str(site.guard.config), "postfix", "set", "smtpd_timeout=200s"]
    ours, theirs = os.openpty()
    command = site.lab.server.popen(
        argv, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.write(ours, f"{answer}\n".encode())
    out, errors = command.communicate(timeout=netns.DEADMAN)
    os.close(ours)
    os.close(theirs)
    assert "+smtpd_timeout = 200s" in errors
    assert "Change main.cf and reload Postfix?" in errors
    assert (command.returncode == 0) == (answer == "y"), errors
    assert ("changed; Postfix is reloaded" in out) == (answer == "y")
    assert (site.value("smtpd_timeout") == "200s") == (answer == "y")
