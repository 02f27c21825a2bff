"""Everything that can happen to the database, with the real daemon, nftables and SQLite.

No Postfix is needed: its lines are written manually. What must be so in each case: who offends is
banned in the kernel, `status` shows the fault with a hint, and the file stays as it is.
"""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.network import netns
from lab.network.netns import Namespace
from throttled.model import Finding
from throttled.store.store import Store

pytestmark = pytest.mark.root

A, B, C = "198.18.0.7", "198.18.0.8", "198.18.0.9"


class Guarded:
    """A daemon, the log that it follows and the database that it should use."""

    def __init__(self, server: Namespace, guard: Daemon) -> None:
        self.server = server
        self.guard = guard
        self.folder = guard.home / "state"
        self.folder.mkdir()
        self.path = self.folder / "throttled.db"
        self.mail = guard.home / "mail.log"
        self.mail.touch()
        text = guard.config.read_text().replace(str(guard.home / "throttled.db"), str(self.path))
        text = text.replace("[postfix]", '[postfix]\nhosts = ["mx"]')
        guard.config.write_text(
            f'{text}\n[log]\nfiles = ["{self.mail}"]\n'
            "[firewall]\nports = { mx = [25], submission = [587] }\n"
        )

    def garbage(self, address: str) -> None:
        stamp = time.strftime("%b %e %H:%M:%S")
        with self.mail.open("a") as log:
            for pid in range(11):
                text = f"warning: non-SMTP command from unknown[{address}]: GET /"
                log.write(f"{stamp} mx postfix/smtpd[{pid + 1}]: {text}\n")

    def in_kernel(self, address: str) -> bool:
        """Return whether the kernel drops this address."""
        got = ("nft", "get", "element", "inet", "throttled", "mx_ban4", f"{{ {address} }}")
        return self.server.run(*got, check=False).returncode == 0

    def bans(self, address: str) -> None:
        self.garbage(address)
        netns.until(lambda: self.in_kernel(address), f"{address} is banned in the kernel")

    def errors(self) -> list[Finding]:
        return [p for p in self.guard.status().health if p.key.startswith("store")]

    def error(self, word: str) -> None:
        """Wait until `status` shows a fault of the store, as an operator sees it."""

        def shown() -> bool:
            done = self.guard.command("status")
            return word in " ".join(done.stdout.split()) and bool(self.errors())

        netns.until(shown, f"status says {word!r}")
        assert all(finding.hint for finding in self.errors())

    def well(self) -> None:
        netns.until(lambda: not self.errors(), "the fault is gone")

    def recorded(self) -> set[str]:
        with closing(Store.open(str(self.path), readonly=True)) as store:
            return {row.subject for row in store.listing.snapshots(time.time())}


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with (
        netns.directory("nopostfix") as postfix,
        netns.namespace("store") as server,
        daemon(server, postfix) as guard,
    ):
        server.run("ip", "link", "set", "lo", "up")
        yield Guarded(server, guard)


