"""The Debian package on a booted Debian with its Postfix, journald and systemd.

One machine for all, each test with an attacker of its own in a network of its own.
"""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.machine import booted
from lab.machine.booted import Machine
from lab.machine.packages import NAME, dependencies, renumbered
from lab.mail.bots import Bot
from lab.mail.session import greets
from lab.network import netns
from lab.network.netns import CLIENT4, Namespace
from throttled import __version__
from throttled.host.on_hold import Held, OnHold

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "/etc/throttled/throttled.toml"
#: Addresses that no test has used, each in a network of its own.
UNUSED = (f"198.18.{each}.7" for each in count(1))
UNIT = "/run/systemd/system/throttled.service"
NEXT = f"{__version__}+next"

pytestmark = [
    pytest.mark.root,
    pytest.mark.postfix,
    pytest.mark.systemd,
    pytest.mark.long,
    pytest.mark.timeout(600),
]


class Site(NamedTuple):
    """A machine on which the package was installed, and those who can reach it."""

    host: Machine
    client: Namespace
    later: Path  # the next version of the package

    def run(self, *argv: str, check: bool = True) -> str:
        return self.host.run(*argv, check=check).stdout

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, "throttled").strip()

    def active(self) -> bool:
        return self.show("ActiveState") == "active"

    def said(self, words: str) -> bool:
        return words in self.run("journalctl", "--no-pager", "--unit=throttled")

    def rows(self, source: str) -> list[Any]:
        answer = self.run("throttled", "list", source, "--json", check=False)
        rows: list[Any] = json.loads(answer)["rows"]
        return rows

    def banned(self, source: str) -> bool:
        return any(row["action"] == "ban" for row in self.rows(source))

    def answers(self, source: str) -> bool:
        return greets(self.client, source)

    def attack(self, source: str) -> None:
        """Let a source send garbage until it is banned."""
        bot = Bot(self.client, "garbage", netns.DEADMAN, [source])
        try:
            netns.until(partial(self.banned, source), f"{source} is banned")
        finally:
            bot.end()
        assert not self.answers(source)


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    later = renumbered(package, tmp_path_factory.mktemp("later"), NEXT)
    image = booted.image(
        [*dependencies(package), "libbpf1", "iptables", "ipset", "python3-iptables"]
    )
    with netns.pair() as (server, client), booted.machine(server, image) as host:
        yield Site(host, client, later)


@pytest.fixture
def site(machine: Site, package: Path) -> Site:
    """Install the package, where no test did yet or one purged it."""
    if not machine.host.path("/usr/lib/throttled").exists():
        install(machine, package)
    return machine


def install(site: Site, package: Path) -> None:
    shutil.copy(package, site.host.path("/var/tmp/throttled.deb"))
    # debconf has the standard output of postinst, whose lines come on standard error.
    script = "exec apt-get install --yes /var/tmp/throttled.deb 2>&1"
    printed = site.run("sh", "-c", script).splitlines()
    assert [line for line in printed if "not starting it" in line] == []
    (line,) = [line for line in printed if line.startswith("throttled is ")]
    assert line.endswith("); next: throttled check")
    assert line.startswith("throttled is running and starts at each boot (ok, ")
    later = printed[printed.index(line) + 1 :]  # of apt's own, e.g. the index of manual pages
    assert all(each.startswith(("Processing triggers", "needrestart")) for each in later), later


