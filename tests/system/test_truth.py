"""Every command's first line and exit code are true of the kernel, in every state.

The oracle is a connection: `unban` and `allow` end with 0 exactly if the client can connect then.
A listener stands for Postfix.
"""

import contextlib
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.machine.bpffs import bpffs, within
from lab.machine.legacy import legacy_path
from lab.network.netns import SERVER4, SERVER6, Namespace, directory, pair, until
from throttled.control import client, requests, results

pytestmark = pytest.mark.root

ONE4, ONE6 = "198.18.7.7", "2001:db8:b:7::7"
OTHER = "198.18.9.9"
#: The networks around each: one that addresses are grouped into, one of another length.
NETS = {ONE4: ("198.18.7.0/24", "198.18.0.0/20"), ONE6: ("2001:db8:b:7::/64", "2001:db8:b::/48")}


class Site(NamedTuple):
    """A server with a listener, a client, a daemon that is not started."""

    server: Namespace
    client: Namespace
    guard: Daemon

    def configure(self, more: str = "", first: str = "", backend: str = "nftables") -> None:
        log = self.guard.home / "mail.log"
        log.touch()
        base = self.guard._base
        self.guard._base = first + base
        self.guard.configure(
            f'[log]\nfiles = ["{log}"]\n[firewall]\nbackend = "{backend}"\n'
            f"ports = {{ mx = [25], submission = [587] }}\n{more}"
        )
        self.guard._base = base

    def connects(self, source: str) -> bool:
        try:
            self.client.connect(source, SERVER6 if ":" in source else SERVER4, 25, 0.3).close()
        except TimeoutError:
            return False
        return True

    def run(self, command: str) -> tuple[int, str]:
        """Return the exit code and the first line, of what went wrong if something did."""
        done = self.guard.command(*command.split())
        output = [line for line in done.stderr.splitlines() if "; reading " not in line]
        lines = [*done.stdout.splitlines(), *output]
        return done.returncode, lines[0] if lines else ""


@pytest.fixture
def site() -> Iterator[Site]:
    with (
        legacy_path() as path,
        bpffs() as mounted,
        pair() as (server, client),
        directory("nopostfix") as postfix,
        daemon(server, postfix) as guard,
        contextlib.ExitStack() as listening,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", path)
        guard.within = within(mounted)
        for address in (SERVER4, SERVER6):
            listener: socket.socket = listening.enter_context(server.listen(address, 25))
            assert listener
        made = Site(server, client, guard)
        made.configure()
        yield made


@pytest.mark.long
@pytest.mark.parametrize(("one", "running"), [(ONE4, True), (ONE6, False)])
def test_who_is_said_to_be_unbanned_can_connect(site: Site, one: str, *, running: bool) -> None:
    net, wide = NETS[one]
    cases: list[tuple[str, str, str]] = [
        # What is active, the command, its first line.
        ("", f"unban {one}", f"throttled: {one} is neither throttled nor banned"),
        (f"ban {one}", f"unban {one}", f"{one} is unbanned"),
        (f"throttle {one}", f"unban {one}", f"{one} is unbanned"),
        (f"ban {one}; ban {net}", f"unban {one}", f"{one} is unbanned itself, but still banned by"),
        (f"ban {net}", f"unban {one}", f"throttled: {one} is neither .* itself, but still banned"),
        (f"ban {wide}", f"unban {one}", f"throttled: {one} .* to unban that too: .* {wide}"),
        (f"ban {one}; ban {wide}", f"unban {one} --for 1h", f"{one} is unbanned; exempt for 1h"),
        (f"ban {net}; ban {wide}", f"unban {net}", f"{net} is unbanned itself, .* by {wide}"),
        (f"ban {net}", f"unban {net}", f"{net} is unbanned$"),
        (f"ban {wide}", f"unban {net} --for 1h", f"{net} is .* but still banned by {wide}"),
        (f"ban {one}; ban {net}", "unban --all", "4 unbanned"),
        (f"ban {one}; ban {net}", f"allow {one}", f"{one} is allowed"),
        (f"ban {net}; ban {wide}", f"allow {net}", f"{net} is allowed"),
    ]
    for before, command, expected in cases:
        site.guard.start()
        for each in filter(None, before.split("; ")):
            verb, subject = each.split()
            asked = requests.Ban(subject) if verb == "ban" else requests.Throttle(subject)
            answer = client.request(site.guard.socket, asked)
            assert isinstance(answer, results.ChangeResult)
            assert answer.confirmed
        if not running:
            site.guard.kill()
        code, output = site.run(command)
        assert re.match(expected, output), (before, command, output)
        neither = "neither" in output and "still" not in output
        assert (code == 0) == (site.connects(one) and not neither), (before, command, output)
        site.guard.kill()
        for file in site.guard.home.glob("throttled.db*"):
            file.unlink()
        site.server.run("nft", "flush", "ruleset")


def test_what_still_throttles_is_named(site: Site) -> None:
    site.guard.start()
    assert site.run("throttle 198.18.7.0/24") == (
        0,
        "198.18.7.0/24 is throttled in mx and submission",
    )
    assert site.run(f"ban {ONE4}") == (0, f"{ONE4} is banned in mx and submission")
    assert not site.connects(ONE4)
    code, output = site.run(f"unban {ONE4}")
    assert code == 1
    assert "still throttled by 198.18.7.0/24 in mx and submission" in output


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("nftables", ("--mode", "observe")),
        ("nftables", ("--backend", "dryrun")),
        ("iptables", ("--mode", "observe")),
        ("xdp", ("--mode", "observe")),
    ],
)
def test_nothing_of_ours_is_in_the_kernel_while_observing(
    site: Site, backend: str, options: tuple[str, ...]
) -> None:
    site.configure(backend=backend)
    site.server.run("nft", "add", "table", "inet", "others")
    site.guard.start()
    assert site.run(f"ban {ONE4}")[0] == 0, site.guard.log.read_text()
    assert not site.connects(ONE4)
    site.guard.stop()
    assert not site.connects(ONE4)
    site.guard.start(*options)
    log = site.guard.log
    until(lambda: "removed entries left by the" in log.read_text(), "our entries are removed")
    assert site.connects(ONE4)
    assert site.server.run("nft", "list", "tables").stdout == "table inet others\n"
    _observes(site)
    if backend == "nftables":  # what is printed comes from no backend
        _prints(site)
    site.guard.stop()
    site.guard.start()
    until(lambda: not site.connects(ONE4), "what was really banned is active again")
    assert site.connects(OTHER)  # what was only observed is not
    assert site.run("preview") == (1, "throttled: the daemon enforces: there is nothing to preview")


