"""fail2ban, sshguard and CrowdSec as Debian ships them, run in the lab beside throttled.

Their packages are downloaded with apt and unpacked into the lab's own directory, never installed:
no unit of theirs can start on this machine. A tool runs in the server's network namespace and in a
mount namespace in which the unpacked files lie over /usr and /etc (overlayfs), and in which /run,
/var/lib and /var/log are its own and survive its death. Each reads one log file and is set to ban
at the eleventh failed login, as throttled does, CrowdSec at the sixth, as its scenario says.
Owns the directory and the tool's processes. Needs root, Debian's package lists, overlayfs.
"""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from lab.figures.rig import Rig
from lab.mail import logs
from lab.network import netns
from lab.network.netns import Namespace

PACKAGES = (
    "fail2ban",
    "python3-pyinotify",  # which Debian's fail2ban recommends
    "sshguard",
    "crowdsec",
    "crowdsec-firewall-bouncer",
)
LIBRARY = "usr/libexec/sshguard"

_ADDRESS = re.compile(r"\b(?:100|198)\.\d+\.\d+\.\d+\b")  # of offenders: nothing else has these

# Runs in the server's namespace; the tool takes the place of the shell.
_ENTER = """\
mount -t overlay overlay -o lowerdir={home}/etc:{root}/etc:/etc /etc
mount -t overlay overlay -o lowerdir={root}/usr:/usr /usr
for place in run var/lib var/log; do mount --bind {home}/$place /$place; done
"""


class Setup(NamedTuple):
    """A tool and how it is configured."""

    name: str
    files: Mapping[str, str]  # in /etc; `{log}` and `{seconds}` (of a ban) are put in
    script: str  # how it starts, after _ENTER
    failures: int = 11  # that ban
    every: float = 1.0  # seconds, at most, between its looks


class Tool(Protocol):
    """What can be compared."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    server: Namespace
    client: Namespace
    log: Path
    failures: int
    every: float

    def start(self) -> None:
        """Start it, and wait until it bans."""

    def kill(self) -> None:
        """Kill all its processes."""

    def stop(self) -> None:
        """End it as systemd would."""

    def processes(self) -> list[psutil.Process]:
        """Return what runs of it."""

    def banned(self) -> list[str]:
        """Return the offenders' addresses that the kernel holds as banned, doubles too."""


class Rival:
    """Another tool. Made and ended by `rival`."""

    def __init__(self, setup: Setup, where: tuple[Namespace, Namespace], home: Path) -> None:
        self.name = setup.name
        self.server, self.client = where
        self.home = home
        self.log = home / "mail.log"
        self.output = home / "output"
        self.failures, self.every = setup.failures, setup.every
        self._script = setup.script
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it bans.

        Raises:
            TimeoutError: it bans nobody; the text is what it said.
        """
        with self.output.open("a") as output:
            self._process = self.server.popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-euc", self._script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # sshguard signals its process group
            )
        canary(self)

    def command(self, *argv: str) -> str:
        """Return what a command says in its mount namespace."""
        assert self._process
        words = ("nsenter", "-t", str(self._process.pid), "-m", *argv)
        done = self.server.run(*words, check=False)
        return done.stdout + done.stderr

    def processes(self) -> list[psutil.Process]:
        """Return what runs of it."""
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill all its processes; idempotent."""
        running = self.processes()
        for each in running:  # all stopped first: none may clean up after another's death
            with contextlib.suppress(psutil.NoSuchProcess):
                each.suspend()
        for each in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self._wait()

    def stop(self) -> None:
        """Send SIGTERM to its processes, as systemd would, and wait for the end."""
        running = self.processes()
        for each in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        gone, alive = psutil.wait_procs(running, timeout=60.0)
        if alive:
            raise TimeoutError(f"{self.name} does not stop: {gone} ended, {alive} did not")
        self._wait()

    def banned(self) -> list[str]:
        """Return the offenders' addresses that the kernel's rules and sets hold, doubles too."""
        rules = self.server.run("nft", "--numeric", "list", "ruleset", seconds=120.0).stdout
        return _ADDRESS.findall(rules)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(10.0)
            self._process = None


