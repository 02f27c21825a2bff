"""What is the iptables backend's own, on a real kernel."""

import fcntl
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from lab.daemon import guarded
from lab.daemon.guarded import INSIDE4, RULESET, Host, Wire
from lab.machine.legacy import legacy_path
from lab.network.netns import CLIENT4, SERVER4, namespace, without
from throttled.decide.reconcile import missing
from throttled.enforce.backend import Drift
from throttled.enforce.iptables import backend as module
from throttled.enforce.iptables import ipsets, ruleset, tables
from throttled.enforce.iptables.backend import Iptables
from throttled.enforce.nftables import libnftables
from throttled.enforce.registry import choose
from throttled.errors import BackendError
from throttled.model import Action, Entry, Rate

pytestmark = pytest.mark.root


def ban(subject: str, seconds: float = 60.0, action: Action = "ban") -> Entry:
    return Entry(subject, "mx", action, seconds)


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout


def raw(version: int = 4) -> list[str]:
    return run(
        f"ip{'6' if version == 6 else ''}tables-legacy", "-w", "-t", "raw", "-S"
    ).splitlines()


@pytest.fixture(autouse=True)
def legacy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this host's iptables be the legacy one."""
    with legacy_path() as path:
        monkeypatch.setenv("PATH", path)
        yield


@pytest.fixture
def host(wire: Wire) -> Iterator[Host]:
    with guarded.guarded("iptables", wire) as made:
        yield made


# What an operator sees


def test_the_rules_and_sets_read_well(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1", 3600.0), ban("198.18.16.0/20", 7200.0)])
    port = "! -i lo -p tcp -m tcp --dport 25 -m addrtype --dst-type LOCAL"
    for version in (4, 6):
        listed = raw(version)
        assert "-A PREROUTING -p tcp -j throttled" in listed
        for rule in (
            f"-A throttled {port} -g throttled_mx",
            f"-A throttled_mx -m set --match-set thr_protected{version} src -j RETURN",
            f"-A throttled_mx -m set --match-set thr_mx_ban{version} src -j throttled_drop",
        ):
            assert rule in listed
    assert "198.18.0.1 timeout 3" in run("ipset", "list", "thr_mx_ban4")
    assert "198.18.16.0/20 timeout 7" in run("ipset", "list", "thr_mx_ban4_20")


def refusing(version: int) -> list[str]:
    """Return what of ours is in the table filter."""
    program = f"ip{'6' if version == 6 else ''}tables-legacy"
    return [line for line in run(program, "-w", "-S").splitlines() if "throttled" in line]


def test_refusing_needs_a_chain_in_the_table_filter_that_goes_again(host: Host) -> None:
    marked = "-p tcp -m mark --mark 0x8000000/0x8000000 -j throttled_reject"
    wanted = [
        "-N throttled_reject",
        f"-A INPUT {marked}",
        f"-A FORWARD {marked}",
        "-A throttled_reject -p tcp -j REJECT --reject-with tcp-reset",
    ]
    rejecting = msgspec.structs.replace(RULESET, reject=True)
    for leave in (lambda: host.backend.setup(RULESET), host.backend.teardown):
        host.backend.setup(rejecting)
        assert [refusing(version) for version in (4, 6)] == [wanted, wanted]
        leave()
        assert [refusing(version) for version in (4, 6)] == [[], []]


@pytest.mark.parametrize(
    "damage", ["-F throttled_reject", "-F INPUT", "-I INPUT 1 -p tcp --dport 587 -j ACCEPT"]
)
def test_damage_to_what_refuses_is_found_and_repaired(host: Host, damage: str) -> None:
    host.backend.setup(msgspec.structs.replace(RULESET, reject=True))
    host.backend.apply([Entry("198.18.0.1", "submission", "ban", 60.0)])
    watch = host.backend.watch()
    assert watch is not None
    assert watch.drain() == Drift()
    run("iptables-legacy", "-w", *damage.split())
    assert watch.drain().rules
    assert not host.backend.intact()
    host.backend.setup(msgspec.structs.replace(RULESET, reject=True))
    assert host.backend.intact()
    assert host.refused("198.18.0.1")
    watch.close()
    run("iptables-legacy", "-w", "-F", "INPUT")


def test_without_the_target_it_drops_and_says_so(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    absent = [ruleset.Rule(ruleset.REJECT, (), "ABSENT", tcp=True)]
    with monkeypatch.context() as patch:
        patch.setattr(ruleset, "rejecting", lambda: absent)
        host.backend.setup(msgspec.structs.replace(RULESET, reject=True))
    assert "[firewall] reject does not work, dropping instead" in caplog.text
    assert [host.backend.refuses] == [False]
    host.backend.apply([Entry("198.18.0.1", "submission", "ban", 60.0)])
    assert not host.refused("198.18.0.1")
    assert host.backend.intact()
    host.backend.setup(msgspec.structs.replace(RULESET, reject=True))
    assert host.backend.refuses
    assert host.refused("198.18.0.1")


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        (Rate(1, 3600.0, 24), "1/hour --hashlimit-burst 24"),
        (Rate(7, 3600.0, 2), "7/hour --hashlimit-burst 2"),
        (Rate(2, 86400.0, 1), "2/day --hashlimit-burst 1"),
    ],
)
def test_the_kernel_keeps_a_rate_exactly(host: Host, rate: Rate, written: str) -> None:
    host.backend.apply([Entry("198.18.0.1", "mx", "throttle", 60.0, rate)])
    (rule,) = [line for line in raw() if "thr_mx_t4_" in line]
    assert f"--hashlimit-above {written} " in rule
    expire = int(rule.partition("--hashlimit-htable-expire ")[2].split()[0])
    assert expire == 1000 * math.ceil(rate.burst * rate.per / rate.count)


