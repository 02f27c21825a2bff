"""What is the XDP backend's own, on a real kernel."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from lab.daemon import guarded
from lab.daemon.guarded import RULESET, Host, Wire
from lab.machine.bpffs import bpffs
from lab.machine.limits import no_descriptors
from lab.network.netns import CLIENT4, SERVER4, namespace, unique, until, without
from throttled.bpf import bindings, libbpf
from throttled.bpf.libbpf import OBJECTS, XDP_GENERIC, Link, Map, Object
from throttled.enforce.xdp import layout, sets
from throttled.enforce.xdp.backend import Xdp
from throttled.enforce.xdp.interfaces import Interface, interfaces
from throttled.enforce.xdp.layout import ELEMENT, Slot
from throttled.errors import BackendError
from throttled.host.addresses import AddressWatch
from throttled.model import Action, Entry, Rate

pytestmark = pytest.mark.root

_XDP_FLAGS_SKB = 2


def ban(subject: str, seconds: float = 60.0, action: Action = "ban") -> Entry:
    return Entry(subject, "mx", action, seconds)


def at(name: str) -> Interface:
    """Return an interface of this namespace."""
    (found,) = [each for each in interfaces() if each.name == name]
    return found


def ip(command: str) -> None:
    subprocess.run(("ip", *command.split()), check=True, capture_output=True)


@pytest.fixture(scope="module")
def mounted() -> Iterator[Path]:
    with bpffs() as made:
        yield made


@pytest.fixture
def pins(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = mounted / unique("xdp")
    monkeypatch.setattr("throttled.enforce.xdp.backend.PINS", made)
    return made


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with guarded.wire() as made:
        yield made


@pytest.fixture
def host(wire: Wire, pins: Path) -> Iterator[Host]:
    assert pins
    with guarded.guarded("xdp", wire) as made:
        yield made


@pytest.fixture
def backend(pins: Path) -> Iterator[Xdp]:
    """A backend in a namespace without any interface, set up."""
    with namespace("xdp") as place, place.entered():
        made = Xdp(pins=pins)
        made.setup(RULESET)
        yield made
        made.teardown()


# What outlives a daemon


def test_the_pins_are_what_the_documentation_says(host: Host, pins: Path) -> None:
    host.backend.apply([ban("198.18.0.1"), ban("2001:db8:b::/64", action="throttle")])
    home = pins / f"v{layout.LAYOUT}"
    names = {path.name for path in home.iterdir()}
    assert {"settings", "dropped", "sets4", "mx_ban4", "mx_throttle6_networks"} <= names
    assert f"link_{at('eth0').number}" in names
    assert home.stat().st_mode & 0o077 == 0


def test_protection_outlives_whoever_made_it(host: Host) -> None:
    host.backend.apply([ban("198.18.0.1")])
    host.backend.__dict__.update(vars(Xdp()))  # all that it had loaded is closed
    assert not host.arrives("198.18.0.1")
    assert at("eth0").attached


def test_a_restart_puts_the_new_program_in_place_of_the_old(host: Host) -> None:
    """In one step: the number changes, and the interface is never without."""
    host.backend.apply([ban("198.18.0.1")])
    before, stop, bare = at("eth0").attached, threading.Event(), []

    def look() -> None:
        with host.wire.server.entered():
            while not stop.is_set():
                bare.append(at("eth0").attached == 0)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        until(lambda: bare, "it is looked at")
        assert Xdp().setup(RULESET)
    finally:
        stop.set()
        thread.join()
    assert at("eth0").attached not in (0, before)
    assert not any(bare)
    assert not host.arrives("198.18.0.1")


def test_setting_up_again_is_no_news_to_the_host(host: Host) -> None:
    """Else the daemon, which sets up at every change of the host, would go round and round."""
    watch = AddressWatch()
    host.backend.setup(RULESET)
    host.backend.setup(msgspec.structs.replace(RULESET, size=500))
    assert not watch.drain()
    watch.close()


def test_teardown_leaves_nothing(host: Host, pins: Path) -> None:
    host.backend.apply([ban("198.18.0.1"), ban("198.18.1.0/24")])
    host.backend.teardown()
    assert not pins.exists()
    assert not at("eth0").attached


# What another layout left


def older_layout(pins: Path) -> None:
    """Make of what is active what a version might have left whose elements were shorter."""
    home, older = pins / f"v{layout.LAYOUT}", pins / "v0"
    for name in ("mx_ban4", "mx_ban4_networks"):
        pinned = Map.pinned(home / name)
        keys, values, count, _cursor = pinned.read()
        short = Map.hash(name, pinned.key_size, 16, 100)
        parts = [values[n * ELEMENT.size :][:16] for n in range(count)]
        assert short.update_batch(keys, b"".join(parts), count) == (count, 0)
        (home / name).unlink()
        short.pin(home / name)
    home.rename(older)


def test_what_another_layout_holds_goes_on(host: Host, pins: Path) -> None:
    entries = [ban("198.18.0.1", 600.0), ban("198.18.16.0/20", 600.0)]
    host.backend.apply(entries)
    assert not host.arrives("198.18.0.1")
    older_layout(pins)
    fresh = Xdp()
    assert fresh.setup(RULESET)
    assert [path.name for path in pins.iterdir()] == [f"v{layout.LAYOUT}"]
    assert {(element.subject, element.packets) for element in fresh.lookup(entries)} == {
        ("198.18.0.1", 1),
        ("198.18.16.0/20", 0),
    }
    assert not host.arrives("198.18.0.1")
    assert not host.arrives("198.18.31.7")
    assert host.arrives("198.18.32.7")


@pytest.mark.usefixtures("backend")
def test_maps_that_do_not_fit_are_said(pins: Path) -> None:
    pin = pins / f"v{layout.LAYOUT}" / "settings"
    pin.unlink()
    Map.hash("settings", 8, 8, 10).pin(pin)
    with pytest.raises(BackendError, match=r"xdp\.o|refused") as caught:
        Xdp(pins=pins).setup(RULESET)
    assert caught.value.hint


# Another program's program


def other_program(number: int, flags: int = XDP_GENERIC) -> tuple[Link, Object]:
    made = Object(OBJECTS / "xdp.o")
    made.load()
    return made.program("internet").attach(number, libbpf.ATTACH_XDP, flags), made


def test_an_xdp_program_of_another_program_stays(
    wire: Wire, pins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with wire.server.entered():
        link, _object = other_program(at("eth0").number)
        before = at("eth0")
        made = Xdp(pins=pins)
        (finding,) = made.check()
        assert finding.state == "warning"
        for _ in range(2):
            made.setup(RULESET)
        assert at("eth0") == before
        assert at("in0").attached
        made.teardown()
        assert at("eth0") == before
        (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        for text in (finding.what, said):
            assert "eth0 has another XDP program (internet, id" in text
        del link


def test_one_by_ip_link_too(wire: Wire, pins: Path, tmp_path: Path) -> None:
    """As `ip link set … xdp obj` attaches it: without a link of BPF's own."""
    assert tmp_path
    with wire.server.entered():
        link, made = other_program(at("eth0").number)
        del link
        assert not at("eth0").attached
        program = made.program("internet")
        assert not bindings.library().bpf_xdp_attach(
            at("eth0").number, program.fd, _XDP_FLAGS_SKB, None
        )
        try:
            backend = Xdp(pins=pins)
            backend.setup(RULESET)
            assert program.name == "internet"
            assert at("eth0").attached
            backend.teardown()
            assert at("eth0").attached
        finally:
            ip("link set eth0 xdpgeneric off")


