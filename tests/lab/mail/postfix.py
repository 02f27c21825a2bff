"""A real, independent Postfix in a namespace: its own configuration, queue, log, DNS and accounts.

Debian's main.cf and master.cf with the differences listed below, each with its reason; a host
without any: lab.mail.stock. Hosts, resolv.conf and /dev are private to a mount namespace. Mail for
alice@ and bob@example.test is delivered to a Maildir; alice may log in with `secret`. Owns a
directory, a cgroup of version 2 (what Postfix costs is read there, exact to the microsecond,
processes that have ended included) and all processes in both. Needs the Debian packages that
scripts/bootstrap installs.
"""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lab.mail.chroot import CHROOT
from lab.mail.devices import DEVICES
from lab.mail.maincf import settle
from lab.network.netns import Namespace, cgroup, directory, pair, until

Logger = Literal["postlogd", "rsyslog"]

DOMAIN, HOST = "example.test", "mx.example.test"
USER, PASSWORD = "alice", "secret"
PORTS = (25, 465, 587)

_DEBIAN = Path("/usr/share/postfix")
_PORT = re.compile(r"^(?:\S+:)?(\d+)\s+inet\s", re.MULTILINE)  # of a service in master.cf

#: What Debian's postfix.postinst sets in main.cf.debian and main.cf.tls (3.7.11, 3.10.13), with the
#: answers that debconf proposes for an "Internet Site". test_stock.py compares it with what that
#: writes.
POSTINST = """\
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = mx.example.test
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
myorigin = /etc/mailname
mydestination = $myhostname, example.test, mx.example.test, localhost.example.test, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
"""

#: Everything in which the lab's main.cf differs from that; takes the place of Debian's lines.
_MAIN = """\
# Several labs run at once and beside the machine's own Postfix, and tests look in from outside.
queue_directory = {home}/queue
data_directory = {home}/data
cyrus_sasl_config_path = {home}/config/sasl
# The machine's /etc/mailname and ssl-cert's key need not be there.
myorigin = example.test
smtpd_tls_cert_file = {home}/config/tls.pem
smtpd_tls_key_file = {home}/config/tls.pem
# alice and bob are no users of the machine.
alias_maps = hash:/etc/aliases, inline:{{alice={home}/mail/alice/, bob={home}/mail/bob/}}
"""
# One program less than with rsyslog, and `postfix logrotate`; logger="rsyslog" does without.
_POSTLOGD = """\
maillog_file = {home}/log/maillog
maillog_file_prefixes = {home}
"""

#: What is not taken over of Debian's two submission services: the bots speak no TLS, which would
#: cost 3.5 ms of CPU a session.
_TLS_ONLY = ("smtpd_tls_security_level=encrypt", "smtpd_tls_auth_only=yes")
_SUBMISSION = re.compile(r"^#(submissions? +inet .*\n)((?:#  .*\n)+)", re.MULTILINE)

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN
sasldb_path: /sasldb2
"""

_RSYSLOG = """\
global(workDirectory="{home}")
module(load="imuxsock" SysSock.Name="/dev/log" SysSock.RateLimit.Interval="0")
input(type="imuxsock" Socket="{home}/queue/dev/log")
mail.* action(type="omfile" file="{home}/log/maillog" template="RSYSLOG_FileFormat")
"""

# As Debian's /etc/logrotate.d/rsyslog.
_LOGROTATE = """\
{home}/log/maillog {{
    rotate 99
    missingok
    notifempty
    compress
    delaycompress
    sharedscripts
    postrotate
        kill -HUP $(cat {home}/rsyslogd.pid)
    endscript
}}
"""

# Runs in the namespace: a private /dev, hosts and resolv.conf, then Postfix in its cgroup.
_START = (
    """\
mount --bind {home}/config/hosts /etc/hosts
mount --bind {home}/config/resolv.conf /etc/resolv.conf
"""
    + DEVICES
    + """\
if [ {logger} = rsyslog ]; then
    rsyslogd -f {home}/config/rsyslog.conf -i {home}/rsyslogd.pid
    while ! [ -S /dev/log ]; do sleep 0.05; done