@pytest.fixture
def small(guarded: Guarded) -> Iterator[Path]:
    """Yield the folder of the database, a file system of its own of 1 MB."""
    folder = str(guarded.folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield guarded.folder
    guarded.guard.kill()
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    subprocess.run(["dd", "if=/dev/zero", f"of={ballast}"], capture_output=True, check=False)
    return ballast


def test_full_from_the_start(guarded: Guarded, small: Path) -> None:
    ballast = fill(small)
    guarded.guard.start()
    guarded.error("no space left")
    guarded.bans(A)
    ballast.unlink()
    guarded.well()
    assert guarded.recorded() == {A}
    guarded.bans(B)
    netns.until(lambda: guarded.recorded() == {A, B}, "recorded")


def test_mounted_read_only(guarded: Guarded, small: Path) -> None:
    # With a file open for writing the kernel refuses the remount: it is done before the start.
    guarded.guard.start()
    guarded.bans(A)
    guarded.guard.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    guarded.guard.start()
    guarded.error("read-only")
    assert guarded.in_kernel(A)
    guarded.bans(B)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    guarded.well()
    netns.until(lambda: guarded.recorded() == {A, B}, "recorded")


def middle(path: Path) -> None:
    """Overwrite all but the first page and the last: any lookup meets garbage."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 8192))


def header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xa5" * 100)


# Nobody reads the header of a file that is open: until the next start it does no harm.
@pytest.mark.parametrize(("damage", "running"), [(middle, True), (middle, False), (header, False)])
def test_damaged(guarded: Guarded, damage: Callable[[Path], None], *, running: bool) -> None:
    guarded.guard.start()
    guarded.bans(A)
    guarded.guard.stop()  # all is in the main file now
    if running:
        guarded.guard.start()
        netns.until(lambda: guarded.in_kernel(A), "adopted")
    damage(guarded.path)
    before = guarded.path.read_bytes()
    if not running:
        guarded.guard.start()
    guarded.bans(B)
    guarded.error("damaged" if damage is middle else "database")
    assert guarded.in_kernel(A)
    assert guarded.guard.command("unban", B).returncode == 0
    assert not guarded.in_kernel(B)
    assert guarded.guard.command("ban", B).returncode == 0
    assert guarded.in_kernel(B)
    guarded.bans(C)
    if not running:
        assert guarded.path.read_bytes() == before
    for suffix in ("", "-wal", "-shm"):  # what the hint says, without a restart
        left = Path(f"{guarded.path}{suffix}")
        if left.exists():
            left.rename(f"{left}.damaged")
    guarded.well()
    netns.until(lambda: C in guarded.recorded(), "remembered in a new file")
    assert guarded.in_kernel(A)
    assert guarded.in_kernel(C)


@pytest.mark.parametrize("running", [True, False])
def test_locked(guarded: Guarded, *, running: bool) -> None:
    if running:
        guarded.guard.start()
    else:
        Store.open(str(guarded.path)).close()
    with closing(sqlite3.connect(guarded.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        if not running:
            guarded.guard.start()
        guarded.bans(A)
        guarded.error("locked")
        other.execute("ROLLBACK")
    guarded.well()
    netns.until(lambda: guarded.recorded() == {A}, "recorded")


@pytest.mark.parametrize("error", ["locked", "full", "read-only"])
def test_no_line_is_missed_while_the_daemon_was_away(
    guarded: Guarded, small: Path, error: str
) -> None:
    guarded.guard.start()
    guarded.bans(A)
    guarded.guard.signal(signal.SIGKILL)
    guarded.guard.kill()
    with closing(sqlite3.connect(guarded.path, isolation_level=None)) as other:
        if error == "locked":
            other.execute("BEGIN IMMEDIATE")
        elif error == "full":
            fill(small)
        else:
            other.close()
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        guarded.garbage(B)
        guarded.guard.start()
        guarded.error({"locked": "locked", "full": "no space", "read-only": "read-only"}[error])
        netns.until(lambda: guarded.in_kernel(B), "what was logged meanwhile counts")


def test_of_a_newer_version(guarded: Guarded) -> None:
    Store.open(str(guarded.path)).close()
    with closing(sqlite3.connect(guarded.path, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    before = guarded.path.read_bytes()
    guarded.guard.start()
    guarded.error("version 99")
    guarded.bans(A)
    assert guarded.path.read_bytes() == before


def test_of_an_earlier_build(guarded: Guarded) -> None:
    """The same version, other columns: an error in `status`, protection goes on without it."""
    Store.open(str(guarded.path)).close()
    with closing(sqlite3.connect(guarded.path, isolation_level=None)) as other:
        other.execute("ALTER TABLE active RENAME COLUMN packets TO dropped")
    before = guarded.path.read_bytes()
    guarded.guard.start()
    guarded.error("an earlier build")
    guarded.bans(A)
    assert guarded.path.read_bytes() == before


def test_vanished(guarded: Guarded) -> None:
    guarded.guard.start()
    guarded.bans(A)
    for left in guarded.folder.iterdir():
        left.unlink()
    guarded.bans(B)
    said = guarded.guard.log  # `status` may not: two seconds later there is a new file
    netns.until(lambda: "was removed or replaced" in said.read_text(), "it says so")
    guarded.well()
    netns.until(lambda: guarded.recorded() == {A, B}, "active entries are in the new file")
    guarded.guard.kill()
    guarded.guard.start()
    assert {row.subject for row in guarded.guard.rows()} == {A, B}


_CLOCK = """
import sys, time
from pathlib import Path
real = time.time
time.time = lambda: real() + float(Path({path!r}).read_text())
from throttled.cli.main import main
main()
"""


@pytest.mark.long
def test_a_clock_that_is_set_there_and_back(guarded: Guarded) -> None:
    """The wall clock of the daemon alone: setting the machine's would hit everybody on it."""
    clock = guarded.guard.home / "clock"
    clock.write_text("0")
    fake = guarded.guard.home / "throttled"
    fake.write_text(_CLOCK.format(path=str(clock)))
    guarded.guard.program = (sys.executable, str(fake))
    guarded.guard.start()
    guarded.bans(A)
    assert guarded.guard.command("ban", B, "--for", "6s", "--scope", "mx").returncode == 0
    until = {row.subject: row.until for row in guarded.guard.rows()}
    for days in (1, -1):
        later = clock.with_suffix(".new")
        later.write_text(str(86400 * days))
        later.rename(clock)

        def moved(by: int = 86400 * days) -> bool:
            rows = {row.subject: row.until for row in guarded.guard.rows()}
            return all(abs(rows.get(s, 0.0) - until[s] - by) < 1 for s in until)

        netns.until(moved, "the ends are moved")
        assert guarded.in_kernel(A)
        assert guarded.in_kernel(B)
    netns.until(lambda: not guarded.in_kernel(B), "a ban ends when it was meant to")
    netns.until(
        lambda: {(r.subject, r.action) for r in guarded.guard.rows()} == {(A, "ban")},
        "and is listed no longer",
    )
    guarded.bans(C)
    netns.until(lambda: {row.subject for row in guarded.guard.rows()} == {A, C}, "recorded")
    until = {row.subject: row.until for row in guarded.guard.rows()}
    for days in (0, -2):  # the clock is a day behind
        guarded.guard.stop()
        clock.write_text(str(86400 * days))
        guarded.guard.start()
        assert guarded.in_kernel(A)
        rows = {row.subject: row.until for row in guarded.guard.rows()}
        shifted = {subject: round(end - until[subject]) for subject, end in rows.items()}
        assert shifted == dict.fromkeys((A, C), 86400 * (days + 1))


def test_an_unban_on_a_full_disk_lasts(guarded: Guarded, small: Path) -> None:
    guarded.guard.start()
    for address in (A, B, C):
        guarded.bans(address)
    ballast = fill(small)
    done = guarded.guard.command("unban", A)
    assert (done.returncode, "no space left" in done.stdout) == (0, True), done
    assert not guarded.in_kernel(A)
    guarded.server.run("nft", "delete", "table", "inet", "throttled")
    netns.until(
        lambda: guarded.in_kernel(B) and guarded.in_kernel(C), "those not unbanned are restored"
    )
    assert not guarded.in_kernel(A)
    done = guarded.guard.command("unban", "--all", "--scope", "mx")
    assert (done.returncode, "2 unbanned" in done.stdout) == (0, True), done
    assert not guarded.in_kernel(B)
    guarded.bans(B)  # anew
    done = guarded.guard.command("unban", "--all")
    assert (done.returncode, "no space left" in done.stdout) == (0, True), done
    assert not guarded.in_kernel(B)
    ballast.unlink()
    guarded.well()
    netns.until(lambda: guarded.recorded() == set(), "recorded")
    guarded.bans(C)
