"""Network namespaces: a server and a client that owns whole prefixes, and a wire between them.

Nothing here has a path to the machine's own network. Namespaces, temporary directories and cgroups
carry `thr-<pid>-` in their names, `pid` being the process that made them: what it leaves behind
(because it was killed) is recognised by `leftovers` and removed by `sweep`. A context manager owns
each namespace and ends the processes in it. Needs root and iproute2.

    with pair() as (server, client):
        with server.listen("198.51.100.1", 25) as listener, \
             client.connect("198.18.0.7", "198.51.100.1", 25) as sock: ...
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

SERVER4, SERVER6 = "198.51.100.1", "2001:db8::1"
CLIENT4, CLIENT6 = "198.51.100.2", "2001:db8::2"
#: Every address of these is the client's: AnyIP, a local route instead of an address each.
SOURCES4, SOURCES6 = "198.18.0.0/15", "2001:db8:b::/48"

#: Seconds after which a wait for an event is given up: far above what a loaded machine needs, so
#: that no test passes or fails by the speed of the machine.
DEADMAN = 60.0

#: Seconds between two looks of a wait: after a quick one, and at most.
_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; absent from Python's socket
_RUN = Path("/run/netns")
_NAME = re.compile(r"thr-(\d+)-[\w-]+")
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def unique(label: str) -> str:
    """Return a name of this process that nothing else has: `thr-<pid>-<n>-<label>`."""
    return f"thr-{os.getpid()}-{next(_numbers)}-{label}"


class Namespace:
    """A network namespace by name. Made and deleted by `namespace`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace; sockets and children made there stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _setns(self.name)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call a function inside the namespace."""
        with self.entered():
            return function(*args, **kwargs)

    def popen(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command inside the namespace; `env` is added to the environment."""
        environment = {**os.environ, **(env or {}), "THROTTLED_LAB": self.name}
        with self.entered():
            return subprocess.Popen(argv, env=environment, text=True, **options)

    def run(
        self, *argv: str, stdin: str = "", seconds: float = DEADMAN, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the namespace to its end and return what it printed.

        Raises:
            RuntimeError: it failed, and `check` is set; the text says how.
            subprocess.TimeoutExpired: it took longer than `seconds`.
        """
        with self.entered():
            return _run(argv, stdin, seconds, check=check)

    @contextlib.contextmanager
    def added(self, kind: str, *words: str) -> Iterator[None]:
        """Have `ip KIND add WORDS` until the end: an address, a route."""
        self.run("ip", kind, "add", *words)
        try:
            yield
        finally:
            self.run("ip", kind, "delete", *words)

    def listen(self, address: str, port: int, backlog: int = 512) -> socket.socket:
        """Return a TCP listener on an address of the namespace."""
        with self.entered():
            listener = socket.socket(_family(address), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
        return listener

    def listens(self, port: int) -> bool:
        """Return whether there is a TCP listener at a port, on whatever address."""
        return any(place.endswith(f":{port}") for place in self.listeners())

    def listeners(self) -> list[str]:
        """Return where there are TCP listeners, as `0.0.0.0:25`.

        By sock_diag(7): /proc/net/tcp goes through the hash table of all connections of the
        machine, 4 ms each time.
        """
        return [line.split()[3] for line in self.run("ss", "-Hltn").stdout.splitlines()]

    def wired(self, device: str) -> None:
        """Wait until a device is up, with its own IPv6 address and the routes to its addresses.

        The kernel may take a second to notice the carrier, and IPv6 waits for that.
        """

        def ready() -> bool:
            shown = self.run("ip", "address", "show", device).stdout
            local = f"ip -6 route show table local dev {device}"
            routes = self.run(*local.split()).stdout.count("local ")
            own = "inet6 fe80:" in shown and "tentative" not in shown
            return "state UP" in shown and own and shown.count("inet6 ") == routes

        until(ready, f"{device} is up")

    def connect(self, source: str, target: str, port: int, seconds: float = 2.0) -> socket.socket:
        """Open a TCP connection from a chosen source address.

        Raises:
            TimeoutError: no answer within `seconds`: the packets are dropped.
            OSError: refused, reset, or the source is no address of the namespace.
        """
        with self.entered():
            sock = source_socket(source)
        try:
            sock.settimeout(seconds)
            sock.connect((target, port))
        except OSError:
            sock.close()
            raise
        return sock

    def pids(self) -> list[int]:
        """Return the processes that run in the namespace."""
        done = _run(("ip", "netns", "pids", self.name), check=False)
        return [int(pid) for pid in done.stdout.split()]

    def delete(self) -> None:
        """End the processes in the namespace and remove its name. Idempotent."""
        _kill(self.pids())
        _run(("ip", "netns", "delete", self.name), check=False)


def source_socket(source: str) -> socket.socket:
    """Return a TCP socket of the calling thread's namespace, bound to a source address."""
    sock = socket.socket(_family(source), socket.SOCK_STREAM)
    # The port is then chosen at connect(), by the whole four-tuple: 28,000 a source and target.
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    return sock


@contextlib.contextmanager
def namespace(label: str) -> Iterator[Namespace]:
    """Make a namespace with its loopback up, and delete it at the end."""
    made = Namespace(unique(label))
    _run(("ip", "netns", "add", made.name))
    try:
        # Without this a new IPv6 address, link-local too, cannot be used for a second.
        made.call(Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text, "0")
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        made.delete()


@contextlib.contextmanager
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Make a server (SERVER4, SERVER6) and a client that owns SOURCES4 and SOURCES6, wired."""
    with namespace("server") as server, namespace("client") as client:
        # In the server's: Linux 6.1 refuses a name that the namespace of the command has.
        _configure(
            server,
            f"link add eth0 type veth peer name eth0 netns {client.name}",
            f"address add {SERVER4}/24 dev eth0",
            f"address add {SERVER6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add {SOURCES4} via {CLIENT4}",
            f"route add {SOURCES6} via {CLIENT6}",
        )
        clients(client, "eth0")
        server.wired("eth0")
        client.wired("eth0")
        yield server, client


def clients(client: Namespace, device: str) -> None:
    """Let a namespace own all addresses of clients, and reach a server through a device."""
    _configure(
        client,
        f"address add {CLIENT4}/24 dev {device}",
        f"address add {CLIENT6}/64 dev {device} nodad",
        f"link set {device} up",
        f"route add local {SOURCES4} dev lo",
        f"route add local {SOURCES6} dev lo",
    )
    # bind() to an AnyIP address of IPv6 needs this; IPv4 has it from the route.
    client.call(Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text, "1")


@contextlib.contextmanager
def directory(label: str) -> Iterator[Path]:
    """Make a temporary directory that other users may traverse, and remove it at the end."""
    path = Path(tempfile.gettempdir(), unique(label))
    path.mkdir(mode=0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, once: then clean up.

    Only for the main thread, as all signal handlers.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C must not cut the clean-up short
        raise KeyboardInterrupt(signal.strsignal(number))

    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def without(capabilities: Sequence[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process without these capabilities, named as setpriv(1) has them.

    Raises:
        RuntimeError: it ended with another exit code than 0.
    """
    less = ",".join(f"-{each}" for each in capabilities)
    return _run(("setpriv", f"--bounding-set={less}", sys.executable, "-c", code))


def until(happened: Callable[[], object], what: str, seconds: float = DEADMAN) -> None:
    """Wait for an event of which there is no notification.

    Raises:
        TimeoutError: it did not happen within `seconds`; `what` says what did not.
    """
    asked = time.monotonic()
    end = asked + seconds
    while not happened():
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        # A question that takes long (a command) leaves the CPU to what is waited for.
        time.sleep(min(max(_PAUSE, 3 * (now - asked)), _LONGEST_PAUSE))
        asked = time.monotonic()


def leftovers(pid: int | None = None) -> list[str]:
    """Return what a process of the lab has not cleaned up, a line of text each; empty when tidy.

    Looks for namespaces, processes, mounts, cgroups and temporary directories.

    Args:
        pid: the process that made them; None is this one.
    """
    mark = f"thr-{pid or os.getpid()}-"
    found = [f"namespace {name}" for name in _entries(_RUN, mark)]
    found += [f"directory {name}" for name in _entries(Path(tempfile.gettempdir()), mark)]
    found += [f"process {number} {text}" for number, text in _processes(mark)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if mark in line.split()[4]]
    root = cgroup_root()
    found += [f"cgroup {name}" for name in (_entries(root, mark) if root else ())]
    return found


def sweep() -> list[str]:
    """Remove what processes that no longer live left behind; return their leftovers after that."""
    places = (_RUN, Path(tempfile.gettempdir()), cgroup_root() or _RUN)
    names = {name for place in places for name in _entries(place, "thr-")}
    owners = {int(match[1]) for match in map(_NAME.fullmatch, names) if match}
    dead = sorted(owner for owner in owners if not Path(f"/proc/{owner}").exists())
    for owner in dead:
        mark = f"thr-{owner}-"
        _kill([number for number, _ in _processes(mark)])
        for name in _entries(_RUN, mark):
            Namespace(name).delete()
        for name in _entries(Path(tempfile.gettempdir()), mark):
            path = Path(tempfile.gettempdir(), name)
            _run(("umount", "--quiet", "--recursive", str(path)), check=False)
            shutil.rmtree(path, ignore_errors=True)
        if root := cgroup_root():
            for name in _entries(root, mark):
                made = root / name
                inner = [path for path in made.rglob("*") if path.is_dir()]
                for each in (*sorted(inner, reverse=True), made):
                    each.rmdir()
    return [line for owner in dead for line in leftovers(owner)]


def cgroup_root() -> Path | None:
    """Return where cgroup version 2 is mounted; None where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


@contextlib.contextmanager
def cgroup(label: str) -> Iterator[Path]:
    """Make a cgroup of version 2 and remove it at the end, when no process is in it any more.

    Raises:
        RuntimeError: there is no cgroup version 2 here.
    """
    root = cgroup_root()
    if root is None:
        raise RuntimeError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    path = root / unique(label)
    path.mkdir()
    try:
        yield path
    finally:
        until(lambda: not path.joinpath("cgroup.procs").read_text(), "the cgroup is empty")
        path.rmdir()


def _setns(where: str | int) -> None:
    """Move the calling thread into a namespace, by name or by descriptor."""
    descriptor = os.open(_RUN / where, os.O_RDONLY) if isinstance(where, str) else where
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {where}: {os.strerror(number)}")
    finally:
        if isinstance(where, str):
            os.close(descriptor)


def _configure(where: Namespace, *commands: str) -> None:
    """Run a batch of `ip` commands in a namespace."""
    where.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")


def _run(
    argv: Sequence[str], stdin: str = "", seconds: float = DEADMAN, *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.returncode}: {done.stderr or done.stdout}")
    return done


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _entries(place: Path, mark: str) -> list[str]:
    try:
        return sorted(each.name for each in place.iterdir() if each.name.startswith(mark))
    except FileNotFoundError:
        return []


def _processes(mark: str) -> Iterator[tuple[int, str]]:
    """Yield the processes whose environment, arguments or cgroup carry a mark, but not us."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended while we looked
            contents = [
                entry.joinpath(name).read_bytes() for name in ("environ", "cmdline", "cgroup")
            ]
            if any(mark.encode() in each for each in contents):
                yield int(entry.name), contents[1].replace(b"\0", b" ").decode(errors="replace")


def _kill(pids: Sequence[int]) -> None:
    """End processes at once and wait until they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(_alive(pid) for pid in pids), f"killed: {pids}")


def _alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