def test_where_others_are_everywhere_it_does_not_start(pins: Path) -> None:
    with namespace("other") as place, place.entered():
        ip("link add a0 type veth peer b0 address 02:00:00:00:00:09")
        others = [other_program(at(name).number) for name in ("a0", "b0")]
        made = Xdp(pins=pins)
        assert [finding.state for finding in made.check()] == ["fault", "fault"]
        with pytest.raises(BackendError, match="has another XDP program") as caught:
            made.setup(RULESET)
        assert "nftables" in caught.value.hint
        assert others
        made.teardown()


def test_ours_is_not_displaced_either(host: Host) -> None:
    done = subprocess.run(
        ("ip", "link", "set", "eth0", "xdpgeneric", "off"), capture_output=True, check=False
    )
    assert done.returncode
    assert at("eth0").attached
    with pytest.raises(OSError, match="busy"):
        other_program(at("eth0").number)
    assert host.backend.dropped() == 0


# Interfaces


def test_interfaces_that_come_and_go(host: Host, pins: Path) -> None:
    ip("link add late0 type veth peer late1")
    host.backend.setup(RULESET)
    late = at("late0")
    assert late.attached
    links = len(list(pins.glob("v*/link_*")))
    ip("link delete late0")
    host.backend.setup(RULESET)
    assert len(list(pins.glob("v*/link_*"))) == links - 2
    assert host.arrives("198.18.0.1")