class Ours:
    """throttled, as what it is compared with."""

    name = "throttled"
    failures = 11
    every = 1.0

    def __init__(self, at: Rig) -> None:
        self.server, self.client, self.log, self.guard = at.server, at.client, at.log, at.guard

    def start(self) -> None:
        """Start it, and wait until it bans."""
        self.guard.start()
        canary(self)

    def kill(self) -> None:
        """Kill it."""
        self.guard.kill()

    def stop(self) -> None:
        """End it as systemd would."""
        self.guard.stop()

    def processes(self) -> list[psutil.Process]:
        """Return the one process that it is."""
        return [] if self.guard.ended() else [psutil.Process(self.guard.pid)]

    def banned(self) -> list[str]:
        """Return the addresses in its set of bans: those only throttled are not banned."""
        words = ("nft", "list", "set", "inet", "throttled", "mx_ban4")
        return _ADDRESS.findall(self.server.run(*words, check=False, seconds=120.0).stdout)


_canaries = (f"198.19.{a}.{b}" for a in range(200, 250) for b in range(1, 250))


def canary(tool: Tool, seconds: float = 60.0) -> bool:
    """Return whether a new offender, who goes on offending, is banned within so many seconds.

    Raises:
        TimeoutError: no; the text is what the tool said.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source = next(_canaries)
        append(tool, offence(source, tool.failures))
        until = min(end, time.monotonic() + 12.0)  # CrowdSec's bouncer asks every ten seconds
        while time.monotonic() < until:
            if source in tool.banned():
                return True
            time.sleep(0.05)
    said = tool.output.read_text()[-3000:] if isinstance(tool, Rival) else ""
    raise TimeoutError(f"{tool.name} bans nobody within {seconds:g} s: {said}")


def offence(source: str, failures: int) -> str:
    """Return one session's begin: so many failed logins of distinct users, and nothing else."""
    session = logs.guesses(source, [f"u{n}" for n in range(failures)], logs.stamp(time.time()))
    return "".join(session.splitlines(keepends=True)[: 1 + failures])


def append(tool: Tool, text: str) -> None:
    """Put lines behind the log."""
    with tool.log.open("a") as log:
        log.write(text)


def cpu(tool: Tool) -> float:
    """Return the seconds of CPU that its processes have used, their ended children included."""
    used = 0.0
    for each in tool.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(each.cpu_times()[:4])
    return used


@contextlib.contextmanager
def unpacked(packages: Sequence[str] = PACKAGES) -> Iterator[Path]:
    """Download packages and unpack them into a directory of the lab.

    Raises:
        RuntimeError: apt could not; the text says why.
    """
    with netns.directory("rivals") as root:
        argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
        done = subprocess.run(
            argv, cwd=root, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr}(hint: apt-get update)")
        for package in root.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True, timeout=60)
        yield root


@contextlib.contextmanager
def rival(setup: Setup, root: Path, seconds: int = 3600) -> Iterator[Rival]:
    """Prepare a tool in a network of its own; it is not started yet, and ended at the end.

    Args:
        setup: which, and its configuration.
        root: where its package is unpacked.
        seconds: of a ban.
    """
    with netns.pair() as where, netns.directory("rival") as home:
        for place in ("run/fail2ban", "var/lib/fail2ban", "var/lib/sshguard", "var/log", "etc"):
            home.joinpath(place).mkdir(parents=True)
        begin = _ENTER.format(home=home, root=root)
        made = Rival(setup._replace(script=begin + setup.script), where, home)
        made.log.touch()
        # Names are looked up nowhere: there is no way out of the namespace.
        names = {"hosts": f"127.0.0.1 localhost {os.uname().nodename}\n", "resolv.conf": ""}
        for name, text in {**names, **setup.files}.items():
            path = home / "etc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{log}", str(made.log)).replace("{seconds}", str(seconds)))
        try:
            yield made
        finally:
            made.kill()


_JAIL = """\
[DEFAULT]
maxretry = 11
findtime = 1d
bantime = {seconds}
[sshd]
enabled = false
[postfix]
enabled = true
mode = aggressive
logpath = {log}
"""
_FAIL2BAN = """\
[Definition]
logtarget = STDOUT
"""


