"""What tests share, as a text for each part of it: a test has to leave it as it was.

Which test comes next, and in which process, is chance: what one leaves makes another fail, once in
many runs. So each test is checked at its own end, and the message says what it left.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from pathlib import Path

from lab.mail.postfix import Lab
from lab.network.netns import Namespace, until

State = dict[str, str]

#: Seconds for what a test began to end by itself, as a message on its way.
_PATIENCE = 20.0
_NETWORK = "link show\naddress show\nroute show table all\n"
_NAMESPACES = Path("/proc/thread-self/ns")
_QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")


@contextlib.contextmanager
def unchanged(look: Callable[[], State]) -> Iterator[None]:
    """Check at the end of the block that a state is as at its begin, or becomes so.

    Raises:
        AssertionError: it does not; the text is what differs.
    """
    before = after = look()

    def same() -> bool:
        nonlocal after
        after = look()
        return after == before

    yield
    with contextlib.suppress(TimeoutError):
        until(same, "all is as before", _PATIENCE)
    left = list(unified_diff(_lines(before), _lines(after), lineterm="", n=0))
    assert not left, "\n".join(left)


def _lines(state: State) -> list[str]:
    return [f"{name}: {line}" for name in sorted(state) for line in state[name].splitlines()]


def of_process() -> State:
    """Return what a test can change of its process and thread."""
    umask = os.umask(0o022)
    os.umask(umask)
    names = sorted(os.environ.keys() - {"PYTEST_CURRENT_TEST"})
    numbers = signal.valid_signals() - {signal.SIGALRM}  # of pytest-timeout
    return {
        "directory": str(Path.cwd()),
        "environment": "\n".join(f"{name}={os.environ[name]}" for name in names),
        "namespaces": " ".join(str(_NAMESPACES.joinpath(n).readlink()) for n in ("net", "mnt")),
        "signals": "\n".join(f"{n}: {signal.getsignal(n)}" for n in numbers),
        "time zone": str(time.tzname),
        "umask": f"{umask:03o}",
    }


def of_hosts(
    server: Namespace, client: Namespace, but: Callable[[], Sequence[int]] = list
) -> State:
    """Return what a test can change of two network namespaces.

    Args:
        server: the one that a backend guards.
        client: the other one.
        but: returns processes that do not count.
    """
    state = {
        "ipsets": server.run("ipset", "list", "-n").stdout,
        "iptables": server.call(_legacy, server),
    }
    for host in (server, client):
        state[f"{host.name}: network"] = host.run("ip", "-batch", "-", stdin=_NETWORK).stdout
        state[f"{host.name}: nftables"] = host.run("nft", "-st", "list", "ruleset").stdout
        state[f"{host.name}: listeners"] = "\n".join(sorted(host.listeners()))
    return state | _processes((server, client), but)


def of_lab(lab: Lab) -> State:
    """Return what a test can change of a Postfix: configuration, queue, services, both hosts."""
    state = of_hosts(lab.server, lab.client, but=lab.mail.pids)
    for path in (lab.mail.config, *lab.mail.config.rglob("*")):
        made = path.lstat()
        text = path.read_text() if path.is_file() else ""
        state[str(path)] = f"{made.st_mode:o} {made.st_uid}:{made.st_gid}\n{text}"
    return state | {str(path): "queued" for path in lab.mail.queued(*_QUEUES)}


def _legacy(host: Namespace) -> str:
    """Return the rules of the legacy iptables, which makes its tables when it is first asked."""
    names = [Path(f"/proc/thread-self/net/{n}_tables_names") for n in ("ip", "ip6")]
    if not any(path.exists() and path.read_text() for path in names):
        return ""
    saved = (host.run(f"{n}-legacy-save").stdout for n in ("iptables", "ip6tables"))
    return "\n".join(line for text in saved for line in text.splitlines() if line[0] == "-")


def _processes(hosts: Sequence[Namespace], but: Callable[[], Sequence[int]]) -> State:
    """Return the words of each process in namespaces, but of zombies."""
    names = {Path("/run/netns", host.name).stat().st_ino: host.name for host in hosts}
    others = {os.getpid(), *but()}
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            name = names.get(entry.joinpath("ns/net").stat().st_ino)
            words = name and entry.joinpath("cmdline").read_text().replace("\0", " ")
            if words:
                found[int(entry.name)] = f"{name}: {words}"
    others.update(but())  # those that began meanwhile
    return {f"process {pid}": words for pid, words in found.items() if pid not in others}