def test_a_number_that_another_interface_has_now(host: Host, pins: Path) -> None:
    ip("link add late0 index 77 type veth peer late1")
    host.backend.setup(RULESET)
    ip("link delete late0")
    ip("link add later0 index 77 type veth peer later1")
    assert not at("later0").attached
    assert (pins / f"v{layout.LAYOUT}" / "link_77").exists()
    host.backend.setup(RULESET)
    assert at("later0").attached
    ip("link delete later0")


def test_what_stands_on_others_is_left_out(backend: Xdp) -> None:
    for command in (
        "link add eth0 type veth peer eth1",
        "link add bridge0 type bridge",
        "link set eth1 master bridge0",
        "tuntap add tun0 mode tun",
        "tuntap add tap0 mode tap",
    ):
        ip(command)
    backend.setup(RULESET)
    attached = {each.name: each.program for each in interfaces() if each.attached}
    assert attached == {
        "eth0": "ethernet",
        "eth1": "ethernet",
        "tap0": "ethernet",
        "tun0": "internet",
    }


def test_what_stands_on_one_in_another_namespace_is_guarded(pins: Path) -> None:
    """As a container may have its only interface. Of these kinds only macvlan is to be had here."""
    with namespace("outside") as outside, namespace("inside") as inside:
        for command in (
            "link add eth0 type veth peer eth1",
            "address add 198.51.100.2/24 dev eth1",
            "link add link eth0 name up0 type macvlan mode bridge",
            f"link set up0 netns {inside.name}",
            "link set eth0 up",
            "link set eth1 up",
        ):
            outside.run("ip", *command.split())
        inside.run(*["ip", "address", "add", "198.51.100.1/24", "dev", "up0"])
        inside.run(*["ip", "link", "set", "up0", "up"])
        with inside.entered(), inside.listen("198.51.100.1", 25):
            backend = Xdp(pins=pins)
            backend.setup(msgspec.structs.replace(RULESET, protected=()))
            outside.connect("198.51.100.2", "198.51.100.1", 25).close()
            backend.apply([ban("198.51.100.2")])
            with pytest.raises(TimeoutError):
                outside.connect("198.51.100.2", "198.51.100.1", 25, 0.3)
            assert backend.dropped()
            backend.teardown()


def test_an_address_that_comes_is_guarded(host: Host) -> None:
    other = "198.51.100.77"
    host.backend.apply([ban("198.18.0.1")])
    server = host.wire.server
    with (
        server.added("address", f"{other}/24", "dev", "eth0"),
        server.listen(other, 25) as listener,
    ):
        host.wire.client.connect("198.18.0.1", other, 25).close()
        listener.accept()[0].close()
        host.backend.setup(RULESET)
        with pytest.raises(TimeoutError):
            host.wire.client.connect("198.18.0.1", other, 25, 0.3)


def test_a_network_that_is_routed_to_the_host_is_guarded(host: Host) -> None:
    """AnyIP: a local route, and no address."""
    host.backend.apply([ban("198.18.0.1")])
    server, client = host.wire.server, host.wire.client
    with (
        server.added("route", "local", "203.0.113.64/28", "dev", "lo"),
        client.added("route", "203.0.113.64/28", "via", SERVER4),
        server.listen("203.0.113.70", 25),
    ):
        host.backend.setup(RULESET)
        with pytest.raises(TimeoutError):
            client.connect("198.18.0.1", "203.0.113.70", 25, 0.3)


# Generic and native


def test_native_only_when_asked(host: Host) -> None:
    assert at("eth0").mode == "generic"
    host.backend.apply([ban("198.18.0.1")])
    native = Xdp("native")
    native.setup(RULESET)
    assert at("eth0").mode == "native"
    assert not host.arrives("198.18.0.1")
    assert host.arrives("198.18.0.2")
    Xdp().setup(RULESET)
    assert at("eth0").mode == "generic"
    assert not host.arrives("198.18.0.1")