def test_it_protects_without_an_edit(site: Site) -> None:
    """apt-get install, and nothing else; the log is Debian's own: the journal."""
    assert site.active()
    assert site.show("UnitFileState") == "enabled"
    assert site.show("WatchdogUSec") == "30s"
    for unit in ("throttled-fleet.service", "throttled-report.timer"):
        assert site.run("systemctl", "is-enabled", unit, check=False) == "disabled\n"
        assert site.run("systemctl", "is-active", unit, check=False) == "inactive\n"
    status = json.loads(site.run("throttled", "status", "--json"))
    assert [tail["path"] for tail in status["tails"]] == ["journal"]
    source = next(UNUSED)
    site.attack(source)
    (row,) = site.rows(source)
    assert row["packets"] > 0
    fetch = (
        "from urllib.request import urlopen as o; print(o('http://127.0.0.1:9547/metrics').read())"
    )
    assert "throttled_events_total" in site.run("python3", "-c", fetch)
    paths = "['/usr/lib/throttled', '/usr/lib/throttled/vendor']"  # as the launcher says
    screen = f"import sys; sys.path[:0] = {paths}; import throttled.cli.screen"
    site.run("python3", "-IB", "-c", screen)  # what `throttled top` needs besides
    assert json.loads(site.run("throttled", "top", "--json"))["worst"]
    check = json.loads(site.run("throttled", "check", "--json"))
    wrong = [finding["what"] for finding in check["problems"] if finding["state"] != "ok"]
    # Debian 12's Postfix has these two off; later versions have them on.
    wrong = [what for what in wrong if not re.search(r"smtpd_forbid_\w+ = no", what)]
    assert len(wrong) == 1, wrong
    assert "journald drops what a service logs above 10000 lines in 30s" in wrong[0]
    found = [finding["what"] for finding in check["problems"]]
    assert any("lines arriving: in journal" in what for what in found), found
    assert any("an element was added, found and removed" in what for what in found), found


def test_commands_without_a_file_read_the_journal(site: Site) -> None:
    """This Debian has no /var/log/mail.log, and the program no file to be named."""
    assert not site.host.path("/var/log/mail.log").exists()
    source = next(UNUSED)
    site.attack(source)
    events = [json.loads(line) for line in site.run("throttled", "parse").splitlines()]
    assert source in {event["client"] for event in events}
    assert f" ban      {source} " in site.run("throttled", "replay")
    assert site.run("throttled", "suggest").startswith("read journal\n")
    refused = site.host.run("throttled", "parse", "/var/log/mail.log", check=False)
    assert "systemd's journal write: journal" in refused.stderr


