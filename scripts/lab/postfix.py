"""A real, independent Postfix in a namespace: its own configuration, queue, log, DNS and accounts.

An ordinary main.cf with every limit at Postfix's default. Hosts, resolv.conf and /dev are private
to a mount namespace. Mail for alice@ and bob@example.test is delivered to a Maildir; alice may log
in with `secret`. Owns a directory, a cgroup of version 2 (what Postfix costs is read there, exact
to the microsecond, processes that have ended included) and all processes in both.
Needs the Debian packages that scripts/bootstrap installs.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lab.netns import Namespace, cgroup_root, directory, pair, unique, until

Logger = Literal["postlogd", "rsyslog"]

DOMAIN, HOST = "example.test", "mx.example.test"
USER, PASSWORD = "alice", "secret"
PORTS = (25, 465, 587)

_MAIN = """\
compatibility_level = 3.6
daemon_directory = /usr/lib/postfix/sbin
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {maillog}
maillog_file_prefixes = {home}
myhostname = mx.example.test
mydestination =
alias_maps =
inet_interfaces = all
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
virtual_mailbox_domains = example.test
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = inline:{{alice@example.test=alice/, bob@example.test=bob/}}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {home}/config/tls.pem
smtpd_tls_key_file = {home}/config/tls.pem
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = {home}/config/sasl
smtpd_sasl_local_domain = mx.example.test
"""

# Debian's own master.cf, without what this server does not do.
_MASTER = """\
smtp       inet  n  -  n  -     -  smtpd
submission inet  n  -  n  -     -  smtpd
  -o syslog_name=postfix/submission
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
smtps      inet  n  -  n  -     -  smtpd
  -o syslog_name=postfix/smtps
  -o smtpd_tls_wrappermode=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup     unix  n  -  n  60    1  pickup
cleanup    unix  n  -  n  -     0  cleanup
qmgr       unix  n  -  n  300   1  qmgr
tlsmgr     unix  -  -  n  1000? 1  tlsmgr
rewrite    unix  -  -  n  -     -  trivial-rewrite
bounce     unix  -  -  n  -     0  bounce
defer      unix  -  -  n  -     0  bounce
trace      unix  -  -  n  -     0  bounce
verify     unix  -  -  n  -     1  verify
flush      unix  n  -  n  1000? 0  flush
proxymap   unix  -  -  n  -     -  proxymap
error      unix  -  -  n  -     -  error
retry      unix  -  -  n  -     -  error
virtual    unix  -  n  n  -     -  virtual
anvil      unix  -  -  n  -     1  anvil
showq      unix  n  -  n  -     -  showq
postlog    unix-dgram n - n -   1  postlogd
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN
sasldb_path: {home}/data/sasldb
"""

_RSYSLOG = """\
global(workDirectory="{home}")
module(load="imuxsock" SysSock.Name="/dev/log" SysSock.RateLimit.Interval="0")
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
_START = """\
mount --bind {home}/config/hosts /etc/hosts
mount --bind {home}/config/resolv.conf /etc/resolv.conf
mount -t tmpfs -o mode=755,size=1m tmpfs {home}/dev
for device in null zero full random urandom tty; do
    : >{home}/dev/$device
    mount --bind /dev/$device {home}/dev/$device
done
mount --rbind {home}/dev /dev
if [ {logger} = rsyslog ]; then
    rsyslogd -f {home}/config/rsyslog.conf -i {home}/rsyslogd.pid
    while ! [ -S /dev/log ]; do sleep 0.05; done
fi
echo $$ >{cgroup}/cgroup.procs
exec postfix -c {home}/config start
"""


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
        count = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # it ended while we looked
                count += Path(f"/proc/{pid}/comm").read_text() == "smtpd\n"
        return count

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

    def rotate(self) -> None:
        """Rotate the log: `postfix logrotate` (renames, compresses), or logrotate and rsyslog.

        Raises:
            RuntimeError: it failed; the text is why, which Postfix tells its log alone.
        """
        until(self.log.exists, "there is a log to rotate")
        if self.home.joinpath("rsyslogd.pid").exists():
            state = str(self.home / "logrotate.state")
            self.server.run("logrotate", "-f", "-s", state, f"{self.home}/config/logrotate.conf")
        else:
            argv = ("postfix", "-c", str(self.config), "logrotate")
            if self.server.run(*argv, check=False).returncode:
                lines = self.log.read_text("latin-1").splitlines()
                told = [line for line in lines if "postfix-script" in line or "fatal" in line]
                raise RuntimeError(f"postfix logrotate: {told[-5:]}")

    def stop(self) -> None:
        """End all of it within seconds. Idempotent."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self._master(), signal.SIGTERM)  # master ends its children
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.pids(), "postfix has stopped", 5.0)
        self.cgroup.joinpath("cgroup.kill").write_text("1")
        until(lambda: not self.pids(), "postfix was killed", 5.0)

    def _master(self) -> int:
        return int(self.home.joinpath("queue/pid/master.pid").read_text())


@contextlib.contextmanager
def postfix(server: Namespace, logger: Logger = "postlogd") -> Iterator[Postfix]:
    """Start a Postfix that listens when this yields, and stop it at the end."""
    with directory("postfix") as home, _cgroup() as cgroup:
        made = Postfix(server, home, cgroup)
        _write(home, logger)
        dns = server.popen(
            [sys.executable, str(Path(__file__).with_name("dns.py")), "127.0.0.1", "53"],
            stdout=subprocess.PIPE,
        )
        try:
            assert dns.stdout
            dns.stdout.readline()
            script = _START.format(home=home, cgroup=cgroup, logger=logger)
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


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    root = cgroup_root()
    if root is None:
        raise RuntimeError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    path = root / unique("postfix")
    path.mkdir()
    try:
        yield path
    finally:
        until(lambda: not path.joinpath("cgroup.procs").read_text(), "the cgroup is empty")
        path.rmdir()


def _write(home: Path, logger: Logger) -> None:
    """Write everything that Postfix reads."""
    owner = pwd.getpwnam("postfix")
    for name in ("config", "config/sasl", "queue", "data", "log", "mail", "dev"):
        home.joinpath(name).mkdir()
    for name in ("data", "mail"):
        shutil.chown(home / name, owner.pw_uid, owner.pw_gid)
    values = {
        "home": home,
        "uid": owner.pw_uid,
        "gid": owner.pw_gid,
        "maillog": f"{home}/log/maillog" if logger == "postlogd" else "",
    }
    for name, text in (
        ("main.cf", _MAIN),
        ("master.cf", _MASTER),
        ("sasl/smtpd.conf", _SASL),
        ("rsyslog.conf", _RSYSLOG),
        ("logrotate.conf", _LOGROTATE),
        ("hosts", f"127.0.0.1 localhost {HOST}\n::1 localhost\n"),
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
    ):
        path = home / "config" / name
        path.write_text(text.format(**values))
        os.utime(path, (0, 0))  # Postfix waits two seconds before it trusts a new file
    key = home / "config" / "tls.pem"
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    _quietly(*openssl.split(), "-subj", f"/CN={HOST}", "-keyout", str(key), "-out", f"{key}.crt")
    with key.open("a") as file:
        file.write(Path(f"{key}.crt").read_text())
    database = home / "data" / "sasldb"
    _quietly("saslpasswd2", "-pc", "-f", str(database), "-u", HOST, USER, stdin=PASSWORD)
    shutil.chown(database, owner.pw_uid)


def _quietly(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True, timeout=30)