fi
echo $$ >{cgroup}/cgroup.procs
export MAIL_CONFIG={home}/config
"""
    + CHROOT
    + "exec postfix -c {home}/config start\n"
)


class Postfix:
    """A running Postfix. Made and stopped by `postfix`."""

    def __init__(self, server: Namespace, home: Path, cgroup: Path) -> None:
        self.server = server
        self.home = home
        self.cgroup = cgroup
        self.config = home / "config"
        self.log = home / "log" / "maillog"

    def cpu(self) -> float:
        """Return the seconds of CPU used by all of Postfix since it started."""
        for line in self.cgroup.joinpath("cpu.stat").read_text().splitlines():
            name, value = line.split()
            if name == "usage_usec":
                return int(value) / 1e6
        raise ValueError(f"no usage_usec in {self.cgroup}/cpu.stat")

    def smtpd(self) -> int:
        """Return how many smtpd processes there are now."""
        return len(self.smtpd_pids())

    def smtpd_pids(self) -> set[int]:
        """Return the smtpd processes there are now."""
        found = set()
        for pid in self.pids():
            with contextlib.suppress(OSError):  # it ended while we looked
                if Path(f"/proc/{pid}/comm").read_text() == "smtpd\n":
                    found.add(pid)
        return found

    def connections(self) -> int:
        """Return how many connections clients have with it, those that wait for it included."""
        ports = {f"{port:04X}" for port in PORTS}
        count = 0
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self._master()}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                count += state == "01" and local.rpartition(":")[2] in ports  # 01: established
        return count

    def pids(self) -> list[int]:
        """Return all processes of Postfix."""
        return [int(pid) for pid in self.cgroup.joinpath("cgroup.procs").read_text().split()]

    def delivered(self, user: str = USER) -> int:
        """Return how many messages lie in a user's mailbox."""
        new = self.home / "mail" / user / "new"
        return sum(1 for _ in new.iterdir()) if new.exists() else 0

    def command(self, *argv: str) -> str:
        """Run `postfix -c CONFIG …` and return what it said."""
        return self.server.run("postfix", "-c", str(self.config), *argv).stderr

    def reread(self) -> None:
        """Let master read its configuration again: `postfix reload` without its checks.

        Returns when it listens at all ports that master.cf names by number.
        """
        os.kill(self._master(), signal.SIGHUP)
        ports = _PORT.findall((self.config / "master.cf").read_text())
        until(lambda: all(self.server.listens(int(port)) for port in ports), "all services listen")

    def queued(self, *queues: str) -> list[Path]:
        """Return the files of the messages in queues, as `deferred`."""
        places = (self.home / "queue" / name for name in queues)
        return [path for place in places for path in place.rglob("*") if path.is_file()]

    @contextlib.contextmanager
    def services(self, edit: Callable[[Path], object]) -> Iterator[None]:
        """Let `edit` change master.cf, and Postfix have these services until the end."""
        with self.restored():
            edit(self.config / "master.cf")
            settle(self.config / "master.cf")
            self.command("reload")
            yield

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """At the end give each file of the configuration text, mode and owner from the begin."""
        before = {path: (path.lstat(), path.read_bytes()) for path in self._configuration()}
        try:
            yield
        finally:
            changed = [path for path in self._configuration() if path not in before]
            for path in changed:
                path.unlink()
            for path, (status, data) in before.items():
                if not path.exists() or path.lstat().st_ctime_ns != status.st_ctime_ns:
                    _replace(path, status, data)
                    changed.append(path)
            if changed:
                self.command("reload")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have no Postfix until the end; then it is in its cgroup again."""
        self.command("stop")
        try:
            yield
        finally:
            join = 'echo $$ >"$1" && exec postfix -c "$2" start'
            self.server.run("sh", "-c", join, "-", f"{self.cgroup}/cgroup.procs", str(self.config))

    def _configuration(self) -> list[Path]:
        return [path for path in self.config.rglob("*") if path.is_symlink() or path.is_file()]

    def rotate(self) -> None:
        """Rotate the log: `postfix logrotate` (renames, compresses), or logrotate and rsyslog.

        Raises:
            RuntimeError: it failed; the text is why, which Postfix reports to its log alone.
        """
        until(self.log.exists, "there is a log to rotate")
        if self.home.joinpath("rsyslogd.pid").exists():
            state = str(self.home / "logrotate.state")
            self.server.run("logrotate", "-f", "-s", state, f"{self.home}/config/logrotate.conf")
        else:
            argv = ("postfix", "-c", str(self.config), "logrotate")
            if self.server.run(*argv, check=False).returncode:
                lines = self.log.read_text("latin-1").splitlines()
                errors = [line for line in lines if "postfix-script" in line or "fatal" in line]
                raise RuntimeError(f"postfix logrotate: {errors[-5:]}")

    def stop(self) -> None:
        """End all of it within seconds. Idempotent."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self._master(), signal.SIGTERM)  # master ends its children
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.pids(), "postfix has stopped")
        self.cgroup.joinpath("cgroup.kill").write_text("1")
        until(lambda: not self.pids(), "postfix was killed")

    def _master(self) -> int:
        return int(self.home.joinpath("queue/pid/master.pid").read_text())


