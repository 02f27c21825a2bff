"""A mail server as Debian installs it: its own package scripts write the configuration.

`host` makes a mount and UTS namespace with private copies of /etc, /usr and /var, in which Debian's
postfix.postinst configures Postfix as `apt-get install postfix` does for an "Internet Site".
main.cf, master.cf, the chroot, the certificate and the logger's configuration are what the
packages wrote.

The only differences from a stock Debian host, each because a namespace leaves no choice:

- journald `ReadKMsg=no`, rsyslogd without imklog: the kernel's log belongs to the machine.
- journald, rsyslogd and Postfix are started here, with the commands of their units: no systemd runs
  in the namespace. `policy-rc.d` refuses the package's own start for the same reason.
- /dev has six devices only, so that /dev/log is this host's and not the machine's.
- /run, /var/log and Postfix's spool are empty: they would show the machine's sockets and logs.
- Host name, hosts and resolv.conf are this host's; its name server does not answer: no DNS here.
- The certificate and Postfix's debconf answers are made anew: the machine's may be missing
  or changed.

The lab of the other tests has more differences: lab.mail.postfix lists them.

Owns the namespaces, a cgroup and all processes in them. Needs root; Debian only.
"""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lab.mail.chroot import CHROOT
from lab.mail.devices import DEVICES
from lab.network.netns import Namespace, cgroup, directory, until

Logger = Literal["journald", "rsyslog"]

NAME, DOMAIN = "mx", "example.test"
_JOURNALD = "/lib/systemd/systemd-journald"

# Overlays on tmpfs: what is written goes with the namespace.
_HOST = (
    """\
hostname {name}
mount -t tmpfs tmpfs {home}/layers
for place in etc usr var; do
    mkdir -p {home}/layers/$place/upper {home}/layers/$place/work
    layers=upperdir={home}/layers/$place/upper,workdir={home}/layers/$place/work
    mount -t overlay overlay -o lowerdir=/$place,$layers /$place
done
"""
    + DEVICES
    + """\
for place in run var/log var/spool/postfix var/lib/postfix; do
    mount -t tmpfs -o mode=755 tmpfs /$place
done
chown postfix:postfix /var/lib/postfix
echo {name} >/etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 {name}.{domain} {name}\\n::1 localhost\\n' >/etc/hosts
echo nameserver 127.0.0.1 >/etc/resolv.conf
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
rm -f /etc/postfix/main.cf /etc/postfix/master.cf /etc/mailname /etc/aliases /etc/aliases.db
make-ssl-cert generate-default-snakeoil --force-overwrite
echo PURGE | debconf-communicate postfix >/dev/null
printf '%s\\n' 'postfix postfix/main_mailer_type select Internet Site' \\
    'postfix postfix/mailname string {domain}' | debconf-set-selections
dpkg-reconfigure -fnoninteractive postfix
exec sleep infinity
"""
)

# What postfix@-.service runs, in its cgroup.
_START = f"""\
echo $$ >{{cgroup}}/cgroup.procs
{CHROOT}exec postmulti -i - -p start
"""


class Host:
    """A running mail server, made by `host`."""

    def __init__(self, server: Namespace, pid: int) -> None:
        self.server = server
        self._root = Path(f"/proc/{pid}/root")
        #: A command that runs what follows it on this host.
        self.within = ("nsenter", f"--target={pid}", "--mount", "--uts", "--wd=/")

    def run(self, *argv: str) -> str:
        """Run a command on the host and return its output.

        Raises:
            RuntimeError: it failed.
        """
        return self.server.run(*self.within, *argv).stdout

    def path(self, inside: str) -> Path:
        """Return the path of a file of the host, seen from outside."""
        return self._root / inside.lstrip("/")


@contextlib.contextmanager
def host(server: Namespace, logger: Logger) -> Iterator[Host]:
    """Install Postfix and a logger, start both, and end them at the end."""
    with directory("stock") as home, cgroup("stock") as group, contextlib.ExitStack() as stack:
        for name in ("layers", "dev"):
            (home / name).mkdir()
        made = stack.enter_context(_installed(server, home))
        stack.callback(until, lambda: not group.joinpath("cgroup.procs").read_text(), "it ended")
        stack.callback(group.joinpath("cgroup.kill").write_text, "1")
        stack.enter_context(_journald(made, home) if logger == "journald" else _rsyslogd(made))
        made.run("sh", "-euc", _START.format(cgroup=group))
        yield made


@contextlib.contextmanager
def _installed(server: Namespace, home: Path) -> Iterator[Host]:
    script = _HOST.format(home=home, name=NAME, domain=DOMAIN)
    log = home / "install.log"
    with log.open("w") as out:
        holder = server.popen(
            ("unshare", "--mount", "--uts", "--propagation=private", "sh", "-euc", script),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: _installed_or_ended(holder), "Postfix is installed")
        if holder.poll() is not None:
            raise RuntimeError(f"Postfix was not installed: {log.read_text()}")
        yield Host(server, holder.pid)
    finally:
        holder.kill()
        holder.wait()


def _installed_or_ended(holder: "subprocess.Popen[str]") -> bool:
    running = Path(f"/proc/{holder.pid}/comm").read_text() if holder.poll() is None else "sleep\n"
    return running == "sleep\n"


@contextlib.contextmanager
def _journald(made: Host, home: Path) -> Iterator[None]:
    """Run journald as systemd does; /dev/log is its socket."""
    made.run("mkdir", "-p", "/run/systemd/journal", "/etc/systemd/journald.conf.d", "/run/log")
    made.path("etc/systemd/journald.conf.d/lab.conf").write_text("[Journal]\nReadKMsg=no\n")
    made.run("ln", "-s", "/run/systemd/journal/dev-log", "/dev/log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(home / "notify"))
        with _service(made, (_JOURNALD,), {"NOTIFY_SOCKET": str(home / "notify")}):
            ready.settimeout(60)
            while b"READY=1" not in ready.recv(4096):
                pass
            yield


@contextlib.contextmanager
def _rsyslogd(made: Host) -> Iterator[None]:
    """Run rsyslogd with Debian's configuration, less the kernel's log."""
    made.run("sed", "-i", "/imklog/d", "/etc/rsyslog.conf")
    made.run("mkdir", "-p", "/var/spool/postfix/dev")  # as postfix's directory is in the package
    with _service(made, ("rsyslogd", "-n", "-iNONE"), {}):
        until(made.path("dev/log").is_socket, "rsyslogd listens")
        yield


@contextlib.contextmanager
def _service(made: Host, argv: Sequence[str], env: dict[str, str]) -> Iterator[None]:
    process = made.server.popen(
        (*made.within, *argv), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)