def test_native_where_the_driver_does_not_take_it(
    pins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with namespace("native") as place, place.entered():
        ip("link add ifb9 type ifb")
        made = Xdp("native", pins)
        made.setup(RULESET)
        assert at("ifb9").mode == "generic"
        assert "the driver of ifb9 does not support XDP" in caplog.text
        caplog.clear()
        made.setup(RULESET)
        assert not caplog.text
        made.teardown()


# Sets


def test_a_set_grows_with_what_is_in_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "_FIRST", 64)
    host.backend.setup(msgspec.structs.replace(RULESET, size=2000))
    host.backend.apply([ban("198.18.0.1"), ban("198.18.1.0/24", action="throttle")])
    assert not host.arrives("198.18.0.1")
    many = [ban(f"198.18.{n >> 8}.{n & 255}", 500.0) for n in range(1000, 2500)]
    assert not host.backend.apply(many).failed
    assert len(host.backend.lookup(many)) == 1500
    (first,) = host.backend.lookup([ban("198.18.0.1")])
    assert first.packets == 1
    assert not host.arrives("198.18.0.1")
    assert not host.arrives("198.18.4.4")
    applied = host.backend.apply([ban(f"198.19.{n >> 8}.{n & 255}") for n in range(600)])
    assert applied.full
    assert len(applied.failed) == 101
    assert len(list(host.backend.dump())) == 2001


def test_a_set_for_many_that_are_expected_has_room(backend: Xdp, pins: Path) -> None:
    backend.setup(msgspec.structs.replace(RULESET, size=2_000_000, expected=1_000_000))
    backend.apply([ban("198.18.0.1")])
    assert Map.pinned(pins / f"v{layout.LAYOUT}" / "mx_ban4").max_entries == 1_250_000
    backend.apply([ban("2001:db8::/32")])
    backend.setup(RULESET)
    backend.apply([ban("2001:db8::1")])
    assert Map.pinned(pins / f"v{layout.LAYOUT}" / "mx_ban4").max_entries == RULESET.size


def test_what_has_expired_makes_room(backend: Xdp) -> None:
    backend.setup(msgspec.structs.replace(RULESET, size=100))
    backend.apply([ban(f"198.18.0.{n}", 0.2) for n in range(100)])
    until(lambda: not list(backend.dump()), "they ended")
    assert backend.apply([ban(f"198.18.1.{n}") for n in range(100)]).failed == ()


def test_what_has_expired_is_collected_piece_by_piece(
    backend: Xdp, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "_COLLECT", 0.0)
    backend.setup(msgspec.structs.replace(RULESET, size=100_000))
    many = [
        *(ban(f"198.18.{n >> 8}.{n & 255}", 0.3 if n % 2 else 60.0) for n in range(20_000)),
        *(ban(f"2001:db8:b:{n:x}::/64", 0.3) for n in range(2000)),
    ]
    assert not backend.apply(many).failed
    until(lambda: len(list(backend.dump())) == 10_000, "the others ended")
    home = pins / f"v{layout.LAYOUT}"

    def count() -> int:
        names = ("mx_ban4", "mx_ban6_networks")
        return sum(len(list(Map.pinned(home / name).keys())) for name in names)

    assert count() == 22_000
    left = [22_000]
    while left[-1] > 10_000 and len(left) < 1000:
        backend.collect()
        left.append(count())
    # Some at a time: it does not hold anybody up. And no set keeps another from its turn.
    assert max(before - after for before, after in pairwise(left)) < 5000
    assert left[-1] == 10_000
    assert len(list(backend.dump())) == 10_000


def test_a_smaller_size_keeps_what_does_not_fit(
    backend: Xdp, caplog: pytest.LogCaptureFixture
) -> None:
    many = [ban(f"198.18.0.{n}") for n in range(200)]
    backend.apply([*many, ban("2001:db8::1")])
    backend.setup(msgspec.structs.replace(RULESET, size=100))
    assert len(list(backend.dump())) == 201
    assert "mx_ban4 has more elements than firewall.size" in caplog.text
    assert "mx_ban6" not in caplog.text


