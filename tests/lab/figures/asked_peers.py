"""policyd-rate-limit and postfwd as Debian ships them, asked as the daemon is.

Their packages are downloaded with apt and unpacked into the lab's own directory, never installed.
Both count by login, with limits that nothing reaches; the database of the first is in memory, as
its disk would be all that is measured. Owns their processes.
"""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from lab.figures.rivals import unpacked
from lab.network.netns import Namespace, directory, until

_PACKAGES = (
    "policyd-rate-limit",
    "postfwd",
    "libnet-server-perl",
    "libnet-dns-perl",
    "libio-multiplex-perl",
)
#: Debian's defaults, but for its own user, the paths, the output, and how many mails are allowed.
_POLICYD = """\
debug: False
user: "root"
group: "root"
pidfile: "{home}/policyd.pid"
sqlite_config:
    database: "/dev/shm/{home.name}.sqlite3"
SOCKET: "{socket}"
limits:
    - [1000000, 60]
    - [1000000, 86400]
"""
#: A connection needs a process for as long as it lasts: so many as smtpd has by default.
_POSTFWD = (
    *("--nodns", "--user", "root", "--group", "root"),
    *("--min_servers", "100", "--max_servers", "120", "--cache", "600", "--cache-no-size"),
    *("--rule", "id=RATE; sasl_username=~.+; action=rate(sasl_username/1000000/60/REJECT)"),
)


class Peer(NamedTuple):
    """A policy server of others."""

    name: str
    state: str  # the protocol state at which it counts
    start: Callable[[Namespace, Path, Path, Path], "subprocess.Popen[str]"]


def _policyd(server: Namespace, root: Path, home: Path, path: Path) -> "subprocess.Popen[str]":
    config = home / "policyd.yaml"
    config.write_text(_POLICYD.format(home=home, socket=path))
    packages = {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages")}
    argv = ["/usr/bin/python3", str(root / "usr/bin/policyd-rate-limit"), "-f", str(config)]
    return server.popen(argv, env=packages, stderr=subprocess.DEVNULL)


def _postfwd(server: Namespace, root: Path, home: Path, path: Path) -> "subprocess.Popen[str]":
    where = ("--proto", "unix", "--port", str(path), "--pidfile", str(home / "postfwd.pid"))
    cache = ("--cache_proto", "unix", "--cache_port", str(home / "postfwd.cache"))
    argv = [
        "perl",
        "-T",
        f"-I{root}/usr/share/perl5",
        str(root / "usr/sbin/postfwd2"),
        *where,
        *cache,
    ]
    return server.popen([*argv, "--umask", "0000", "--server_umask", "0000", *_POSTFWD])


PEERS = (
    Peer("policyd-rate-limit of Debian", "RCPT", _policyd),
    Peer("postfwd2 of Debian", "RCPT", _postfwd),
)


@contextlib.contextmanager
def peers() -> Iterator[Path]:
    """Unpack them."""
    with unpacked(_PACKAGES) as root:
        yield root


@contextlib.contextmanager
def running(peer: Peer, root: Path, server: Namespace, path: Path) -> Iterator[Callable[[], float]]:
    """Start a policy server at a socket; yield what returns its seconds of CPU."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.unlink(missing_ok=True)
    with directory("peer") as home:
        before = {process.pid for process in psutil.process_iter()}
        started = peer.start(server, root, home, path)

        def processes() -> list[psutil.Process]:
            pids = server.pids()
            found = [p for p in psutil.process_iter() if p.pid not in before and p.pid in pids]
            words = (str(root), "postfwd2::")
            return [p for p in found if any(word in " ".join(p.cmdline()) for word in words)]

        def cpu() -> float:
            return sum(sum(p.cpu_times()[:4]) for p in processes())

        try:
            until(lambda: _answers(path), f"{peer.name} answers")
            path.chmod(0o777)
            yield cpu
        finally:
            for process in processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            started.kill()
            started.wait()
            path.unlink(missing_ok=True)
            Path(f"/dev/shm/{home.name}.sqlite3").unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as end, contextlib.suppress(OSError):
        end.settimeout(5.0)
        end.connect(str(path))
        end.sendall(b"request=smtpd_access_policy\nprotocol_state=CONNECT\n\n")
        return end.recv(512).startswith(b"action=")
    return False
