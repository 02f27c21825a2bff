"""list, explain and unban without a daemon: on a real store, and a real nftables table."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.control.results import ListResult
from throttled.facts import Facts
from throttled.model import Decision, Evidence
from throttled.store.store import Filter, Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

BANNED = "198.51.100.7"
NETWORK = "198.51.100.0/24"


def _decision(subject: str, action: str = "ban", scope: str = "mx", level: int = 1) -> Decision:
    now = time.time()
    return Decision(now - 60, action, subject, scope, "auth", level, now + 590, "61 > 60")  # type: ignore[arg-type] # plain words, for brevity


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store that a daemon left behind."""
    opened = Store.open(str(tmp_path / "throttled.db"))
    decisions = [
        _decision(BANNED),
        _decision(BANNED, scope="submission"),
        _decision(NETWORK, "throttle", level=0),
        _decision("2001:db8::1"),
    ]
    opened.record(time.time(), decisions, [Evidence(BANNED, time.time() - 5, 3, 1)])
    yield opened
    opened.close()


def test_nothing_was_ever_there(cli: "Cli") -> None:
    for command in ("list", "explain 198.51.100.7", "unban 198.51.100.7", "unban --all"):
        ended = cli(*command.split())
        assert (ended.code, ended.out) == (3, "")
        assert "the daemon is not running" in ended.err


@pytest.mark.usefixtures("store")
def test_list(cli: "Cli") -> None:
    ended = cli("list")
    assert ended.code == 0
    assert "the daemon is not running" in ended.err
    assert len(ended.out.splitlines()) == 5
    assert cli("list", NETWORK, "--scope", "mx", "--json").json()["total"] == 2
    assert cli("list", "203.0.113.9").code == 1
    rows = cli("list", "--json", "--sort", "subject", "--max", "1").json()
    assert (len(rows["rows"]), rows["total"]) == (1, 4)


def test_a_daemon_that_answers_is_believed(cli: "Cli", store: Store, daemon: "Daemon") -> None:
    daemon.answer = ListResult([], 0)
    assert store.listing.total(time.time()) == 4
    ended = cli("list")
    assert (ended.out, ended.err) == ("no active entries\n", "")


def test_explain(cli: "Cli", store: Store) -> None:
    store.allowlist.allow(NETWORK, 0.0, "the office", time.time())
    store.allowlist.allow(".example.com", 0.0, "", time.time())
    store.allowlist.allow("198.51.100.8", 0.0, "", time.time())
    store.allowlist.allow("2001:db8::/32", 0.0, "", time.time())
    result = cli("explain", BANNED, "--json").json()
    assert result["network"] == NETWORK
    assert sorted((row["subject"], row["scope"]) for row in result["active"]) == [
        (NETWORK, "mx"),
        (BANNED, "mx"),
        (BANNED, "submission"),
    ]
    assert len(result["decisions"]) == 2
    assert [row["what"] for row in result["allowed"]] == [NETWORK]
    assert (result["past"]["offences"], result["past"]["deliveries"]) == (1, 3)
    text = cli("explain", NETWORK)
    assert text.code == 0
    assert f"throttle of {NETWORK} in mx since" in text.out
    assert "Next: unknown: the daemon does not answer" in text.out


def test_unban(cli: "Cli", store: Store) -> None:
    ended = cli("unban", BANNED, "--scope", "mx")
    assert ended.code == 0
    assert ended.out.startswith(f"{BANNED} is unbanned\n  {BANNED} ban in mx removed, would ")
    assert len(ended.out.splitlines()) == 2
    past = store.past([(BANNED, "mx"), (BANNED, "submission")], time.time())
    assert past[BANNED, "mx"].action is None
    assert past[BANNED, "mx"].offences == 0
    assert past[BANNED, "submission"].action == "ban"