def test_sets_of_rates_that_nobody_has_go(host: Host) -> None:
    entry = Entry("198.18.0.1", "mx", "throttle", 60.0, Rate(1, 3600.0, 2))
    host.backend.apply([entry, Entry("198.18.0.2", "mx", "throttle", 60.0, Rate(2, 3600.0, 2))])
    host.backend.apply([msgspec.structs.replace(entry, seconds=0.0)])
    host.backend.setup(RULESET)
    names = [line for line in run("ipset", "list", "-n").split() if line.startswith("thr_mx_t4")]
    assert names == ["thr_mx_t4_2h2"]
    assert host.backend.intact()


def test_an_element_added_manually_is_found_and_ends(host: Host) -> None:
    run("ipset", "add", "thr_mx_ban4", "198.18.0.1")
    run("ipset", "add", "thr_mx_ban4_24", "198.18.1.0/24", "timeout", "3600")
    run("ipset", "add", "thr_mx_ban4_24", "198.18.64.0/19", "timeout", "3600")  # not ours
    found = {element.subject: element.seconds for element in host.backend.dump()}
    assert found.keys() == {"198.18.0.1", "198.18.1.0/24"}
    assert 0 < found["198.18.0.1"] <= 600


# Other people's rules

UFW = """\
*filter
:INPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 25 -j ACCEPT
COMMIT
"""
DOCKER = f"""\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 203.0.113.1/32 ! -i in0 -p udp -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -d {SERVER4}/32 -p tcp -m tcp --dport 25 -j DNAT --to-destination {INSIDE4}:2525
COMMIT
"""


@pytest.fixture
def others(wire: Wire) -> Iterator[None]:
    """Take other people's rules away again."""
    yield
    for table in ("raw", "nat", "filter"):
        for verb in ("-F", "-X"):
            wire.server.run("iptables-legacy", "-w", "-t", table, verb)


def saved(*tables: str) -> list[str]:
    """Return the rules of others, as they are saved."""
    text = "".join(run("iptables-legacy-save", "-t", table) for table in tables)
    lines = [line.partition(" [")[0] for line in text.splitlines() if not line.startswith("#")]
    return [line for line in lines if "throttled" not in line]


@pytest.mark.usefixtures("others")
def test_beside_ufw_and_docker(wire: Wire) -> None:
    with wire.server.entered():
        run("iptables-legacy-restore", "-w", stdin=UFW)
        run("iptables-legacy-restore", "-w", "-n", stdin=DOCKER)
        before = saved("raw", "nat", "filter")
        assert before
        with guarded.guarded("iptables", wire) as host:
            assert saved("raw", "nat", "filter") == before
            appended = [line for line in raw() if line.startswith("-A PREROUTING")]
            assert appended[0] == "-A PREROUTING -p tcp -j throttled"
            host.backend.apply([ban("198.18.0.1")])
            assert not host.arrives("198.18.0.1")  # the port is that before DNAT
            sock = wire.client.connect("198.18.0.2", SERVER4, 25)
            peer, _ = wire.listeners[INSIDE4, 2525].accept()
            peer.close()
            sock.close()
            # Somebody puts a rule in front of ours: it is reported, and ours comes first again.
            hole = ("PREROUTING", "-s", "198.18.0.0/16", "-j", "ACCEPT")
            run("iptables-legacy", "-w", "-t", "raw", "-I", *hole)
            assert not host.backend.intact()
            host.backend.setup(RULESET)
            assert host.backend.intact()
            assert not host.arrives("198.18.0.1")
            run("iptables-legacy", "-w", "-t", "raw", "-D", *hole)
        assert saved("raw", "nat", "filter") == before
        assert run("ipset", "list", "-n") == ""


