"""The legacy tables, by the programs iptables-legacy and iptables-legacy-restore.

Not by python-iptables: making one rule that jumps opens all tables of the kernel, of which nat
turns connection tracking on; a rule is read back by turning the process's standard output round;
hashlimit needs a patch. iptables-restore puts a table in place in one step, waits for the lock
that all these programs take, and costs 3 ms.

Owns nothing. The programs run in the network namespace of the calling thread.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from throttled.errors import BackendError

#: What the programs of each IP version are called, and the kernel's list of its legacy tables.
_PROGRAMS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}
#: Seconds to wait for other programs that change the tables, and for ours.
_LOCK, _PATIENCE = "2", 10.0

_ABSENT = "install iptables (Debian: apt-get install iptables)"


def exists(version: int) -> bool:
    """Tell whether the kernel has made the table raw: until then there are no rules in it."""
    try:
        names = Path("/proc/thread-self/net", _TABLES[version]).read_text()
    except OSError:
        return False
    return "raw" in names.split()


def listed(version: int) -> list[str]:
    """Return the rules and chains of the table raw, as `iptables -S` lists them.

    Raises:
        BackendError: there is no such program, or it failed.
    """
    return _run((_PROGRAMS[version], "-w", _LOCK, "-t", "raw", "-S")).splitlines()


def restore(version: int, lines: str) -> None:
    """Put lines in force in one step; what they do not name stays.

    Raises:
        BackendError: nothing has changed.
    """
    _run((f"{_PROGRAMS[version]}-restore", "-w", _LOCK, "-n"), lines)


def variant() -> str:
    """Return which iptables this host's own is: "legacy", "nf_tables", or "" where it has none.

    Raises:
        BackendError: it failed.
    """
    try:
        told = _run(("iptables", "-V"))
    except AbsentError:
        return ""
    return "nf_tables" if "nf_tables" in told else "legacy"


class AbsentError(BackendError):
    """The program is not installed."""


def _run(argv: Sequence[str], lines: str = "") -> str:
    try:
        done = subprocess.run(
            argv, input=lines, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except FileNotFoundError as error:
        raise AbsentError(f"{argv[0]} is not installed", _ABSENT) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        told = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        hint = "run as root or with CAP_NET_ADMIN" if "ermission" in told else ""
        raise BackendError(told if told.startswith("ip") else f"{argv[0]}: {told}", hint)
    return done.stdout