@contextlib.contextmanager
def postfix(server: Namespace, logger: Logger = "postlogd") -> Iterator[Postfix]:
    """Start a Postfix that listens when this yields, and stop it at the end."""
    with directory("postfix") as home, cgroup("postfix") as group:
        made = Postfix(server, home, group)
        _write(home, logger)
        dns = server.popen(
            [sys.executable, str(Path(__file__).with_name("dns.py")), "127.0.0.1", "53"],
            stdout=subprocess.PIPE,
        )
        try:
            assert dns.stdout
            dns.stdout.readline()
            script = _START.format(home=home, cgroup=group, logger=logger)
            unshare = ("unshare", "--mount", "--propagation", "private")
            server.run(*unshare, "sh", "-euc", script)
            yield made
        finally:
            made.stop()
            dns.kill()
            dns.communicate()


class Lab(NamedTuple):
    """A mail server and the network that its clients are in."""

    server: Namespace
    client: Namespace
    mail: Postfix


@contextlib.contextmanager
def lab(logger: Logger = "postlogd") -> Iterator[Lab]:
    """Make the two namespaces and start the Postfix."""
    with pair() as (server, client), postfix(server, logger) as mail:
        yield Lab(server, client, mail)


def _write(home: Path, logger: Logger) -> None:
    """Write everything that Postfix reads."""
    for name in ("config", "config/sasl", "queue", "data", "log", "mail", "dev"):
        home.joinpath(name).mkdir()
    home.joinpath("queue/dev").mkdir()
    shutil.chown(home / "data", "postfix", "postfix")
    shutil.chown(home / "mail", "nobody")  # local(8) delivers to an alias's directory as nobody
    for name, text in (
        ("main.cf", _with(_MAIN.format(home=home), debian())),
        ("master.cf", _master()),
        ("sasl/smtpd.conf", _SASL),
        ("rsyslog.conf", _RSYSLOG.format(home=home)),
        ("logrotate.conf", _LOGROTATE.format(home=home)),
        ("hosts", f"127.0.0.1 localhost {HOST}\n::1 localhost\n"),
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
    ):
        path = home / "config" / name
        path.write_text(text)
    if logger == "postlogd":
        with (home / "config" / "main.cf").open("a") as file:
            file.write(_POSTLOGD.format(home=home))
    settle(home / "config" / "main.cf")
    key = home / "config" / "tls.pem"
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    _quietly(*openssl.split(), "-subj", f"/CN={HOST}", "-keyout", str(key), "-out", f"{key}.crt")
    with key.open("a") as file:
        file.write(Path(f"{key}.crt").read_text())
    database = home / "queue" / "sasldb2"  # smtpd is in a chroot
    _quietly("saslpasswd2", "-pc", "-f", str(database), "-u", HOST, USER, stdin=PASSWORD)
    shutil.chown(database, group="postfix")
    database.chmod(0o640)


def _replace(path: Path, status: os.stat_result, data: bytes) -> None:
    """Write a file anew, at no instant half of it."""
    new = path.with_name("new")
    new.write_bytes(data)
    new.chmod(stat.S_IMODE(status.st_mode))
    os.chown(new, status.st_uid, status.st_gid)
    settle(new)
    new.replace(path)


def debian() -> str:
    """Return main.cf as Debian's package installs it on this host."""
    parts = [(_DEBIAN / name).read_text() for name in ("main.cf.debian", "main.cf.tls")]
    return _with(POSTINST, "".join(parts))


def _with(differences: str, text: str) -> str:
    """Return a main.cf with other values for some names; Postfix warns of a name set twice."""
    names = re.findall(r"^(\w+) =", differences, re.MULTILINE)
    text = re.sub(rf"^({'|'.join(names)}) *=.*\n", "", text, flags=re.MULTILINE)
    return f"{text}\n{differences}"


def _master() -> str:
    """Return Debian's master.cf with its submission services switched on, less their TLS."""

    def on(found: re.Match[str]) -> str:
        options = [line[1:] for line in found[2].splitlines() if line.startswith("#  -o ")]
        kept = [line for line in options if not line.endswith(_TLS_ONLY)]
        return found[1] + "\n".join(kept) + "\n"

    return _SUBMISSION.sub(on, (_DEBIAN / "master.cf.dist").read_text())


def _quietly(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True, timeout=30)