@pytest.mark.usefixtures("others")
def test_rules_that_another_program_restored_over_ours(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1")])
    assert not host.arrives("198.18.0.1")
    run(
        "iptables-legacy-restore", "-w", stdin=DOCKER.partition("*nat")[0]
    )  # flushes the whole table
    assert host.arrives("198.18.0.1")
    assert not host.backend.intact()
    assert host.backend.setup(RULESET)
    assert host.backend.intact()
    assert not host.arrives("198.18.0.1")
    assert host.backend.dropped() == 2  # what was counted before is not lost
    assert "-A PREROUTING -d 203.0.113.1/32 ! -i in0 -p udp -j DROP" in raw()


@pytest.mark.parametrize(
    "damage",
    [
        "iptables-legacy -w -t raw -F throttled_mx",
        "iptables-legacy -w -t raw -I throttled 1 -j ACCEPT",
        "iptables-legacy -w -t raw -D PREROUTING -p tcp -j throttled",
        "iptables-legacy -w -t raw -F",
        "ip6tables-legacy -w -t raw -F",
    ],
)
def test_whatever_another_program_did_to_our_rules_is_found_and_repaired(
    host: Host, damage: str
) -> None:
    host.backend.apply([ban("198.18.0.1"), ban("2001:db8:b::1")])
    run(*damage.split())
    assert not host.backend.intact()
    host.backend.setup(RULESET)
    assert host.backend.intact()
    assert not host.arrives("198.18.0.1")
    assert not host.arrives("2001:db8:b::1")


def test_a_set_that_another_program_replaced_is_made_anew(host: Host) -> None:
    run("iptables-legacy", "-w", "-t", "raw", "-F")
    run("ipset", "destroy", "thr_mx_ban4")
    run("ipset", "create", "thr_mx_ban4", "hash:net")
    assert not host.backend.setup(RULESET)
    host.backend.apply([ban("198.18.0.1")])
    assert not host.arrives("198.18.0.1")


@pytest.mark.parametrize("damage", ["flush", "flush thr_dropped4", "flush thr_protected4"])
def test_sets_that_another_program_emptied_are_found_and_filled_again(
    host: Host, damage: str
) -> None:
    watch = host.backend.watch()
    assert watch is not None
    assert watch.drain() == Drift()
    run("ipset", *damage.split())
    assert not host.backend.intact()
    assert watch.drain() == Drift(rules=True, lost=True)
    assert host.backend.setup(RULESET)
    assert host.backend.intact()
    assert watch.drain() == Drift()
    watch.close()
    host.backend.apply([ban("198.18.0.1"), ban(CLIENT4)])
    assert not host.arrives("198.18.0.1")  # dropped, and counted
    assert host.arrives(CLIENT4)  # protected


def test_what_others_do_to_the_tables_is_not_our_business(host: Host) -> None:
    watch = host.backend.watch()
    assert watch is not None
    rule = ("OUTPUT", "-d", "203.0.113.1", "-j", "ACCEPT")
    for verb in ("-A", "-D"):
        run("iptables-legacy", "-w", "-t", "raw", verb, *rule)
        assert watch.drain() == Drift()
    run("iptables-legacy", "-w", "-t", "raw", "-I", "PREROUTING", *rule[1:])
    assert watch.drain() == Drift(rules=True, lost=True)
    assert watch.drain() == Drift()  # reported once
    run("iptables-legacy", "-w", "-t", "raw", "-D", "PREROUTING", *rule[1:])
    watch.close()


def test_a_look_reads_no_elements(host: Host) -> None:
    host.backend.setup(msgspec.structs.replace(RULESET, size=100_000))
    host.backend.apply([ban(f"198.18.{n >> 8}.{n & 255}") for n in range(1, 50_000)])
    watch = host.backend.watch()
    assert watch is not None
    elapsed = []
    for _ in range(100):
        start = time.perf_counter()
        assert watch.drain() == Drift()
        elapsed.append(time.perf_counter() - start)
    watch.close()
    start = time.perf_counter()
    assert sum(1 for _ in host.backend.dump()) == 49_999
    assert min(elapsed) < (time.perf_counter() - start) / 1000


def test_sets_of_others_stay(host: Host) -> None:
    run("ipset", "create", "thr_blocklist", "hash:ip")
    host.backend.teardown()
    assert run("ipset", "list", "-n") == "thr_blocklist\n"
    run("ipset", "destroy", "thr_blocklist")


def test_sets_that_are_gone_are_reported(host: Host) -> None:
    for program in ("iptables-legacy", "ip6tables-legacy"):
        run(program, "-w", "-t", "raw", "-F")
    run("ipset", "destroy")
    with pytest.raises(BackendError) as caught:
        host.backend.apply([ban("198.18.0.1")])
    assert caught.value.hint
    assert host.backend.lookup([ban(f"198.18.0.{n}") for n in range(1, 100)]) == []
    assert not host.backend.setup(RULESET)
    assert not host.backend.apply([ban("198.18.0.1")]).failed


def test_no_other_table_is_touched() -> None:
    """The table nat would turn connection tracking on for the whole host."""
    with namespace("alone") as place, place.entered():
        backend = Iptables()
        assert [finding.state for finding in backend.check()] == ["ok"]
        assert [finding.state for finding in backend.check()] == ["ok"]
        backend.setup(RULESET)
        names = [Path("/proc/thread-self/net", f"{ip}_tables_names") for ip in ("ip", "ip6")]
        made = [name.read_text().split() for name in names]
        backend.teardown()
        assert made == [["raw"], ["raw"]]


# Sets


def test_a_set_in_use_gets_another_size_with_what_it_holds(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REMADE", 5)
    host.backend.apply([ban(f"198.18.0.{n}") for n in range(6)])
    host.backend.apply([ban(f"198.18.0.{n}", action="throttle") for n in range(5)])
    with caplog.at_level(logging.WARNING):
        host.backend.setup(msgspec.structs.replace(RULESET, size=7))
    assert [record.message for record in caplog.records] == [
        "thr_mx_ban4 has too many elements to be replaced: its size is unchanged"
    ]
    assert len(list(host.backend.dump())) == 11
    assert not host.backend.apply([ban(f"198.18.1.{n}") for n in range(9)]).full
    assert host.backend.apply([ban(f"198.18.1.{n}", action="throttle") for n in range(9)]).full
    assert "_n\n" not in run("ipset", "list", "-n")


def test_the_longest_time_that_the_kernel_can_count(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1", 1e15)])
    (element,) = host.backend.lookup([ban("198.18.0.1")])
    assert 24 * 86400 < element.seconds < 25 * 86400


def test_what_is_to_last_longer_is_not_mistaken_for_another(host: Host) -> None:
    long = ban("198.18.0.1", 90 * 86400.0)
    host.backend.apply([long])
    assert missing([long], host.backend.lookup([long])) == []
    run("ipset", "add", "-exist", "thr_mx_ban4", "198.18.0.1", "timeout", str(12 * 86400))
    assert missing([long], host.backend.lookup([long])) == [long]  # in time to be renewed


def test_what_the_kernel_refuses_is_found_among_many(host: Host) -> None:
    batch = [ban(f"198.18.{n >> 8}.{n & 255}") for n in range(999)]
    batch[500:500] = [ban("0.0.0.0")]  # which hash:ip cannot hold
    applied = host.backend.apply([*batch, ban("2001:db8::1"), ban("::")])
    assert [entry.subject for entry, _why in applied.failed] == ["0.0.0.0", "::"]
    assert [entry.subject for entry, _why in host.backend.apply([ban("::")]).failed] == ["::"]
    assert not applied.full
    assert len(list(host.backend.dump())) == 1000


def test_all_addresses_are_one_subject(host: Host) -> None:
    everyone = [ban("0.0.0.0/0"), ban("::/0", action="throttle")]
    host.backend.apply(everyone)
    assert not host.arrives("198.18.0.1")  # in the upper half
    assert [element.packets for element in host.backend.lookup(everyone)] == [1, 0]
    assert len(list(host.backend.dump())) == 2
    host.backend.apply([ban("0.0.0.0/0", 0.0)])
    assert host.arrives("198.18.0.1")


def test_of_a_large_set_only_presence_is_known(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipsets, "_READ", 100)
    host.backend.setup(msgspec.structs.replace(RULESET, size=100_000))
    many = [ban(f"198.18.{n >> 8}.{n & 255}") for n in range(1, 5000)]
    host.backend.apply(many)
    found = host.backend.lookup([*many[:500], ban("198.19.0.1")])
    assert len(found) == 500
    unknown = host.backend.lookup(many[:500])  # the set is not even read again
    assert all(math.isnan(element.seconds) and element.packets == 0 for element in unknown)


# Check


def test_check_changes_nothing() -> None:
    with namespace("check") as place, place.entered():
        assert [finding.state for finding in Iptables().check()] == ["ok"]
        assert [line for line in raw() if not line.startswith("-P ")] == []
        assert run("ipset", "list", "-n") == ""


def test_check_where_the_host_uses_the_nft_variant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("iptables-legacy", "ip6tables-legacy"):
        (tmp_path / name).symlink_to(f"/usr/sbin/{name}")
    (tmp_path / "iptables").symlink_to("/usr/sbin/xtables-nft-multi")
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = Iptables().check()
    assert finding.state == "fault"
    assert "nft variant" in finding.what
    assert 'backend = "nftables"' in finding.hint


def test_check_without_the_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with namespace("absent") as place, place.entered(), monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        (finding,) = Iptables().check()
        assert finding.what == "iptables-legacy is not installed"
        assert "apt-get install iptables" in finding.hint
        Iptables().teardown()  # there is nothing, and it does not need them to know


def test_check_where_a_kind_of_match_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for a kernel without xt_hashlimit, which cannot be had here.
    monkeypatch.setattr(ruleset, "_GC", "nonsense")
    with namespace("modules") as place, place.entered():
        (finding,) = Iptables().check()
        assert finding.state == "fault"
        assert "xt_hashlimit" in finding.hint
        assert run("ipset", "list", "-n") == ""


def test_an_error_of_an_extension_beside_libnftables() -> None:
    """libnftables initialises libxtables for itself: an error would then end the process."""
    code = """
from iptc.xtables import xtables
from lab.network.netns import namespace
from throttled.enforce.registry import choose
from throttled.enforce.iptables import ruleset
ruleset._GC = "nonsense"
initialised = [xtables(2), xtables(10)]  # as after a change, until they are collected
with namespace("beside") as place, place.entered():
    assert choose("nftables").check()[0].state == "ok"
    print(choose("iptables").check())
"""
    assert "xt_hashlimit" in run(
        sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    )


def test_check_without_the_right() -> None:
    code = "from throttled.enforce.registry import choose; print(choose('iptables').check())"
    done = without(["net_admin"], code)
    assert "state='fault'" in done.stdout
    assert "CAP_NET_ADMIN" in done.stdout


def test_auto_is_iptables_where_nftables_does_not_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libnftables, "_LIBRARY", "libnftables-that-is-absent.so.1")
    with namespace("auto") as place, place.entered(), monkeypatch.context() as patch:
        assert choose("auto").name == "iptables"
        patch.setenv("PATH", str(tmp_path))
        assert choose("auto").name == "nftables"  # whose faults are reported


def test_check_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LIBRARIES", ("xtables", "absent4", "absent6"))
    monkeypatch.delitem(sys.modules, "throttled.enforce.iptables.library", raising=False)
    with namespace("libraries") as place, place.entered():
        (finding,) = Iptables().check()
        assert finding.what == "libabsent4, libabsent6 not found"
        assert "apt-get install iptables" in finding.hint
        assert run("ipset", "list", "-n") == ""


def test_check_without_python_iptables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "throttled.enforce.iptables.library", raising=False)
    monkeypatch.setitem(sys.modules, "iptc", None)
    with namespace("package") as place, place.entered():
        (finding,) = Iptables().check()
        assert "iptc" in finding.what
        assert "python3-iptables" in finding.hint


# python-iptables


def test_it_is_imported_only_when_needed_and_prints_nothing() -> None:
    code = """if True:
        import os, sys
        from throttled.enforce.registry import choose
        backend = choose("iptables")
        assert "iptc" not in sys.modules
        place = os.stat("/dev/fd/1").st_ino
        assert [problem.state for problem in backend.check()] == ["ok"]
        assert "iptc" in sys.modules
        assert os.stat("/dev/fd/1").st_ino == place
    """
    with namespace("import") as place, place.entered():
        done = subprocess.run(
            (sys.executable, "-W", "error", "-c", code), capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_standard_output_is_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(*_descriptors: int) -> None:
        pytest.fail("standard output was turned round")

    with monkeypatch.context() as patch:
        patch.setattr("os.dup2", turned)
        host.backend.setup(RULESET)


def test_hashlimit_is_as_it_was_meant_every_time(host: Host) -> None:
    expected = [line for line in raw() if "hashlimit" in line]
    assert expected
    for _ in range(200):
        host.backend.setup(RULESET)
        assert host.backend.intact()
    assert [line for line in raw() if "hashlimit" in line] == expected


def test_a_change_that_fails_changes_nothing(host: Host) -> None:
    before = {version: raw(version) for version in (4, 6)}
    hook = ruleset.Rule("PREROUTING", (), "throttled")
    nonsense = ruleset.Match("hashlimit", (("hashlimit-above", "nonsense"),))
    loop = ruleset.Rule("throttled", (), "throttled")  # which the kernel refuses, at the commit
    absent = ruleset.Match("set", (("match-set", ("thr_absent", "src")),))
    for bad in (
        loop,
        ruleset.Rule("throttled", (nonsense,), "DROP"),
        ruleset.Rule("throttled", (absent,), "DROP"),
        ruleset.Rule("throttled", (), "absent"),
        ruleset.Rule("absent", (), "DROP"),
    ):
        for version in (4, 6):
            with pytest.raises(BackendError) as caught:
                tables.put(version, ["throttled"], [hook, bad])
            assert caught.value.message.startswith(f"ip{'6' if version == 6 else ''}tables")
            assert raw(version) == before[version]
    assert host.backend.intact()
    host.backend.setup(RULESET)
    assert host.backend.intact()


def test_the_lock_of_the_programs_is_waited_for(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"  # not that of this machine's other tests
    monkeypatch.setattr(tables, "_LOCKFILE", lock)
    monkeypatch.setattr(tables, "_LOCK", 0.1)
    with lock.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        with pytest.raises(BackendError, match="another program has locked"):
            tables.remove(4, ruleset.CHAINS)
    assert host.backend.intact()
    tables.remove(4, ruleset.CHAINS)
    assert not host.backend.intact()


def test_a_locked_xtables_lock_costs_no_bans(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A set that cannot be used is made anew, for which the lock is taken again."""
    host.backend.apply([ban("198.18.0.1")])
    lock = tmp_path / "lock"
    monkeypatch.setattr(tables, "_LOCKFILE", lock)
    monkeypatch.setattr(tables, "_LOCK", 0.1)
    with lock.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        release = threading.Timer(0.15, lambda: fcntl.flock(opened, fcntl.LOCK_UN))
        release.start()
        with suppress(BackendError):
            host.backend.setup(RULESET)
        release.join()
    assert len(host.backend.lookup([ban("198.18.0.1")])) == 1


@pytest.mark.parametrize("left", range(6))
def test_without_descriptors_it_is_reported_and_the_process_goes_on(wire: Wire, left: int) -> None:
    code = """if True:
        import os, resource, sys
        from throttled.enforce.registry import choose
        from throttled.errors import BackendError
        from throttled.enforce.backend import Ruleset
        RULESET = Ruleset({"mx": (25,)}, (), rate=1, per=60.0, burst=3, size=1000)
        backend = choose("iptables")
        assert [problem.state for problem in backend.check()] == ["ok"]
        backend.setup(RULESET)
        backend.teardown()
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1,) * 2)
        for _ in range(int(sys.argv[1])):
            os.close(held.pop())
        for call in (lambda: backend.setup(RULESET), backend.check, backend.watch, backend.intact):
            try:
                print(call())
            except BackendError as error:
                print(error.message)
        print("alive")
    """
    with wire.server.entered():
        done = subprocess.run(
            (sys.executable, "-c", code, str(left)), capture_output=True, text=True, check=False
        )
        Iptables().teardown()
    assert done.stdout.endswith("alive\n"), done


# What it costs


def test_a_ban_costs_the_same_beside_many(host: Host) -> None:
    host.backend.setup(msgspec.structs.replace(RULESET, size=200_000))

    def least(first: int) -> float:
        elapsed = []
        for number in range(1, 100):
            start = time.perf_counter()
            host.backend.apply([ban(f"198.18.{first}.{number}")])
            elapsed.append(time.perf_counter() - start)
        return min(elapsed)  # the least: this machine may be busy

    alone = least(1)
    host.backend.apply([ban(f"198.19.{n >> 8}.{n & 255}") for n in range(50_000)])
    assert least(2) < 5 * alone