def test_the_journal_has_priorities(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    notices = site.run("journalctl", "-u", "throttled", "-p", "notice..notice", "-o", "cat")
    assert re.search(rf"^ban {re.escape(source)} scope=mx limit=", notices, re.MULTILINE)
    infos = site.run("journalctl", "-u", "throttled", "-p", "info..info", "-o", "cat")
    assert re.search(r"^version \S+ started: backend nftables, mode enforce$", infos, re.MULTILINE)


def test_what_an_operator_types(site: Site) -> None:
    for page in ("man8/throttled.8", "man8/throttled-explain.8", "man5/throttled.toml.5"):
        assert site.host.path(f"/usr/share/man/{page}.gz").exists()
    complete = (
        "source /usr/share/bash-completion/completions/throttled;"
        "COMP_LINE='throttled unb' COMP_POINT=13; _throttled_completion throttled;"
        'echo "${COMPREPLY[@]}"'
    )
    assert site.run("bash", "-c", complete) == "unban\n"


def test_a_group_may_use_the_socket(site: Site) -> None:
    """What [control] group says works within the sandbox."""
    status = ("setpriv", "--reuid=nobody", "--regid=mail", "--clear-groups", "throttled", "status")
    assert site.host.run(*status, check=False).returncode == 3
    config = site.host.path(CONFIG)
    config.write_text(config.read_text().replace('#group = ""', 'group = "mail"'))
    site.run("systemctl", "restart", "throttled")
    site.run(*status)


def test_reload_keeps_what_is_in_force(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    before = site.rows(source), site.show("MainPID")
    site.run("systemctl", "reload", "throttled")
    netns.until(lambda: site.said("reloaded"), "it was reloaded")
    assert (site.rows(source)[0]["until"], site.show("MainPID")) == (
        before[0][0]["until"],
        before[1],
    )
    assert not site.answers(source)


def restarted(site: Site, before: int) -> bool:
    return int(site.show("NRestarts")) > before and site.active()


def test_killed_it_comes_back_and_bans_stay(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    until, restarts = site.rows(source)[0]["until"], int(site.show("NRestarts"))
    site.run("kill", "-9", site.show("MainPID"))
    assert not site.answers(source)
    netns.until(lambda: restarted(site, restarts), "systemd started it again")
    (row,) = site.rows(source)
    assert (row["until"], row["level"]) == (until, 1)
    assert not site.answers(source)
    site.attack(next(UNUSED))


def test_the_watchdog_ends_a_daemon_that_hangs(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    drop_in = site.host.path(f"{UNIT}.d/test.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=3s\n")
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "restart", "throttled")
    restarts = int(site.show("NRestarts"))
    site.run("kill", "-STOP", site.show("MainPID"))
    assert not site.answers(source)
    netns.until(lambda: restarted(site, restarts), "the watchdog saw it")
    assert site.said("Watchdog timeout")
    assert not site.answers(source)
    drop_in.unlink()
    site.run("systemctl", "daemon-reload")


def test_a_wrong_configuration_is_not_tried_again_and_again(site: Site) -> None:
    config = site.host.path(CONFIG)
    right = config.read_text()
    config.write_text("mode = 1\n")
    site.run("systemctl", "restart", "throttled", check=False)
    netns.until(lambda: site.show("ActiveState") == "failed", "it gave up")
    assert site.said("mode")
    config.write_text(right)
    site.run("systemctl", "restart", "throttled")


def check(site: Site) -> dict[str, dict[str, str]]:
    """Return what check finds, by what it says."""
    found = json.loads(site.run("throttled", "check", "--json", "--no-visit", check=False))
    return {finding["what"]: finding for finding in found["problems"]}


def test_a_webhook_in_the_sandbox(site: Site) -> None:
    """The unit denies it, check says so and what to write, and that is what helps."""
    config = site.host.path(CONFIG)
    before, mode = config.read_text(), config.stat().st_mode
    drop_in = site.host.path("/etc/systemd/system/throttled.service.d/webhook.conf")
    with site.client.listen(CLIENT4, 8080):
        config.write_text(
            before.replace("\n[notify]\n", f'\n[notify]\nurl = "http://{CLIENT4}:8080/hook"\n')
        )
        config.chmod(0o644)
        site.run("systemctl", "reload", "throttled")
        try:
            found = check(site)
            (error,) = (p for what, p in found.items() if "cannot reach the webhook" in what)
            assert error["state"] == "fault"
            assert any("can read the webhook's URL" in what for what in found)
            first, *lines, last = error["hint"].splitlines()
            assert first == "write this to /etc/systemd/system/throttled.service.d/webhook.conf:"
            drop_in.parent.mkdir(parents=True, exist_ok=True)
            drop_in.write_text("\n".join(f"         {line}" for line in lines))  # as it is printed
            config.chmod(0o600)
            site.run("sh", "-c", last.removeprefix("then: "))
            found = check(site)
            assert f"notify: the daemon can reach the webhook at {CLIENT4}" in found
            assert not any("can read the webhook's URL" in what for what in found)
        finally:
            drop_in.unlink(missing_ok=True)
            config.write_text(before)
            config.chmod(mode)
            site.run("systemctl", "daemon-reload")
            site.run("systemctl", "restart", "throttled")


_ASK = """
import socket
end = socket.socket(socket.AF_UNIX)
end.connect("/var/spool/postfix/throttled/policy")
end.sendall(b"request=smtpd_access_policy\\nprotocol_state=DATA\\n\\n")
print(end.recv(100).decode(), end="")
"""


def test_postfix_may_ask_in_the_sandbox(site: Site) -> None:
    modes = "/var/spool/postfix/throttled", "/var/spool/postfix/throttled/policy"
    asked = site.run("stat", "-c", "%A %U %G", *modes)
    assert asked.split("\n")[:2] == ["drwx--x--- root postfix", "srw-rw---- root postfix"]
    as_postfix = ("setpriv", "--reuid=postfix", "--regid=postfix", "--clear-groups")
    assert site.run(*as_postfix, "python3", "-c", _ASK) == "action=DUNNO\n\n"
    assert site.run("postfix", "check") == ""


def test_the_timer_refreshes_names(site: Site) -> None:
    shown = site.run("systemctl", "is-enabled", "throttled-resolve.timer")
    assert shown == "enabled\n"
    hosts = site.host.path("/etc/hosts")
    before = hosts.read_text()
    try:
        hosts.write_text(f"{before}198.18.71.1 probe.example.net\n")
        site.run("throttled", "allow", "--resolve", "probe.example.net")
        hosts.write_text(f"{before}198.18.71.2 probe.example.net\n")
        site.run("systemctl", "start", "throttled-resolve.service")
        rows = json.loads(site.run("throttled", "allow", "--json"))["rows"]
        assert {row["what"] for row in rows if row["name"]} == {"198.18.71.1", "198.18.71.2"}
        assert [row["what"] for row in rows if row["missing"]] == ["198.18.71.1"]
    finally:
        hosts.write_text(before)
        site.run("throttled", "disallow", "probe.example.net")


_SEND = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25) as smtp:
    smtp.sendmail("a@example.net", ["postmaster"], "Subject: x\\r\\n\\r\\nx\\r\\n")
"""


def test_mail_on_hold_is_released_by_a_unit_without_a_daemon(site: Site) -> None:
    site.run("systemctl", "stop", "throttled")
    hold = "smtpd_data_restrictions=check_client_access static:HOLD"
    site.run("postconf", "-e", hold)
    site.run("postfix", "reload")
    site.run("python3", "-c", _SEND)
    site.run("postconf", "-X", "smtpd_data_restrictions")
    site.run("postfix", "reload")
    (one,) = [json.loads(line) for line in site.run("postqueue", "-j").splitlines()]
    assert one["queue_name"] == "hold"
    place = site.host.path("/var/lib/throttled/on-hold")
    arrived = float(one["arrival_time"])
    held = Held("/etc/postfix", one["queue_id"], "127.0.0.1", arrived, arrived + 1, 1, 1.0)
    OnHold(str(place.with_name("throttled.db"))).add(held)

    def released() -> bool:
        return one["queue_id"] not in site.run("postqueue", "-j")

    netns.until(released, "it is released", 30.0)
    netns.until(lambda: not list(place.iterdir()), "nothing is recorded")
    site.run("systemctl", "start", "throttled")


def protects_and_cleans_up(site: Site, backend: str, source: str) -> None:
    """Use another backend, and let stop take away what it put into the kernel."""
    with configured(site, f'on_stop = "remove"\nbackend = "{backend}"'):
        site.run("systemctl", "restart", "throttled")
        assert json.loads(site.run("throttled", "status", "--json"))["backend"] == backend
        site.attack(source)
        site.run("systemctl", "stop", "throttled")
        assert site.show("Result") == "success"
        assert site.answers(source)


def test_the_sensor_in_its_sandbox(site: Site) -> None:
    source = next(UNUSED)

    def seen() -> bool:
        meters = json.loads(site.run("throttled", "explain", source, "--json"))["meters"]
        return any(meter["value"] for meter in meters if meter["kernel"])

    status = json.loads(site.run("throttled", "status", "--json"))
    assert status["sensor"]["what"] == "completed handshakes are counted at ports 25"
    assert site.answers(source)
    netns.until(seen, "the kernel has counted it")


def test_admission_control_in_its_sandbox(site: Site) -> None:
    """By BPF at the control group that systemd made for Postfix, and again when that is new.

    The daemon looks once a second where Postfix is.
    """
    source = next(UNUSED)

    def counted(before: int) -> bool:
        assert site.answers(source)
        return bool(overload(site)["admitted"] > before)

    netns.until(lambda: overload(site)["means"] == "bpf", "admission control has begun")
    for _ in range(2):
        netns.until(partial(counted, overload(site)["admitted"]), "a connection is counted")
        site.run("systemctl", "restart", "postfix")
        netns.until(lambda: site.answers(source), "Postfix is back")


@contextmanager
def waiting(site: Site, *argv: str) -> Iterator[None]:
    """End the daemon by a command, and have the next one wait until the end of the block."""
    drop_in, go = site.host.path(f"{UNIT}.d/wait.conf"), site.host.path("/run/go")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(
        "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\n"
    )
    site.run("systemctl", "daemon-reload")
    before = site.show("MainPID")
    try:
        site.run(*argv)
        netns.until(lambda: site.show("SubState") == "start-pre", "the next one waits")
        yield
    finally:
        go.touch()
        netns.until(lambda: site.active() and site.show("MainPID") != before, "it is back")
        drop_in.unlink()
        go.unlink()
        site.run("systemctl", "daemon-reload")


def overload(site: Site) -> dict[str, Any]:
    """Return the status of admission control at port 25."""
    status = json.loads(site.run("throttled", "status", "--json"))
    found: dict[str, Any] = next(one for one in status["overload"] if one["scope"] == "mx")
    return found


@pytest.fixture
def crowded(site: Site) -> Iterator[tuple[str, list[socket.socket]]]:
    """Let strangers have all three places; yield a known good client, and their connections."""
    good, limits = next(UNUSED), site.host.path("/etc/throttled/throttled.d/overload.toml")
    deliver = (
        "import sys, time; sys.path[:0] = ['/usr/lib/throttled', '/usr/lib/throttled/vendor']\n"
        "from throttled.model import Evidence\n"
        "from throttled.store.store import Store\n"
        "store, now = Store.open('/var/lib/throttled/throttled.db'), time.time()\n"
        "for at in now - 2 * 86400, now - 86400:\n"
        f"    store.record(now, (), [Evidence('{good}', at, 3)])\n"
        "store.close()\n"
    )
    limits.write_text('[overload]\ncap = 3\nidle = "1h"\n')
    site.run("systemctl", "stop", "throttled")
    site.run("python3", "-IB", "-c", deliver)
    site.run("systemctl", "start", "throttled")
    netns.until(lambda: overload(site)["means"] == "bpf", "admission control has begun")
    with ExitStack() as stack:
        made = [
            stack.enter_context(site.client.connect(next(UNUSED), netns.SERVER4, 25, netns.DEADMAN))
            for _ in range(3)
        ]
        assert all(each.recv(3) == b"220" for each in made)
        yield good, made
    limits.unlink()
    site.run("systemctl", "restart", "throttled")


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_strangers_are_limited_while_the_daemon_restarts(
    site: Site, crowded: tuple[str, list[socket.socket]], how: str
) -> None:
    good, strangers = crowded
    stored = site.show("NFileDescriptorStore")
    command = ["systemctl", "restart", "--no-block", "throttled"]
    if how == "kill":
        command = ["kill", "-9", site.show("MainPID")]
    with waiting(site, *command):
        assert not site.answers(next(UNUSED))
        assert site.answers(good)
        strangers.pop().close()
        netns.until(lambda: site.answers(next(UNUSED)), "a place is free")
        new = site.client.connect(next(UNUSED), netns.SERVER4, 25, netns.DEADMAN)
        assert not site.answers(next(UNUSED))
    with new:
        assert not site.answers(next(UNUSED))
        netns.until(lambda: overload(site)["means"] == "bpf", "admission control has begun again")
        assert not site.answers(next(UNUSED))
        assert site.answers(good)
        netns.until(lambda: site.show("NFileDescriptorStore") == stored, "its own are stored alone")
    netns.until(lambda: site.answers(next(UNUSED)), "a place is free again")


@pytest.mark.usefixtures("crowded")
def test_strangers_are_not_limited_without_the_daemon(site: Site) -> None:
    """At once after a stop; if it does not come back by itself, after the lease."""
    assert not site.answers(next(UNUSED))
    with waiting(site, "kill", "-9", site.show("MainPID")):
        assert not site.answers(next(UNUSED))
        netns.until(lambda: site.answers(next(UNUSED)), "the lease has expired")
    netns.until(lambda: overload(site)["means"] == "bpf", "admission control has begun again")
    assert not site.answers(next(UNUSED))
    assert int(site.show("NFileDescriptorStore"))
    site.run("systemctl", "stop", "throttled")
    assert site.answers(next(UNUSED))
    assert site.show("NFileDescriptorStore") == "0"


@pytest.mark.usefixtures("crowded")
def test_strangers_are_not_limited_once_it_only_observes(site: Site) -> None:
    """By a reload, so that systemd does not see an end."""

    def mode() -> Any:
        return json.loads(site.run("throttled", "status", "--json"))["mode"]

    enforcing, observe = mode(), site.host.path("/etc/throttled/throttled.d/observe.toml")
    assert not site.answers(next(UNUSED))
    observe.write_text('mode = "observe"\n')
    site.run("systemctl", "reload", "throttled")
    netns.until(lambda: mode() == "observe", "it observes")
    assert site.answers(next(UNUSED))
    assert site.show("NFileDescriptorStore") == "0"
    observe.unlink()
    site.run("systemctl", "reload", "throttled")
    netns.until(lambda: mode() == enforcing, "it enforces again")


def test_xdp_in_its_sandbox(site: Site) -> None:
    """With the drop-in that the package has for it."""
    with drop_in(site):
        protects_and_cleans_up(site, "xdp", next(UNUSED))
        # 0.2 more than without it: a list of paths instead of ProtectKernelTunables.
        site.run("systemd-analyze", "security", "--threshold=26", "throttled")
    site.run("systemctl", "start", "throttled")


def test_xdp_pins_that_are_removed_come_back_in_its_sandbox(site: Site) -> None:
    source, pins = next(UNUSED), "/sys/fs/bpf/throttled"

    def enforced() -> bool:
        status = json.loads(site.run("throttled", "status", "--json"))
        return 0 < status["desired"] == status["enforced"] and not site.answers(source)

    with drop_in(site), configured(site, 'backend = "xdp"'):
        site.run("systemctl", "restart", "throttled")
        site.attack(source)
        for _ in range(2):
            site.run("rm", "-r", pins)
            netns.until(site.host.path(pins).exists, "the pins are there again", 20.0)
            netns.until(enforced, "all is active again", 20.0)
        writable = ["/sys/fs/bpf"]
        assert mounted_writable(site, "/sys", "/proc/sys") == writable
        site.run("systemctl", "stop", "throttled")
        site.run("throttled", "purge", "--yes")
        assert not site.host.path(pins).exists()
    site.run("systemctl", "start", "throttled")


def mounted_writable(site: Site, *below: str) -> list[str]:
    """Return the writable mounts below directories, as the daemon sees them."""
    lines = site.host.path(f"/proc/{site.show('MainPID')}/mounts").read_text().splitlines()
    fields = [line.split() for line in lines]
    return [
        place
        for _device, place, _kind, options, *_ in fields
        if f"{place}/".startswith(tuple(f"{each}/" for each in below))
        and "rw" in options.split(",")
    ]


@contextmanager
def drop_in(site: Site) -> Iterator[None]:
    """Install the drop-in for XDP, and what it needs."""
    site.run("apt-get", "install", "--yes", "libbpf1")
    if "/sys/fs/bpf" not in site.run("cat", "/proc/mounts"):  # a real machine has it mounted
        site.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    path = site.host.path(f"{UNIT}.d/xdp.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(site.host.path("/usr/share/doc/postfix-throttled/examples/xdp.conf"), path)
    site.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        path.unlink()
        site.run("systemctl", "daemon-reload")


@contextmanager
def configured(site: Site, setting: str) -> Iterator[None]:
    """Let the configuration have a setting of [firewall] meanwhile."""
    config = site.host.path(CONFIG)
    before = config.read_text()
    config.write_text(before.replace('#on_stop = "leave"', setting))
    try:
        yield
    finally:
        config.write_text(before)


def test_iptables_in_the_sandbox(site: Site) -> None:
    site.run("apt-get", "install", "--yes", "iptables", "ipset", "python3-iptables")
    for name in ("iptables", "ip6tables"):
        site.run("update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy")
    protects_and_cleans_up(site, "iptables", next(UNUSED))
    site.run("systemctl", "start", "throttled")


def test_stop_leaves_protection_standing(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    site.run("systemctl", "stop", "throttled")
    assert not site.answers(source)
    assert site.banned(source)
    site.run("systemctl", "start", "throttled")
    assert not site.answers(source)


def test_upgrade_remove_and_purge(site: Site) -> None:
    source = next(UNUSED)
    site.attack(source)
    config = site.host.path(CONFIG)
    config.write_text(config.read_text().replace("#per_session = 10", "per_session = 9"))
    edited, process = config.read_text(), site.show("MainPID")
    assert "\nper_session = 9" in edited
    answer = f"{NAME} {NAME}/mode select observe"  # counts at the first installation alone
    site.run("sh", "-c", f"echo '{answer}' | debconf-set-selections")

    install(site, site.later)
    assert not site.host.path("/etc/throttled/throttled.d/mode.toml").exists()
    assert site.run("dpkg-query", "-W", "-f", "${Version}", NAME) == NEXT
    assert site.active()
    assert site.show("MainPID") != process
    assert config.read_text() == edited
    assert site.banned(source)
    assert not site.answers(source)

    site.run("throttled", "postfix", "connect", "--yes")
    assert "throttled_check" in site.run("postconf", "-n")
    site.run("systemctl", "stop", "throttled")
    policy = "/var/spool/postfix/throttled/policy"  # as a daemon that is killed leaves it
    site.run("python3", "-c", f"import socket as s; s.socket(s.AF_UNIX).bind('{policy}')")
    config.write_text("mode = 1\n")  # must not stop it
    site.run("apt-get", "remove", "--yes", NAME)
    assert site.answers(source)
    assert "throttled" not in site.run("postconf", "-n")
    assert site.host.path("/var/lib/throttled/throttled.db").exists()
    assert config.exists()
    assert not site.host.path("/usr/lib/throttled").exists()

    mine = [site.host.path(f"/{place}/throttled/mine") for place in ("etc", "var/lib")]
    for path in mine:
        path.write_text("precious")
    changes = site.host.path("/var/lib/throttled/postfix")  # of `throttled postfix`
    changes.mkdir(exist_ok=True)
    changes.joinpath("%2Fetc%2Fpostfix.json").write_text("[]")
    site.run("apt-get", "purge", "--yes", NAME)
    assert all(path.read_text() == "precious" for path in mine)
    for path in mine:
        assert [each.name for each in path.parent.iterdir()] == ["mine"]
        shutil.rmtree(path.parent)
    left = site.run("find", "/", "-xdev", "-path", "*throttled*", "-not", "-path", "/proc/*")
    assert [
        path for path in left.split() if not path.startswith(("/var/tmp/", "/var/cache/"))
    ] == []
    assert site.run("systemctl", "list-unit-files", "throttled*", "--no-legend", check=False) == ""


def test_observe_as_answered_at_the_installation(site: Site) -> None:
    """As on a new host: nothing of the package is left."""
    site.run("dpkg", "--purge", NAME)  # succeeds also where it is not installed
    answer = f"{NAME} {NAME}/mode select observe"
    site.run("sh", "-c", f"echo '{answer}' | debconf-set-selections")
    install(site, site.later)
    assert site.show("StatusText").startswith("ok, observing: ")
    chosen = site.host.path("/etc/throttled/throttled.d/mode.toml")
    assert 'mode = "observe"\n\n[notify]\nmail = "postmaster"\n' in chosen.read_text()
    assert site.run("throttled", "mode", "enforce").startswith("enforce: reloaded")
    assert 'mode = "enforce"' in chosen.read_text()
    assert json.loads(site.run("throttled", "status", "--json"))["mode"] == "enforce"
    printed = site.run("apt-get", "purge", "--yes", NAME)
    assert "nftables: nothing of throttled is left" in printed
    assert "nothing to change" not in printed
    assert "0 messages" not in printed
    assert not chosen.parent.parent.exists()