def test_an_account_is_named_with_and_without_the_local_domain(
    cli: "Cli", store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(sasl_domain="example.test")
    monkeypatch.setattr("throttled.cli.offline.facts", lambda _settings: facts)
    store.record(time.time(), [_decision("account:alice", scope="submission")])
    assert cli("unban", "account:Alice@example.test").code == 0
    assert store.listing.snapshots(time.time(), Filter(subject="account:alice")) == []


@pytest.mark.usefixtures("store")
def test_what_the_daemon_would_not_accept_is_refused(cli: "Cli") -> None:
    ended = cli("find", "x")
    assert (ended.code, ended.out) == (2, "")
    assert "text: must have at least 2 characters" in ended.err
    assert cli("find", "198.51").code == 0


def test_unban_of_many(cli: "Cli", store: Store) -> None:
    ended = cli("unban", "2001:db8::1", BANNED, "203.0.113.9")
    assert (ended.code, ended.out) == (1, "2 unbanned, 1 not\n")  # the kernel has no network
    assert "203.0.113.9 is neither throttled nor banned" in ended.err
    assert [row.subject for row in store.listing.snapshots(time.time())] == [NETWORK]
    ended = cli("unban", "--within", NETWORK)
    assert ended.err.count("the daemon is not running") == 1
    assert (ended.code, ended.out) == (0, "1 unbanned\n")
    ended = cli("unban", "--within", NETWORK)
    assert (ended.code, "nothing of that is throttled or banned" in ended.err) == (1, True)
    assert [change.op for change in store.audit.changes()][:3] == ["unban-many"] * 3


def test_unban_with_an_exemption(cli: "Cli", store: Store) -> None:
    before = time.time()
    ended = cli("unban", "203.0.113.9", "--for", "1h")
    after = time.time()
    assert ended.code == 0
    assert ended.out == "203.0.113.9 is unbanned; exempt for 1h\n"
    past = store.past([("203.0.113.9", "mx")], after)["203.0.113.9", "mx"]
    assert before + 3600 <= past.exempt_until <= after + 3600


@pytest.mark.usefixtures("store")
def test_what_is_not_banned_cannot_be_unbanned(cli: "Cli") -> None:
    ended = cli("unban", "203.0.113.9", "--json")
    assert ended.code == 1
    assert ended.json()["error"]["message"] == "203.0.113.9 is neither throttled nor banned"


def test_unban_all(cli: "Cli", store: Store) -> None:
    assert cli("unban", "--all", "--scope", "submission").out == "1 unbanned\n"
    assert store.listing.total(time.time()) == 3
    assert cli("unban", "--all").out == "3 unbanned\n"
    assert store.listing.total(time.time()) == 0


def test_allow_lifts_what_is_inside_and_disallow_undoes_it(cli: "Cli", store: Store) -> None:
    ended = cli("allow", NETWORK, "--note", "the office")
    assert ended.code == 0
    assert f"{NETWORK} is allowed" in ended.out
    assert store.listing.total(time.time()) == 1
    assert cli("allow", ".example.com", "--for", "1h").code == 0
    rows = cli("allow", "--json").json()["rows"]
    assert [(row["what"], row["note"]) for row in rows] == [
        (".example.com", ""),
        (NETWORK, "the office"),
    ]
    assert cli("explain", BANNED, "--json").json()["protected"]
    assert cli("disallow", NETWORK).code == 0
    assert cli("disallow", NETWORK).code == 1
    assert [row.what for row in store.allowlist.entries(time.time())] == [".example.com"]


@pytest.mark.usefixtures("store")
def test_status_says_that_nobody_watches_and_what_should_be_in_force(cli: "Cli") -> None:
    ended = cli("status")
    assert ended.code == 3
    assert "does not answer" in ended.out
    assert "tracked" not in ended.out  # nobody counts
    assert "read," not in ended.out
    status = cli("status", "--json").json()
    assert (status["pid"], status["banned"], status["desired"]) == (
        0,
        {"mx": 2, "submission": 1},
        4,
    )
    assert status["health"][0]["state"] == "fault"


def test_changes_are_recorded_and_looks_are_not(cli: "Cli", store: Store) -> None:
    assert cli("audit").out == "no changes are recorded\n"
    assert cli("audit", BANNED).code == 1
    cli("list")
    cli("unban", BANNED)
    cli("unban", BANNED)
    refused, done = store.audit.changes()
    assert (done.op, done.subject, done.uid, done.pid) == (
        "unban",
        BANNED,
        os.getuid(),
        os.getpid(),
    )
    assert (done.offline, done.ok, refused.ok) == (True, True, False)
    text = cli("audit", BANNED, "--max", "1").out
    assert "without a daemon" in text
    assert f"failed: {BANNED} is neither throttled nor banned" in text
    assert len(cli("audit", "--for", "1h", "--json").json()["rows"]) == 2


def test_in_mode_observe_the_database_of_what_is_observed_is_shown(
    cli: "Cli", store: Store, config_file: Path, tmp_path: Path
) -> None:
    config_file.write_text('mode = "observe"\n' + config_file.read_text())
    assert cli("list").code == 3
    observed = Store.open(str(tmp_path / "throttled.observe.db"))
    observed.record(time.time(), [_decision("203.0.113.7")])
    observed.close()
    assert [row["subject"] for row in cli("list", "--json").json()["rows"]] == ["203.0.113.7"]
    assert cli("unban", BANNED).code == 0  # really banned before it observed
    assert store.listing.total(time.time()) == 2


IN_A_NAMESPACE = """
import os, sys, time
from throttled.enforce.registry import choose
from throttled.enforce.backend import Ruleset
from throttled.model import Entry, Decision
from throttled.store.store import Store
from throttled.cli.main import main

path, config = sys.argv[1:]
entries = [Entry(s, "mx", "ban", 600.0) for s in ("198.51.100.7", "198.51.100.8", "2001:db8::1")]
backend = choose("nftables")
backend.setup(Ruleset({"mx": (25,), "submission": (587,)}, ("127.0.0.0/8",), 10, 60.0, 10, 1000))
backend.apply(entries)
now = time.time()
store = Store.open(path)
store.record(now, [Decision(now, "ban", entries[0].subject, "mx", "auth", 1, now + 600, "")])
store.close()

def run(*arguments):
    sys.argv[1:] = ["--config", config, *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code

def held():
    return sorted(seen.subject for seen in backend.lookup(entries))

assert run("unban", "198.51.100.7") == 0 and held() == ["198.51.100.8", "2001:db8::1"], held()
assert run("unban", "198.51.100.8") == 0 and held() == ["2001:db8::1"], "not in the database"
assert run("unban", "198.51.100.8") == 1
assert run("unban", "--all", "--scope", "submission") == 0 and held() == ["2001:db8::1"], held()
assert run("unban", "--all", "--scope", "mx") == 0 and held() == [], held()
backend.apply(entries)
assert run("unban", "--all") == 0 and held() == [], held()
assert run("unban", "198.51.100.7") == 1, "no table at all"
backend.setup(Ruleset({"mx": (25,), "submission": (587,)}, ("127.0.0.0/8",), 10, 60.0, 10, 1000))
backend.apply(entries)
assert run("purge", "--yes") == 0 and held() == [], held()
assert os.path.exists(path)
assert run("purge", "--all", "--yes") == 0 and not os.path.exists(path)
"""


@pytest.mark.root
def test_unban_and_purge_reach_the_kernel(tmp_path: Path, config_file: Path) -> None:
    program = [sys.executable, "-c", IN_A_NAMESPACE, str(tmp_path / "throttled.db")]
    # purge looks for every backend's traces; those of XDP lie outside of network namespaces.
    no_pins = ("sh", "-c", 'mount -t tmpfs tmpfs /sys/fs/bpf && exec "$@"', "sh")
    ended = subprocess.run(
        ["unshare", "--net", "--mount", *no_pins, *program, str(config_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("unbanned\n") == 5


FULL = """
import subprocess, sys
from throttled.cli.main import main
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.backend import Ruleset
from throttled.model import Entry
from throttled.store.store import Store

folder, config, size = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], check=True)
Store.open(f"{folder}/throttled.db").close()
if size == "400":
    opened = Store.open(f"{folder}/throttled.db", readonly=True)  # so that -wal and -shm stay
subprocess.run(["dd", "if=/dev/zero", f"of={folder}/ballast"], stderr=subprocess.DEVNULL)
subjects = "198.51.100.7", "198.51.100.8", "198.51.100.9"
backend = Nftables()
backend.setup(Ruleset({"mx": (25,), "submission": (587,)}, ("127.0.0.0/8",), 10, 60.0, 10, 1000))
backend.apply([Entry(subject, "mx", "ban", 100.0) for subject in subjects])
held = lambda: {seen.subject for seen in backend.dump()}

def run(*words):
    sys.argv = ["throttled", "--config", config, *words]
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0

for more, left in (("198.51.100.7", 2), ("--all --scope submission", 2), ("--all", 0)):
    assert run("unban", *more.split()) == 0
    assert len(held()) == left, held()
assert run("allow", "198.51.100.7") == 1
"""


@pytest.mark.root
@pytest.mark.parametrize("size", ["320", "400"])
def test_on_a_full_disk_unban_frees_in_the_kernel_and_says_what_it_is_worth(
    tmp_path: Path, config_file: Path, size: str
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    config = config_file.read_text()
    config_file.write_text(config.replace(f"{tmp_path}/throttled.db", f"{folder}/throttled.db"))
    program = sys.executable, "-c", FULL, str(folder), str(config_file), size
    ended = subprocess.run(
        ["unshare", "--net", "--mount", *program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("the next start of the daemon restores the ban") == 3, ended
