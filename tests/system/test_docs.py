"""The pages for operators: their commands are typed, what they show as configuration loaded.

*.md and docs/*.md are read. A block of `sh` is run command by command by a host with the
documented paths: a mount namespace with an /etc, /var/lib, /var/log and /run of its own, a real
Postfix at /etc/postfix, and the daemon with its defaults. Comments before a block say more:

    <!-- first: COMMAND -->     what must have happened before, not shown to the reader
    <!-- in place -->           the block of `toml` before is the configuration
    <!-- exit N -->             the exit code of its last command, if it is not 0
    <!-- not run: REASON -->    what cannot be run here, and where it is tested or why it is not
    <!-- prints -->             before `text`: the block before prints the words of its first line

`systemctl stop|start|restart|reload throttled` is done to the lab's daemon (the real ones are run
by test_package.py). `fail2ban-client` says what that of Debian 12 (1.0.2) was seen to say.
"""

import re
import shlex
import shutil
import signal
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from lab.daemon.daemon import THROTTLED, Daemon
from lab.daemon.watch import attack
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.cli.main import throttled as cli
from throttled.config import load

pytestmark = [pytest.mark.root, pytest.mark.postfix]

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(
    r"((?:^ *<!-- [^\n]* -->\n)*)^( *)```(\w*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- (first: |in place|exit |not run: |prints)(.*?) ?-->")
_LANGUAGES = {"sh", "text", "toml", "yaml"}

_HOST = """\
mount -t tmpfs tmpfs {home}/layers
for place in etc var/lib; do
    mkdir -p {home}/layers/$place/upper {home}/layers/$place/work
    layers=upperdir={home}/layers/$place/upper,workdir={home}/layers/$place/work
    mount -t overlay overlay -o lowerdir=/$place,$layers /$place
done
mkdir -p /etc/throttled /var/lib/throttled
mount --bind {postfix} /etc/postfix
mount --bind {home}/run /run
mount --bind {home}/log /var/log
echo ready
exec sleep infinity
"""
_FAIL2BAN = """\
#!/bin/sh
printf '198.51.100.7 \\t%s + 600 = %s\\n' "$(date '+%F %T')" "$(date -d '10 minutes' '+%F %T')"
"""
_FILES = {
    "bad.txt": "198.51.100.66\n203.0.113.66 # spam\n",
    "offices.txt": "203.0.113.0/28 # branch office\n",
    "new.toml": "[limits.errors]\nhard = 100\n",
}


class Block(NamedTuple):
    where: str
    marks: dict[str, list[str]]
    language: str
    text: str

    def commands(self) -> list[str]:
        """Its commands, each whole: a line that ends in | or \\ goes on."""
        whole = re.sub(r"([|\\])\n\s*", lambda found: found[1].strip("\\") + " ", self.text)
        return [line for line in whole.splitlines() if line.strip() and line[0] != "#"]


def read(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        marks: dict[str, list[str]] = {}
        for mark in _MARK.finditer(match[1]):
            marks.setdefault(mark[1].strip(" :"), []).append(mark[2])
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(f"{page.name}:{line}", marks, match[3], textwrap.dedent(match[4])))
    return found


BLOCKS = [block for page in PAGES for block in read(page)]
RUN = [b for b in BLOCKS if b.language == "sh" and "not run" not in b.marks]