def fail2ban(banaction: str, backend: str = "auto") -> Setup:
    """Return fail2ban with one of its actions; `auto` takes pyinotify where it is installed."""
    how = f"backend = {backend}\nbanaction = {banaction}\n"
    name = f"fail2ban, {banaction.partition('[block')[0]}, {backend.replace('auto', 'pyinotify')}"
    files = {"fail2ban/jail.local": _JAIL + how, "fail2ban/fail2ban.local": _FAIL2BAN}
    return Setup(name, files, "exec fail2ban-server -xf start\n")


_SSHGUARD = """\
BACKEND="/usr/libexec/sshguard/sshg-fw-nft-sets"
FILES="{log}"
THRESHOLD=110
BLOCK_TIME={seconds}
DETECTION_TIME=86400
"""
SSHGUARD = Setup("sshguard, nft-sets", {"sshguard/sshguard.conf": _SSHGUARD}, "exec sshguard\n")


#: Debian's default; the same without what the package only recommends; nftables, by port and not.
#: Drops instead of rejecting, as the others do: what is measured is the same.
FAIL2BAN: Sequence[Setup] = (
    fail2ban("iptables-multiport[blocktype=DROP]"),
    fail2ban("iptables-multiport[blocktype=DROP]", "polling"),
    fail2ban("nftables-multiport[blocktype=drop]"),
    fail2ban("nftables-allports[blocktype=drop]"),
)

# Everything it would ask its makers' servers for is left out: it has no network here.
_CROWDSEC = """\
common: {daemonize: false, log_media: stdout, log_level: info}
config_paths:
  config_dir: /var/lib/crowdsec/config
  data_dir: /var/lib/crowdsec/data
  simulation_path: /var/lib/crowdsec/config/simulation.yaml
  hub_dir: /var/lib/crowdsec/hub
  index_path: /var/lib/crowdsec/hub/.index.json
crowdsec_service: {acquisition_path: /etc/crowdsec/acquis.yaml, parser_routines: 1}
cscli: {output: human}
db_config: {log_level: info, type: sqlite, db_path: /var/lib/crowdsec/data/crowdsec.db}
api:
  client: {credentials_path: /var/lib/crowdsec/credentials.yaml}
  server:
    listen_uri: 127.0.0.1:8080
    profiles_path: /etc/crowdsec/profiles.yaml
prometheus: {enabled: false}
"""
_PROFILES = """\
name: ban
filters: [Alert.Remediation == true && Alert.GetScope() == "Ip"]
decisions: [{type: ban, duration: {seconds}s}]
on_success: break
"""
_ACQUISITION = "filenames: [{log}]\nlabels: {type: syslog}\n"
_BOUNCER = """\
mode: nftables
update_frequency: 10s
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:8080/
api_key: lab
deny_action: DROP
nftables:
  ipv4: {enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain, priority: -10}
  ipv6: {enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain, priority: -10}
"""
# What its package's postinst does, with the items that a mail server needs.
_CROWDSEC_SCRIPT = """\
at=/var/lib/crowdsec
if ! [ -d $at ]; then
    mkdir -p $at/hub $at/data $at/config
    cp -r /etc/crowdsec/. $at/config
    ln -s /usr/share/crowdsec/hub/* /usr/share/crowdsec/hub/.index.json $at/hub
    cp /usr/share/crowdsec/data/* $at/data
    for item in parsers/s00-raw/syslog-logs parsers/s01-parse/postfix-logs \
        parsers/s01-parse/postscreen-logs parsers/s02-enrich/dateparse-enrich \
        scenarios/postfix-spam; do
        mkdir -p $at/config/${item%/*}
        ln -s $at/hub/${item%/*}/crowdsecurity/${item##*/}.yaml $at/config/$item.yaml
    done
    cscli machines add lab --password lab --force --file $at/credentials.yaml
    cscli bouncers add lab --key lab
fi
crowdsec &
while ! cscli lapi status; do sleep 0.2; done
crowdsec-firewall-bouncer -c /etc/crowdsec/bouncers/crowdsec-firewall-bouncer.yaml &
wait
"""
CROWDSEC = Setup(
    "CrowdSec and its firewall bouncer",
    {
        "crowdsec/config.yaml": _CROWDSEC,
        "crowdsec/profiles.yaml": _PROFILES,
        "crowdsec/acquis.yaml": _ACQUISITION,
        "crowdsec/bouncers/crowdsec-firewall-bouncer.yaml": _BOUNCER,
    },
    _CROWDSEC_SCRIPT,
    failures=6,
    every=10.0,
)
