"""A Debian machine with a real systemd as its first process, in the server's namespace.

It is a container of systemd-nspawn. The image, Debian with a Postfix as apt installs it and the
packages that are to be installed later in apt's cache, is made once by mmdebstrap and kept in
`CACHE`; each machine boots from it with what it writes kept in memory, and gone with it. Needs
root, systemd-container, mmdebstrap and, for the image, Debian's mirror. No machined, no systemd
outside.

    with netns.pair() as (server, client), booted.machine(server, booted.image(["nginx"])) as host:
        host.run("systemctl", "start", "nginx")

Limits: it has the capabilities of a container, and of the kernel's configuration what `server` has.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lab.network import netns
from lab.network.netns import Namespace

CACHE = Path("/var/cache/throttled-lab")
SUITE = "bookworm"

_KEPT = 2 * 86400.0  # seconds that an image stays without being used
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "postfix")
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "SYSTEMD_COLORS": "0",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Machine:
    """A booted machine."""

    def __init__(self, leader: int) -> None:
        """Remember its first process, as seen from outside."""
        self.leader = leader

    def run(
        self, *argv: str, check: bool = True, seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine to its end and return what it printed.

        Raises:
            RuntimeError: it failed, and `check` is set; the text says how.
            subprocess.TimeoutExpired: it took longer than `seconds`.
        """
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "--root", "--wd", *argv],
            env=_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def path(self, inside: str) -> Path:
        """Return where a file of the machine is, seen from outside."""
        return Path(f"/proc/{self.leader}/root{inside}")


def impossible() -> str:
    """Return why no machine can be booted here; empty if it can."""
    missing = [name for name in ("systemd-nspawn", "mmdebstrap") if not shutil.which(name)]
    if os.geteuid() != 0:
        return "needs root"
    if missing:
        return f"no {' and no '.join(missing)} here: run scripts/bootstrap test"
    if netns.cgroup_root() is None:
        return "no cgroup version 2 is mounted here"
    return ""


def image(later: Sequence[str], there: Sequence[str] = (), suite: str = SUITE) -> Path:
    """Return an image, made if it is not in the cache.

    Args:
        later: packages that `apt-get install` is to find in the machine, without a network.
        there: packages that are installed in it.
        suite: which Debian.

    Raises:
        RuntimeError: it could not be made; the text is mmdebstrap's.
    """
    packages = (*_PACKAGES, *there)
    recipe = f"{suite} {packages} {sorted(later)}"
    root = CACHE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(root, packages, later, suite)
        os.utime(root)
        for old in CACHE.glob("*-*"):
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old)
    return root


def _make(root: Path, packages: Sequence[str], later: Sequence[str], suite: str) -> None:
    fresh = root.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    download = f'chroot "$1" apt-get install -y -qq --download-only {" ".join(later)}'
    done = subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory"),
            *("--skip=cleanup/apt", f"--include={','.join(packages)}"),
            '--aptopt=Acquire::Languages "none"',
            '--aptopt=APT::Install-Recommends "false"',
            "--dpkgopt=force-unsafe-io",
            f"--customize-hook={download}",
            *(suite, str(fresh)),
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap: {done.stderr[-2000:]}")
    fresh.joinpath("etc/resolv.conf").write_text("nameserver 127.0.0.1\n")  # answers no, at once
    fresh.joinpath("etc/hostname").write_text("mail\n")
    fresh.rename(root)


@contextlib.contextmanager
def machine(server: Namespace, root: Path) -> Iterator[Machine]:
    """Boot an image in a namespace, wait until all is started, and power it off at the end.

    Raises:
        RuntimeError: it does not boot; the text is what it wrote on its console.
    """
    name = netns.unique("booted")
    with netns.directory("console") as place, _cgroups(name) as groups:
        console = place / "log"
        nspawn = _spawn(server, root, name, groups, console)
        try:
            made = Machine(_leader(nspawn))
            netns.until(
                lambda: (
                    made.run("systemctl", "is-system-running", check=False).stdout.strip()
                    in ("running", "degraded")
                ),
                "it is booted",
            )
        except Exception as error:
            nspawn.kill()
            nspawn.wait()
            raise RuntimeError(f"{error}: {console.read_text()[-2000:]}") from error
        try:
            yield made
        finally:
            made.run("systemctl", "poweroff", "--no-wall", check=False)
            try:
                nspawn.wait(netns.DEADMAN)
            except subprocess.TimeoutExpired:
                nspawn.kill()
                nspawn.wait()


def _spawn(
    server: Namespace, root: Path, name: str, groups: Sequence[Path], console: Path
) -> "subprocess.Popen[bytes]":
    """Start systemd-nspawn in control groups of its own, so that it leaves the machine's alone."""
    enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
    with console.open("wb") as log:
        return subprocess.Popen(
            [
                *("sh", "-c", enter, "sh", *map(str, groups), "--"),
                *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                *(f"--directory={root}", "--volatile=overlay", "--console=pipe"),
                *(f"--machine={name}", "--hostname=mail"),
                f"--network-namespace-path=/run/netns/{server.name}",
                "--capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON",
                "--system-call-filter=bpf",
            ],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _leader(nspawn: "subprocess.Popen[bytes]") -> int:
    """Return the first process of the machine, a child of systemd-nspawn."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")

    def started() -> list[int]:
        if nspawn.poll() is not None:
            raise RuntimeError(f"systemd-nspawn ended: {nspawn.returncode}")
        pids = map(int, children.read_text().split())
        # Before it there are helpers under other names, which may end meanwhile.
        return [pid for pid in pids if _command(pid) == "systemd"]

    netns.until(started, "systemd-nspawn has started it")
    return started()[0]


def _command(pid: int) -> str:
    """Return the name of a process; empty if it ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextlib.contextmanager
def _cgroups(name: str) -> Iterator[list[Path]]:
    """Make a control group in each hierarchy that systemd uses, and remove all that is in them."""
    hierarchies: dict[int, Path] = {}  # each once: a chroot may have them mounted too
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            hierarchies.setdefault(Path(place).stat().st_dev, Path(place, name))
    groups = list(hierarchies.values())
    for group in groups:
        group.mkdir(exist_ok=True)  # a hierarchy may be mounted twice
    try:
        yield groups
    finally:
        for group in groups:
            netns.until(partial(_removed, group), f"{group} is empty")


def _removed(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):  # somebody is still in it
            Path(directory).rmdir()
    return not group.exists()