def test_a_reload_removes_our_entries_and_restores_them(site: Site) -> None:
    site.guard.start()
    assert site.run(f"ban {ONE4}")[0] == 0
    assert not site.connects(ONE4)
    for again in (False, True):
        site.configure(first='mode = "observe"\n')
        assert site.run("reload") == (0, "reloaded")
        assert site.connects(ONE4)
        _observes(site)
        if again:
            _prints(site)
        site.configure()
        assert site.run("reload") == (0, "reloaded")
        until(lambda: not site.connects(ONE4), "what was really banned is active again")
        assert site.connects(OTHER)  # what was only observed is not
        site.configure(first='mode = "observe"\n')
        assert site.run("reload") == (0, "reloaded")
        site.run("unban --all")
        site.configure()
        site.run("reload")
    assert "Traceback" not in site.guard.log.read_text()


def _observes(site: Site) -> None:
    """Nothing is active; a ban and what is allowed are of this mode only."""
    assert site.run("list") == (0, "nothing would be active")
    code, output = site.run(f"ban {OTHER} --why x")
    assert (code, output) == (
        0,
        f"{OTHER} would be banned in mx and submission; observing, nothing is enforced",
    )
    assert site.connects(OTHER)
    log = site.guard.log.read_text()
    assert f"would-ban {OTHER} scope=mx limit=operator for=10m level=1 origin=operator\n" in log
    assert site.guard.status().desired == 0
    assert "only in observe mode" in site.run(f"allow {ONE4}")[1]


def _prints(site: Site) -> None:
    """What other commands say of this ban, and then."""
    assert site.run(f"unban {ONE4}") == (1, f"throttled: {ONE4} is neither throttled nor banned")
    _shown(site)
    assert site.guard.ask("status")["desired"] == 0
    assert "would ban" in site.guard.command("list", OTHER).stdout
    code, output = site.run(f"unban {OTHER}")
    assert (code, output) == (
        0,
        f"{OTHER} would be unbanned; observing, nothing is enforced",
    )
    assert site.run(f"throttle {OTHER} --scope mx")[1].startswith(f"{OTHER} would be throttled")
    assert site.run("unban --all")[1].startswith("1 unbanned (would-be")
    site.run(f"ban {OTHER}")