class Host:
    """A host with the documented paths."""

    def __init__(self, lab: Lab, guard: Daemon, within: list[str]) -> None:
        self.guard = guard
        self._lab = lab
        self._within = within

    def configure(self, text: str) -> None:
        (self.guard.home / "here/throttled.toml").write_text(text)
        assert self.run("cp throttled.toml /etc/throttled").returncode == 0

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.guard.home}/bin:{Path(THROTTLED).parent}:$PATH"
        script = f"cd {self.guard.home}/here; PATH={path}; {command}"
        words = (*self._within, "bash", "-o", "pipefail", "-c", script)
        if (
            service := re.fullmatch(r"systemctl (\w+) throttled", command.partition(" #")[0])
        ) is None:
            return self._lab.server.run(*words, check=False)
        if service[1] in {"stop", "restart"}:
            assert self.guard.stop() == 0
        if service[1] in {"start", "restart"}:
            self.guard.start()
        if service[1] == "reload":
            self.guard.signal(signal.SIGHUP)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    with netns.directory("docs") as home:
        for name in ("layers", "run", "log", "bin", "here"):
            (home / name).mkdir()
        for name, text in _FILES.items():
            (home / "here" / name).write_text(text)
        (home / "bin/fail2ban-client").write_text(_FAIL2BAN)
        (home / "bin/fail2ban-client").chmod(0o755)
        script = _HOST.format(home=home, postfix=lab.mail.config)
        unshare = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", script)
        holder = lab.server.popen(unshare, stdout=subprocess.PIPE)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            within = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
            guard = Daemon(lab.server, home, lab.mail.config)
            guard.within, guard.config = within, Path("/etc/throttled/throttled.toml")
            try:
                yield Host(lab, guard, within)
            finally:
                guard.kill()
        finally:
            holder.kill()
            holder.communicate()


@pytest.fixture
def settled(lab: Lab, host: Host) -> Iterator[Host]:
    """Whatever the block before did: the default configuration, nobody banned, the daemon runs."""
    if not lab.mail.log.stat().st_size:
        attack(lab, "garbage", seconds=1.0)
    log = host.guard.home / "log"
    shutil.copy(lab.mail.log, log / "mail.log")
    shutil.copy(lab.mail.log, log / "mail.log.1")
    shutil.copy(lab.mail.log, host.guard.home / "here/mail.log")
    host.configure((ROOT / "packaging/throttled.toml").read_text())
    host.guard.start()
    yield host
    host.guard.stop()
    assert host.run("rm -rf /var/lib/throttled/*; nft flush ruleset").returncode == 0


def test_every_block_says_what_it_is() -> None:
    fences = sum(len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)
    for block in BLOCKS:
        assert block.language in _LANGUAGES, block.where
        assert all(block.marks.get("not run", ["why"])), block.where


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.where)
def test_commands_in_the_pages_do_what_is_said(block: Block, settled: Host) -> None:
    if "in place" in block.marks:
        shown = BLOCKS[BLOCKS.index(block) - 1]
        settled.configure(shown.text)
    for command in block.marks.get("first", []):
        done = settled.run(command)
        assert done.returncode == 0, (block.where, command, done.stdout, done.stderr)
    *commands, last = block.commands()
    expected = int(block.marks.get("exit", ["0"])[0])
    printed = ""
    for command, code in [(c, 0) for c in commands] + [(last, expected)]:
        done = settled.run(command)
        assert done.returncode == code, (block.where, command, done.stdout, done.stderr)
        printed += done.stdout
    for shown in BLOCKS[BLOCKS.index(block) + 1 :][:1]:
        if "prints" in shown.marks:
            assert _words(shown.text.partition("\n")[0]) <= _words(printed), (block.where, printed)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "toml"], ids=lambda b: b.where
)
def test_what_is_shown_as_configuration_is_one(block: Block, tmp_path: Path) -> None:
    assert tomllib.loads(block.text)
    path = tmp_path / "throttled.toml"
    path.write_text(block.text)
    load.load(str(path))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_passing_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for words in (shlex.split(found) for found in re.findall(r"`(throttled [^`\n]+)`", text)):
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        names = [word for word in words[1:] if not word.startswith("-")]
        context = click.Context(cli)
        command = cli.get_command(context, names[0]) if names else cli
        assert command is not None, words
        known = {o for c in (cli, command) for p in c.get_params(context) for o in p.opts}
        assert set(options) <= known | {"--no-visit"}, words
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", text):
        if not target.startswith("http"):
            place = page.parent / target if target else page
            assert place.exists(), target
            assert not anchor or anchor in _anchors(place.read_text()), (target, anchor)


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as they are made of them on the web."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
