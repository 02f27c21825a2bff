"""Legacy tables: changed by python-iptables, listed by the program iptables-legacy.

Listed by the program, as python-iptables reads the parameters of a match by turning the process's
standard output round, and a rule as it is in memory holds the kernel's offsets, which other
people's changes move.

python-iptables is imported when it is first needed (`library`). Owns nothing: each change opens
the table in the network namespace of the calling thread, holds the lock that all these programs
take, commits once, and closes it.
"""

import fcntl
import importlib
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from throttled.enforce.iptables.ruleset import Rule
from throttled.errors import BackendError, install

if TYPE_CHECKING:
    from throttled.enforce.iptables.library import Legacy

#: What the programs of each IP version are called, and the kernel's list of its legacy tables.
_PROGRAMS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_RESTORE = {4: "iptables-legacy-restore", 6: "ip6tables-legacy-restore"}
_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}
#: Seconds to wait for the lock: while other programs, or this one, change the tables.
_LOCK, _PATIENCE = 2.0, 10.0
_LOCKFILE = Path("/run/xtables.lock")
_LIBRARIES = ("ip4tc", "ip6tc", "xtables")
_LIBRARY = "throttled.enforce.iptables.library"

_PYTHON = f"{install('iptables')} (Debian: apt-get install python3-iptables)"
_ABSENT = "install iptables (Debian: apt-get install iptables)"


def exists(version: int, table: str = "raw") -> bool:
    """Return whether the kernel has made a table: until then there are no rules in it."""
    try:
        names = Path("/proc/thread-self/net", _TABLES[version]).read_text()
    except OSError:
        return False
    return table in names.split()


def listed(version: int, table: str = "raw") -> list[str]:
    """Return the rules and chains of a table, as `iptables -S` lists them.

    Raises:
        BackendError: there is no such program, or it failed.
    """
    return _run((_PROGRAMS[version], "-w", "2", "-t", table, "-S")).splitlines()


def restore(version: int, lines: str) -> None:
    """Change tables as lines for iptables-restore say, each in one step; what is not named stays.

    Raises:
        BackendError: there is no such program, or the table of its message has not changed.
    """
    _run((_RESTORE[version], "--noflush", "--wait", "2"), lines)


def put(version: int, chains: Sequence[str], rules: Sequence[Rule], name: str = "raw") -> None:
    """Make or empty chains of a table and put rules into them, in one step; the rest stays.

    Rules of a hook come before all others; those that led to the chains before go.

    Raises:
        BackendError: nothing has changed.
    """
    with _opened(version, name) as table:
        for chain in chains:
            if table.is_chain(chain):
                table.flush_entries(chain)
            else:
                table.create_chain(chain)
        table.unhook(chains)
        for rule in rules:
            table.add(rule)
        table.commit()


def remove(version: int, chains: Sequence[str], name: str = "raw") -> None:
    """Remove chains of a table, and the rules of its hooks that lead to them, in one step.

    Raises:
        BackendError: nothing has changed.
    """
    with _opened(version, name) as table:
        present = [chain for chain in chains if table.is_chain(chain)]
        table.unhook(present)
        for chain in present:
            table.flush_entries(chain)
        for chain in present:
            table.delete_chain(chain)
        if present:
            table.commit()


@contextmanager
def _opened(version: int, name: str) -> Iterator["Legacy"]:
    made = _library()
    with _locked(), made.ours():
        try:
            table = made.opened(version, name)
            try:
                yield table
            finally:
                table.close()
        except made.ERRORS as error:
            message = str(error)
            hint = "run as root or with CAP_NET_ADMIN" if "ermission" in message else ""
            raise BackendError(f"{_PROGRAMS[version]}: {message}", hint) from error


def _library() -> ModuleType:
    """Import python-iptables, which loads C libraries and asks ldconfig and modprobe.

    Raises:
        AbsentError: a library is missing.
    """
    if loaded := sys.modules.get(_LIBRARY):
        return loaded  # looking for it starts programs, which takes time and descriptors
    try:
        absent = [name for name in _LIBRARIES if find_library(name) is None]
    except OSError as error:
        raise BackendError(f"libraries cannot be searched: {error.strerror}") from error
    if absent:
        raise AbsentError(f"lib{', lib'.join(absent)} not found", _ABSENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it leaves files open, and has old escapes
            return importlib.import_module(_LIBRARY)
    except (ImportError, OSError, AttributeError, TypeError) as error:
        raise AbsentError(f"python-iptables: {error}", _PYTHON) from error


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of the iptables programs; python-iptables does not take it."""
    try:
        _LOCKFILE.touch(0o600)  # mode as iptables makes it: no other user may lock it
        with _LOCKFILE.open("a") as file:
            until = time.monotonic() + _LOCK
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            yield
    except BlockingIOError as error:
        raise BackendError(
            f"another program has locked {_LOCKFILE}", "wait for it to end"
        ) from error
    except OSError as error:
        raise BackendError(f"{_LOCKFILE}: {error.strerror}", "run as root") from error


def variant() -> str:
    """Return which iptables this host's own is: "legacy", "nf_tables", or "" where it has none.

    Raises:
        BackendError: it failed.
    """
    try:
        message = _run(("iptables", "-V"))
    except AbsentError:
        return ""
    return "nf_tables" if "nf_tables" in message else "legacy"


class AbsentError(BackendError):
    """The program is not installed."""


def _run(argv: Sequence[str], stdin: str = "") -> str:
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except FileNotFoundError as error:
        raise AbsentError(f"{argv[0]} is not installed", _ABSENT) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        message = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        hint = "run as root or with CAP_NET_ADMIN" if "ermission" in message else ""
        raise BackendError(message if message.startswith("ip") else f"{argv[0]}: {message}", hint)
    return done.stdout