def _shown(site: Site) -> None:
    status = site.guard.command("status").stdout
    assert re.search(r"would      throttle 0 in mx.*\n           ban 1 in mx, 1 in subm", status)
    assert "nothing is enforced (observe mode)" in status
    rows = site.guard.command("preview").stdout.splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [[OTHER, "would", "ban"]] * 2
    assert site.guard.ask("preview")["would"] is True
    assert site.run(f"preview {ONE4}")[0] == 1
    explained = site.guard.command("explain", OTHER).stdout
    assert "Would be active (observe mode):\n  would ban of" in explained


def test_observing_without_a_daemon(site: Site) -> None:
    """The daemon enforced, was killed, and then the configuration observes."""
    site.guard.start()
    assert site.run(f"ban {ONE4}")[0] == 0
    site.guard.signal(signal.SIGKILL)
    site.guard.kill()
    site.configure(first='mode = "observe"\n')
    site.guard.start()
    site.run(f"ban {OTHER}")
    site.guard.kill()
    assert site.run("list")[0] == 0
    assert site.guard.ask("list")["would"] is True
    assert site.guard.ask("preview")["total"] == 2
    assert site.guard.command("export", "banned").stdout.count(f"{OTHER} would-ban ") == 2
    assert site.run(f"unban {ONE4}") == (0, f"{ONE4} is unbanned")  # really banned, before
    assert site.run(f"unban {OTHER}")[1].startswith(f"{OTHER} would be unbanned")
    site.configure()
    site.guard.start()
    site.run(f"ban {ONE4}")
    site.guard.kill()
    site.configure(first='mode = "observe"\n')
    done = site.guard.command("list")
    assert "the kernel still has elements of the nftables backend" in done.stderr
    assert not site.connects(ONE4)
    assert site.run(f"unban {ONE4}") == (0, f"{ONE4} is unbanned")
    assert site.connects(ONE4)


@pytest.mark.parametrize("how", ["reload", "start", "allow"])
def test_what_becomes_protected_is_listed_as_banned_no_longer(site: Site, how: str) -> None:
    site.guard.start()
    for subject in (ONE4, "198.18.7.0/24", OTHER):
        assert site.run(f"ban {subject} --scope mx")[0] == 0
    if how == "allow":
        assert site.run("allow 198.18.7.0/24") == (0, "198.18.7.0/24 is allowed")
    else:
        site.configure('[protect]\nnetworks = ["198.18.6.0/23"]\n')
        if how == "start":
            site.guard.stop()
            site.guard.start()
        else:
            assert site.run("reload")[0] == 0
    until(lambda: [row.subject for row in site.guard.rows()] == [OTHER], "it is unbanned")
    assert site.connects(ONE4)
    assert site.guard.status().banned == {"mx": 1, "submission": 0}
    output = site.guard.ask("explain", ONE4)
    assert (output["active"], bool(output["protected"])) == ([], True)
    assert output["decisions"][0]["why"] == "protected: allowed by the operator"
    assert "unban 198.18.7.7 scope=mx limit=protected" in site.guard.log.read_text()
    assert ONE4 not in site.server.run("nft", "list", "set", "inet", "throttled", "mx_ban4").stdout


@pytest.mark.parametrize("running", [True, False])
def test_a_list_is_whole(site: Site, tmp_path: Path, *, running: bool) -> None:
    site.guard.start()
    many = [f"198.18.{n >> 8}.{n & 255}" for n in range(4500)]
    path = tmp_path / "list"
    path.write_text("".join(f"{each} ban mx 1h # {'x' * 100}\n" for each in many))
    assert site.guard.command("import", str(path)).returncode == 0
    if not running:
        site.guard.kill()
    for sort in ("since", "until", "subject", "packets"):
        done = site.guard.command("list", "--json", "--sort", sort)
        assert sorted(row["subject"] for row in json.loads(done.stdout)["rows"]) == sorted(many)
    assert site.guard.command("list", "--max", "9000").stdout.count("x" * 100) == 4500
    code, output = site.run("list --limit operater")
    assert (code, output) == (2, "throttled: no such limit: operater")
    hint = site.guard.command("list", "--limit", "operater").stderr
    assert "did you mean operator? limits: " in hint
    assert site.run("list --limit network") == (0, "no matching entries are active")
    assert site.run("list --scope mxx")[0] == 2
