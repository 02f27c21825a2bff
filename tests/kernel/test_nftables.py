"""What is the nftables backend's own, on a real kernel."""

import errno
import gc
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.daemon.guarded import INSIDE4, RULESET, Host
from lab.network.netns import DEADMAN, SERVER4, namespace, until, without
from throttled.enforce.nftables import backend as module
from throttled.enforce.nftables import elements, libnftables, messages, ruleset
from throttled.enforce.nftables.backend import Nftables
from throttled.enforce.nftables.libnftables import Libnftables
from throttled.errors import BackendError
from throttled.linux import netlink
from throttled.linux.netlink import Message
from throttled.linux.netlink_socket import Netlink, netfilter
from throttled.model import Action, Element, Entry, Rate

pytestmark = pytest.mark.root

_NEW_GENERATION = 0x0A0F


def ban(subject: str, seconds: float = 60.0, action: Action = "ban") -> Entry:
    return Entry(subject, "mx", action, seconds)


def nft(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        ("nft", *arguments), input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout


class Transactions:
    """Counts the transactions that the kernel commits in this namespace."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.bind((0, 1 << 6))  # the group NFNLGRP_NFTABLES

    def count(self) -> int:
        kinds: Counter[int] = Counter()
        while True:
            try:
                data = self.socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return kinds[_NEW_GENERATION]
            kinds.update(each.kind for each in netlink.messages(data))


@pytest.fixture
def transactions() -> Iterator[Transactions]:
    made = Transactions()
    yield made
    made.socket.close()


# What an operator sees


def test_the_table_reads_well(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1", 3600.0), ban("198.18.16.0/20", 7200.0)])
    text = nft("list", "table", "inet", "throttled")
    for expected in (
        'comment "SMTP clients, by throttled(8)"',
        "set mx_ban4 {",
        'comment "/24 networks"',
        "limit rate over 1/day burst 3 packets counter",
        "type filter hook prerouting priority raw; policy accept;",
        'ip saddr @mx_ban4 counter name "dropped" drop',
        "tcp dport 25 goto mx",
        "ip saddr @mx_exempt4 return",
        "goto mx_new",
    ):
        assert expected in text
    # nft 1.0.6 and 1.1.3
    assert re.search(r"tcp flags (!= syn / syn,ack|& \(syn \| ack\) != syn) goto mx_open", text)
    assert re.search(r"elements = \{ 198\.18\.0\.1 counter packets 0 .* timeout 1h ", text)
    assert re.search(r"elements = \{ 198\.18\.16\.0 counter packets 0 .* timeout 2h ", text)


@pytest.mark.parametrize("rate", [Rate(1, 3600.0, 24), Rate(7, 3600.0, 2), Rate(1, 86400.0, 1)])
def test_the_kernel_keeps_a_rate_exactly(host: Host, rate: Rate) -> None:
    host.backend.apply([Entry("198.18.0.1", "mx", "throttle", 60.0, rate)])
    found = {
        of.rate: each.limit
        for of, each in elements.TableElements().definitions().items()
        if of.rate
    }
    assert list(found.values()) == [(rate.count, int(rate.per), rate.burst)]


def test_sets_of_rates_that_nobody_has_go(host: Host) -> None:
    entry = Entry("198.18.0.1", "mx", "throttle", 60.0, Rate(1, 3600.0, 2))
    host.backend.apply([entry, Entry("198.18.0.2", "mx", "throttle", 60.0, Rate(2, 3600.0, 2))])
    host.backend.apply([msgspec.structs.replace(entry, seconds=0.0)])
    host.backend.setup(RULESET)
    text = nft("list", "table", "inet", "throttled")
    assert "mx_throttle4_1h2" not in text
    assert text.count("@mx_throttle4_2h2") == 1
    assert host.backend.intact()


def test_what_was_listed_can_be_loaded(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1"), ban("198.18.1.0/24", action="throttle")])
    nft("-f", "-", stdin="flush ruleset\n" + nft("list", "ruleset"))
    assert len(list(host.backend.dump())) == 2
    assert not host.arrives("198.18.0.1")


def test_an_element_added_manually_is_found(host: Host) -> None:
    nft("add", "element", "inet", "throttled", "mx_ban4", '{ 198.18.0.1 comment "spammer" }')
    nft("add", "element", "inet", "throttled", "mx_ban4_24", "{ 198.18.1.0 timeout 1h }")
    nft("add", "set", "inet", "throttled", "mine", "{ type ipv4_addr; elements = { 1.2.3.4 } }")
    found = {element.subject: element.seconds for element in host.backend.dump()}
    assert found.keys() == {"198.18.0.1", "198.18.1.0/24"}
    assert found["198.18.0.1"] == 3650 * 86400
    host.backend.setup(RULESET)
    host.backend.apply([ban("198.18.0.1", 0.0)])
    assert [element.subject for element in host.backend.dump()] == ["198.18.1.0/24"]
    assert "set mine" in nft("list", "table", "inet", "throttled")


# Packets


def test_ports_are_those_before_dnat(host: Host) -> None:
    nft(
        *("-f", "-"),
        stdin=f"""
        table ip containers {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                ip daddr {SERVER4} tcp dport 25 dnat to {INSIDE4}:2525
            }}
        }}
        """,
    )
    try:
        host.backend.apply([ban("198.18.0.1")])
        assert not host.arrives("198.18.0.1")
        sock = host.wire.client.connect("198.18.0.2", SERVER4, 25)
        peer, _ = host.wire.listeners[INSIDE4, 2525].accept()
        peer.close()
        sock.close()
    finally:
        nft("delete", "table", "ip", "containers")


def test_what_is_not_tcp_is_left_alone(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1")])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SERVER4, 25))
        server.settimeout(DEADMAN)
        with host.wire.client.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            client.bind(("198.18.0.1", 0))
            client.sendto(b"hello", (SERVER4, 25))
        assert server.recv(100) == b"hello"
    assert host.backend.dropped() == 0


# Another program's hands


def test_a_flushed_firewall_is_reported_and_put_back(host: Host) -> None:
    entries = [ban("198.18.0.1"), ban("198.18.16.0/20")]
    host.backend.apply(entries)
    nft("flush", "ruleset")
    assert host.backend.lookup(entries) == []
    with pytest.raises(
        BackendError, match="the table inet throttled or a set in it is missing"
    ) as caught:
        host.backend.apply(entries)
    assert caught.value.hint
    host.backend.setup(RULESET)
    host.backend.apply(entries)
    assert not host.arrives("198.18.0.1")
    assert not host.arrives("198.18.16.1")


def test_a_table_that_is_gone_is_not_made_for_a_network_of_a_new_length(host: Host) -> None:
    nft("flush", "ruleset")
    with pytest.raises(BackendError):
        host.backend.apply([ban("198.18.16.0/20")])
    assert nft("list", "ruleset") == ""


@pytest.mark.parametrize(
    "damage",
    [
        "flush table inet throttled",
        "flush chain inet throttled mx; delete set inet throttled mx_ban4",
        "flush chain inet throttled prerouting; delete chain inet throttled prerouting",
        "insert rule inet throttled prerouting accept",
        "insert rule inet throttled mx accept",
        "flush set inet throttled mx_ban4",
    ],
)
def test_whatever_another_program_did_to_our_table_is_repaired(host: Host, damage: str) -> None:
    host.backend.apply([ban("198.18.0.1")])
    nft("-f", "-", stdin=damage.replace("; ", "\n"))
    host.backend.setup(RULESET)
    host.backend.apply([ban("198.18.0.1")])
    assert not host.arrives("198.18.0.1")


def test_large_sets_of_others_do_not_slow_a_ban_down(host: Host) -> None:
    def least(first: int) -> float:
        elapsed = []
        for number in range(50):
            start = time.perf_counter()
            host.backend.apply([ban(f"198.18.{first}.{number}")])
            elapsed.append(time.perf_counter() - start)
        return min(elapsed)  # the least: this machine may be busy

    alone = least(1)
    networks = ", ".join(f"10.{n >> 8}.{n & 255}.0/24" for n in range(0, 20_000, 2))
    nft(
        *("-f", "-"),
        stdin="add table inet countries\n"
        "add set inet countries xx { type ipv4_addr; flags interval; }\n"
        f"add element inet countries xx {{ {networks} }}\n",
    )
    try:
        assert least(2) < 10 * alone  # through libnftables it was 100 times
    finally:
        nft("delete", "table", "inet", "countries")


# Transactions


def test_a_batch_is_one_transaction(host: Host, transactions: Transactions) -> None:
    actions: tuple[Action, ...] = ("ban", "throttle")
    subjects = [f"198.18.{n >> 8}.{n & 255}" for n in range(300)]
    transactions.count()
    host.backend.apply([ban(subject, action=action) for subject in subjects for action in actions])
    assert transactions.count() == 1
    assert len(list(host.backend.dump())) == 600


def test_a_very_large_batch_is_several(
    host: Host, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 10)
    transactions.count()
    host.backend.apply([ban(f"198.18.0.{n}") for n in range(25)])
    assert transactions.count() == 3


def test_setting_up_is_one_transaction(host: Host, transactions: Transactions) -> None:
    host.backend.apply([ban("198.18.0.1"), ban("198.18.1.0/24", action="throttle")])
    transactions.count()
    host.backend.setup(msgspec.structs.replace(RULESET, size=5000, burst=9, protected=()))
    assert transactions.count() == 1
    assert len(list(host.backend.dump())) == 2


def test_a_set_that_is_too_large_keeps_its_size(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REMADE", 5)
    host.backend.apply([ban(f"198.18.0.{n}") for n in range(6)])
    host.backend.apply([ban(f"198.18.0.{n}", action="throttle") for n in range(5)])
    with caplog.at_level(logging.WARNING):
        host.backend.setup(msgspec.structs.replace(RULESET, size=7))
    assert [record.message for record in caplog.records] == [
        "mx_ban4 has too many elements to be replaced: its definition is unchanged"
    ]
    assert len(list(host.backend.dump())) == 11
    assert not host.backend.apply([ban(f"198.18.1.{n}") for n in range(9)]).full
    assert host.backend.apply([ban(f"198.18.1.{n}", action="throttle") for n in range(9)]).full


@pytest.mark.parametrize("renews", [True, False])
def test_where_adding_does_not_renew_an_element_is_made_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch, *, renews: bool
) -> None:
    if renews and not elements._RENEWS:
        pytest.skip("Linux renews since 6.12")
    # As before Linux 6.12: a new element has counted nothing.
    monkeypatch.setattr(elements, "_RENEWS", renews)
    host.backend.apply([ban("198.18.0.1")])
    assert not host.arrives("198.18.0.1")
    host.backend.apply([ban("198.18.0.1", 600.0)])
    (element,) = host.backend.lookup([ban("198.18.0.1")])
    assert element.seconds > 599.0
    assert element.packets == (1 if renews else 0)


def test_a_set_cannot_become_smaller_than_what_it_holds(host: Host) -> None:
    host.backend.apply([ban(f"198.18.0.{n}") for n in range(6)])
    host.backend.setup(msgspec.structs.replace(RULESET, size=5))
    assert len(list(host.backend.dump())) == 6
    host.backend.apply([ban("198.18.0.1", 0.0)])
    host.backend.setup(msgspec.structs.replace(RULESET, size=5))
    assert len(list(host.backend.dump())) == 5
    assert host.backend.apply([ban("198.18.0.1")]).full


def test_an_element_in_its_last_moment_is_not_kept_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a dump in the last millisecond, which cannot be met on purpose.
    last = Element("198.18.0.1", "mx", "ban", 0.0004)
    monkeypatch.setattr(
        elements.TableElements, "dump", lambda _self, of: [last] if of.name == "mx_ban4" else []
    )
    host.backend.setup(msgspec.structs.replace(RULESET, size=5))
    until(lambda: not host.backend.lookup([ban("198.18.0.1")]), "it ended")


def test_after_a_refusal_the_next_request_is_answered(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a receive buffer that ran over in the middle of the answers.
    def lost(*_: object) -> Iterator[Message]:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    entries = [ban(f"198.18.0.{n}") for n in range(10)]
    with monkeypatch.context() as patched:
        patched.setattr(Netlink, "_answers", lost)
        with pytest.raises(BackendError, match="No buffer space"):
            host.backend.lookup(entries)
    assert host.backend.lookup(entries) == []
    assert host.backend.apply(entries).failed == ()
    assert len(host.backend.lookup(entries)) == 10


def test_what_the_kernel_refuses_is_found_among_many(host: Host) -> None:
    too_long = 1e15  # more than the kernel can count
    wrong = {7, 500, 501, 998}
    batch = [
        ban(f"198.18.{n >> 8}.{n & 255}", too_long if n in wrong else 60.0) for n in range(999)
    ]
    applied = host.backend.apply([*batch, ban("2001:db8::1")])
    assert [entry for entry, _why in applied.failed] == [batch[n] for n in sorted(wrong)]
    assert {why for _entry, why in applied.failed} == {os.strerror(34)}
    assert not applied.full
    assert len(list(host.backend.dump())) == 1000 - len(wrong)


# Check


def test_check_changes_nothing(transactions: Transactions) -> None:
    with namespace("check") as place, place.entered():
        inside = Transactions()
        assert [finding.state for finding in Nftables().check()] == ["ok"]
        assert inside.count() == 0
        inside.socket.close()
        assert nft("list", "ruleset") == ""
    assert transactions.count() == 0


def test_check_without_the_right() -> None:
    code = "from throttled.enforce.registry import choose; print(choose('auto').check())"
    done = without(["net_admin"], code)
    assert "state='fault'" in done.stdout
    assert "Operation not permitted" in done.stdout
    assert "--mode observe" in done.stdout
    assert done.stderr == ""


def test_check_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libnftables, "_LIBRARY", "libnftables-that-is-absent.so.1")
    (finding,) = Nftables().check()
    assert finding.state == "fault"
    assert "libnftables-that-is-absent.so.1" in finding.what
    assert "install libnftables1" in finding.hint


def test_check_with_rules_that_this_kernel_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for an older kernel, which cannot be had here.
    monkeypatch.setattr(ruleset, "_DROP", "no-such-statement drop")
    (finding,) = Nftables().check()
    assert finding.state == "fault"
    assert "syntax error" in finding.what
    assert "Linux 5.11" in finding.hint


# The ways to the kernel


def test_without_descriptors_it_is_reported_and_the_process_goes_on() -> None:
    """libnftables ends the process where it gets no socket, for a context and for interfaces."""
    code = """if True:
        import os, resource
        from throttled.enforce.registry import choose
        from throttled.errors import BackendError
        from throttled.enforce.backend import Ruleset
        from throttled.model import Entry
        rules = Ruleset({"mx": (25,)}, (), rate=1, per=60.0, burst=3, size=1000)
        ban = Entry("198.18.0.1", "mx", "ban", 600.0)
        backend = choose("nftables")
        backend.setup(rules)
        backend.apply([ban])
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1,) * 2)
        for call in (lambda: backend.setup(rules), choose("nftables").teardown, backend.check):
            try:
                print(call())
            except BackendError as error:
                print(error.message)
        print(len(backend.lookup([ban])), "alive")
    """
    with namespace("descriptors") as place, place.entered():
        done = subprocess.run(
            (sys.executable, "-c", code), capture_output=True, text=True, check=False
        )
    assert "Too many open files" in done.stdout, done
    assert done.stdout.endswith("1 alive\n"), done


def test_libnftables_says_what_is_wrong_and_goes_on() -> None:
    with namespace("text") as place, place.entered():
        library = Libnftables()
        with pytest.raises(BackendError, match=r"nftables: .*: No such file or directory"):
            library.run("delete table inet absent")
        with pytest.raises(BackendError, match="syntax error"):
            library.run("ad table inet t")
        assert library.run("add table inet t; list tables") == "table inet t\n"
        assert library.run("delete table inet t", trial=True) == ""
        assert library.run("list tables") == "table inet t\n"


def test_a_dump_that_is_left_early_leaves_nothing_open(host: Host) -> None:
    host.backend.apply([ban(f"198.18.{n >> 8}.{n & 255}") for n in range(900)])
    gc.collect()  # what earlier tests left open
    before = len(list(Path("/proc/self/fd").iterdir()))
    dump = host.backend.dump()
    next(dump)
    del dump
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_dump_and_a_batch_at_the_same_time(host: Host) -> None:
    host.backend.apply([ban(f"198.18.{n >> 8}.{n & 255}") for n in range(900)])
    dump = host.backend.dump()
    found = {next(dump).subject for _ in range(10)}
    assert not host.backend.apply([ban("198.18.9.9")]).failed
    found |= {element.subject for element in dump}
    assert len(found) >= 900


def test_a_dump_of_what_is_not_there() -> None:
    question = messages.dump_elements("throttled", "mx_ban4")
    with (
        namespace("dump") as place,
        place.entered(),
        netfilter() as socket,
        pytest.raises(FileNotFoundError),
    ):
        list(socket.dump(question))


def test_a_refusal_of_the_whole(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for ENOMEM, with which the kernel answers the beginning of a batch.
    refusal = netlink.message(netlink.ERROR, 0, struct.pack("=i", -errno.ENOMEM))
    monkeypatch.setattr(Netlink, "ask", lambda *_: netlink.messages(refusal))
    with pytest.raises(BackendError, match="the kernel refused: Cannot allocate memory"):
        host.backend.apply([ban("198.18.0.1")])