def test_a_set_that_the_program_lost_is_given_back(host: Host, pins: Path) -> None:
    """As after a kill between the two steps of growing: the pin is new, the slot is not."""
    host.backend.apply([ban("198.18.0.1")])
    of = Slot("mx", "ban", 4, networks=False)
    Map.pinned(pins / f"v{layout.LAYOUT}" / "sets4").delete(of.number.to_bytes(4, sys.byteorder))
    assert host.arrives("198.18.0.1")
    host.backend.setup(RULESET)
    assert not host.arrives("198.18.0.1")


def test_a_dump_and_a_batch_at_the_same_time(backend: Xdp) -> None:
    backend.setup(msgspec.structs.replace(RULESET, size=20_000))
    backend.apply([ban(f"198.18.{n >> 8}.{n & 255}") for n in range(9000)])
    dump = backend.dump()
    found = {next(dump).subject for _ in range(10)}
    assert not backend.apply([ban("198.19.9.9"), ban("198.18.0.1", 0.0)]).failed
    found |= {element.subject for element in dump}
    assert len(found) >= 8999


def test_a_renewal_keeps_counters_and_allowance(host: Host) -> None:
    slow = ban("198.18.0.1", action="throttle")
    host.backend.apply([slow])
    assert [host.arrives("198.18.0.1") for _ in range(5)] == [True] * 3 + [False] * 2
    host.backend.apply([slow])
    assert not host.arrives("198.18.0.1")
    assert [element.packets for element in host.backend.lookup([slow])] == [3]


@pytest.mark.parametrize("rate", [Rate(1, 3600.0, 24), Rate(7, 3600.0, 2), Rate(1, 86400.0, 1)])
def test_the_program_keeps_a_rate_exactly(host: Host, pins: Path, rate: Rate) -> None:
    slow = Entry("198.18.0.1", "mx", "throttle", 60.0, rate)
    of, key = layout.place(slow)
    host.backend.apply([slow])
    began = sets.clock()
    for count in range(1, rate.burst + 1):
        assert host.arrives("198.18.0.1")
        value = Map.pinned(pins / f"v{layout.LAYOUT}" / of.name).lookup(key)
        due = ELEMENT.unpack(value or b"")[2]
        exact = began + count * rate.per * 1_000_000_000 / rate.count
        assert 0 <= due - exact + count < 10_000_000_000  # since the first connection
    assert not host.arrives("198.18.0.1")


def test_a_ban_after_a_ban_begins_at_nothing(host: Host) -> None:
    entry = ban("198.18.0.1", 0.3)
    host.backend.apply([entry])
    assert not host.arrives("198.18.0.1")
    until(lambda: not host.backend.lookup([entry]), "it ended")
    host.backend.apply([ban("198.18.0.1")])
    assert [element.packets for element in host.backend.lookup([entry])] == [0]


# Foreign hands


def test_pins_that_were_removed_are_noticed_and_put_back(host: Host, pins: Path) -> None:
    host.backend.apply([ban("198.18.0.1")])
    subprocess.run(("rm", "-r", str(pins)), check=True)
    for what in (host.backend.collect, lambda: host.backend.apply([ban("198.18.0.2")])):
        with pytest.raises(BackendError, match="are missing") as caught:
            what()
        assert caught.value.hint
    assert not host.backend.setup(RULESET)
    host.backend.apply([ban("198.18.0.1")])
    assert not host.arrives("198.18.0.1")


def test_pins_that_cannot_be_made_again_are_reported(mounted: Path, tmp_path: Path) -> None:
    """A directory that was removed while it is mounted, as by a drop-in of an earlier version."""
    there = mounted / unique("xdp")
    there.mkdir()
    subprocess.run(("mount", "--bind", str(there), str(tmp_path)), check=True)
    try:
        with namespace("xdp") as place, place.entered():
            made = Xdp(pins=tmp_path)
            made.setup(RULESET)
            subprocess.run(("rm", "-r", str(there)), check=True)
            assert not made.intact()
            with pytest.raises(BackendError, match="cannot be made") as caught:
                made.setup(RULESET)
            assert "systemctl restart throttled" in caught.value.hint
    finally:
        subprocess.run(("umount", str(tmp_path)), check=True)


def test_a_link_that_was_removed_is_noticed_and_put_back(host: Host, pins: Path) -> None:
    host.backend.apply([ban("198.18.0.1")])
    (pins / f"v{layout.LAYOUT}" / f"link_{at('eth0').number}").unlink()
    until(lambda: not at("eth0").attached, "the program is gone")
    assert not host.backend.intact()
    with pytest.raises(BackendError):
        host.backend.collect()
    host.backend.setup(RULESET)
    assert host.backend.intact()
    assert not host.arrives("198.18.0.1")


def test_a_program_that_was_detached_is_noticed_and_put_back(host: Host, pins: Path) -> None:
    host.backend.apply([ban("198.18.0.1")])
    Link.pinned(pins / f"v{layout.LAYOUT}" / f"link_{at('eth0').number}").detach()
    assert host.arrives("198.18.0.1")
    with pytest.raises(BackendError, match="was detached"):
        host.backend.collect()
    host.backend.setup(RULESET)
    host.backend.collect()
    assert not host.arrives("198.18.0.1")


# Check


def test_check_changes_nothing(wire: Wire, pins: Path) -> None:
    with wire.server.entered():
        assert [finding.state for finding in Xdp(pins=pins).check()] == ["ok"]
        assert not at("eth0").attached
        assert not pins.exists()


def test_check_where_our_own_program_is(host: Host) -> None:
    assert [finding.state for finding in host.backend.check()] == ["ok"]


def test_check_without_a_file_system(tmp_path: Path) -> None:
    made = Xdp(pins=tmp_path / "throttled")
    (finding,) = made.check()
    assert finding.state == "fault"
    assert finding.hint == f"mount -t bpf bpf {tmp_path}"
    with pytest.raises(BackendError, match="no BPF file system"):
        made.setup(RULESET)
    assert not (tmp_path / "throttled").exists()


def test_check_without_descriptors(tmp_path: Path) -> None:
    with no_descriptors():
        (finding,) = Xdp(pins=tmp_path / "throttled").check()
    assert (finding.state, "Too many open files" in finding.what) == ("fault", True)


def test_check_without_the_right(mounted: Path) -> None:
    code = (
        "from pathlib import Path; from throttled.enforce.xdp.backend import Xdp;"
        f"print(Xdp(pins=Path('{mounted}/throttled')).check())"
    )
    done = without(["bpf", "net_admin", "sys_admin"], code)
    assert "state='fault'" in done.stdout
    assert "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN" in done.stdout


def test_it_needs_no_more_than_three_capabilities(wire: Wire, mounted: Path) -> None:
    code = (
        "from pathlib import Path; from throttled.enforce.xdp.backend import Xdp;"
        "from throttled.enforce.backend import Ruleset; from throttled.model import Entry;"
        "rules = Ruleset({'mx': (25,)}, (), 1, 60.0, 3, 1000);"
        f"b = Xdp(pins=Path('{mounted}/rights')); b.setup(rules);"
        "e = Entry('198.18.0.1', 'mx', 'ban', 60.0);"
        "print(b.apply([e]), b.lookup([e]), b.check()); b.setup(rules); b.collect(); b.teardown()"
    )
    kept = "--bounding-set=-all,+bpf,+perfmon,+net_admin"
    done = wire.server.run("setpriv", kept, sys.executable, "-c", code, check=False)
    assert done.stderr == ""
    assert "failed=()" in done.stdout
    assert "state='ok'" in done.stdout


def test_protected_even_if_asked_to(host: Host) -> None:
    """`decide` never asks for this; the program would not do it either."""
    host.backend.apply([ban("0.0.0.0/0")])
    assert host.arrives(CLIENT4)
    assert not host.arrives("198.18.0.1")


def test_how_full_each_set_is(backend: Xdp, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.setup(msgspec.structs.replace(RULESET, size=300_000))
    backend.apply([ban(f"198.18.{n >> 8}.{n & 255}") for n in range(5000)])
    backend.apply([ban(f"2001:db8:b:{n:x}::/64", action="throttle") for n in range(77)])
    found = {(fill.name, fill.used, fill.size) for fill in backend.fill()}
    if not found:
        pytest.skip("Linux says what a map takes since 6.3")
    assert found == {("mx_ban4", 5000, 300_000), ("mx_throttle6_networks", 77, 300_000)}
    # As before Linux 6.3, where it does not change with what is in a map.
    monkeypatch.setattr(Map, "memory", lambda _: 4096)
    sets._scale.cache_clear()
    assert backend.fill() == []
    sets._scale.cache_clear()
