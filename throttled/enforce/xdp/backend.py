"""The XDP backend: drops before the kernel's network stack has seen the packet.

A program at each interface, pinned with its maps below /sys/fs/bpf/throttled: it continues to
filter when the daemon ends, and the next daemon adopts it. State is the kernel's; kept here are the
loaded programs, and which interfaces have one and which have another program's.

Limits. A new interface is not guarded before `setup` is called again. Of tunnels only PPP, tun and
WireGuard are guarded. A host's own packets over the loopback are never judged: no program is
there. Needs Linux 5.18 (programs that take packets in several pieces) and a bpffs.
"""

import errno
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from throttled.bpf.bindings import RIGHTS
from throttled.bpf.libbpf import (
    ATTACH_XDP,
    OBJECTS,
    XDP_GENERIC,
    XDP_NATIVE,
    Link,
    Map,
    Object,
    Program,
)
from throttled.enforce.backend import Applied, Fill, Ruleset
from throttled.enforce.xdp import interfaces, layout
from throttled.enforce.xdp.interfaces import Interface
from throttled.enforce.xdp.layout import EVERY, LAYOUT, Settings
from throttled.enforce.xdp.sets import Sets
from throttled.errors import BackendError
from throttled.linux.mounts import kind_at
from throttled.model import Element, Entry, Finding

log = logging.getLogger(__name__)

#: Where the maps and links are pinned, in a directory for each layout.
PINS = Path("/sys/fs/bpf/throttled")

_PROGRAMS = ("ethernet", "internet")
_MAPS = (
    *("settings", "lengths", "dropped", "sets4", "sets6"),
    *("protected4", "protected6", "own4", "own6"),
)
_LINK = "link_"
_ZERO = bytes(4)
_FLAGS = {"generic": XDP_GENERIC, "native": XDP_NATIVE}

Mode = Literal["generic", "native"]


class Xdp:
    """Throttles and bans in a program of our own at each interface."""

    name = "xdp"
    enforces, at_interfaces, refuses = True, True, False

    def __init__(self, mode: Mode = "generic", pins: Path | None = None) -> None:
        """Make a backend that has not touched anything.

        Args:
            mode: "native" asks the driver, where it can; some network cards are reset by that.
            pins: a directory in another bpffs.
        """
        self._mode = mode
        self._pins = pins or PINS
        self._home = self._pins / f"v{LAYOUT}"
        self._sets = Sets(self._home)
        self._programs: Mapping[str, Program] = {}
        self._occupied: frozenset[str] = frozenset()
        self._guarded: Sequence[int] = ()  # numbers of interfaces

    def check(self) -> list[Finding]:
        """Let the kernel verify the program, and list the programs at the interfaces."""
        try:
            if kind_at(self._pins) != "bpf":
                raise _unmounted(self._pins.parent)
            Object(OBJECTS / "xdp.o").load()
            found = interfaces.interfaces()
        except BackendError as error:
            return [Finding("fault", error.message, error.hint)]
        ours = {_number(pin) for pin in self._home.glob(f"{_LINK}*")}
        foreign = [each for each in found if each.attached and each.number not in ours]
        state: Literal["warning", "fault"] = "warning" if len(foreign) < len(found) else "fault"
        return [Finding(state, *_occupied(each)) for each in foreign] or [
            Finding("ok", f"XDP works, on Linux {os.uname().release}")
        ]

    def setup(self, ruleset: Ruleset) -> bool:
        """Load, fill and attach what is missing; return whether throttled had programs before.

        An interface with another program's XDP program is not changed, which is logged.

        Raises:
            BackendError: the kernel refused, or all interfaces have another program.
        """
        with _refusals():
            return self._setup(ruleset)

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch."""
        self._there()
        with _refusals():
            return self._sets.apply(entries)

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that the kernel has."""
        with _refusals():
            return self._sets.lookup(entries)

    def dump(self) -> Iterator[Element]:
        """Yield every element; may run in another thread."""
        with _refusals():
            yield from self._sets.dump()

    def dropped(self) -> int:
        """Return the packets dropped since the maps were made; 0 where they are gone."""
        with _refusals(), suppress(FileNotFoundError):
            return Map.pinned(self._home / "dropped").total(0)
        return 0

    def watch(self) -> None:
        """Return None: the kernel announces no changes; `collect` finds them a second later."""

    def collect(self) -> None:
        """Remove some expired elements; check that pins and programs are still there.

        Raises:
            BackendError: another program removed pins or detached a program.
        """
        with _refusals():
            self._at_its_place()
            self._sets.collect()

    def intact(self) -> bool:
        """Return whether all pins are there, and the programs at their interfaces."""
        try:
            self._at_its_place()
        except (BackendError, OSError):
            return False
        return bool(self._programs)

    def fill(self) -> list[Fill]:
        """Return how full each set is; nothing before Linux 6.3, which does not say."""
        with _refusals():
            return self._sets.fill()

    def present(self) -> bool:
        """Return whether an interface of this network namespace has a program of throttled."""
        with _refusals():
            ours = {Link.pinned(pin).program for pin in self._pins.glob(f"v*/{_LINK}*")}
        return bool(ours) and any(each.attached in ours for each in interfaces.interfaces())

    def teardown(self) -> None:
        """Detach the programs and remove all pins, also those of other layouts."""
        with _refusals():
            for pin in self._pins.glob(f"v*/{_LINK}*"):
                Link.pinned(pin).detach()
            for inside in self._pins.glob("*"):
                _remove(inside)
        with suppress(OSError):  # systemd may have mounted it, to let us write there: then it stays
            self._pins.rmdir()
        self._programs, self._guarded = {}, ()

    # Setting up

    def _setup(self, ruleset: Ruleset) -> bool:
        before = self._whole()
        if kind_at(self._pins) != "bpf":
            raise _unmounted(self._pins.parent)
        self._make_home()
        starts = not (self._programs and before)
        if starts:
            self._programs = self._load()
        self._sets.size, self._sets.expected = ruleset.size, ruleset.expected * 5 // 4
        others = [path for path in self._pins.glob("v*") if path != self._home]
        for older in others:
            self._carry_over(older)
        for of in self._sets.settle():
            log.warning("the set %s has more elements than firewall.size: it is unchanged", of.name)
        protected, own = layout.tries(ruleset.protected), layout.tries(interfaces.own_networks())
        for version in (4, 6):
            _fill(self._map(f"protected{version}"), protected[version])
            _fill(self._map(f"own{version}"), own[version])
        settings = self._map("settings")
        known = Settings.unpack(settings.lookup(_ZERO) or b"")
        settings.update(_ZERO, Settings.of(ruleset, known).pack())
        self._guard(interfaces.interfaces(), starts=starts)
        for older in others:
            _remove(older)
        return before or bool(others)

    def _make_home(self) -> None:
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:  # read-only, or a mount of a directory that was removed
            raise BackendError(
                f"{self._home} cannot be made: {error.strerror}",
                "systemctl restart throttled; does its drop-in say ReadWritePaths=-/sys/fs/bpf?",
            ) from error

    def _load(self) -> dict[str, Program]:
        """Load our programs, on the maps that are pinned; pin those that are new."""
        loaded = Object(OBJECTS / "xdp.o")
        table = {name: self._home / name for name in _MAPS}
        there = {name for name, pin in table.items() if pin.exists()}
        for name in there:
            loaded.reuse(name, self._map(name))
        loaded.load()
        for name, pin in table.items():
            if name not in there:
                loaded.map(name).pin(pin)
        return {name: loaded.program(name) for name in _PROGRAMS}

    def _carry_over(self, older: Path) -> None:
        """Go on with what another layout holds: its elements, and then its links."""
        for of in EVERY:
            if (pin := older / of.name).exists():
                self._sets.carry_over(of, Map.pinned(pin))
        for pin in older.glob(f"{_LINK}*"):
            pin.rename(self._home / pin.name)

    def _guard(self, found: Sequence[Interface], *, starts: bool) -> None:
        """Have our program at each interface, and no pin of one that is gone.

        Raises:
            BackendError: there are interfaces, and all of them are used by others.
        """
        alive = {each.number for each in found}
        for pin in self._home.glob(f"{_LINK}*"):
            if _number(pin) not in alive:
                pin.unlink()
        occupied = {
            each: _occupied(each) for each in found if not self._attach(each, starts=starts)
        }
        for each, (what, hint) in occupied.items():
            if each.name not in self._occupied:
                log.warning("%s. %s", what, hint)
        self._occupied = frozenset(each.name for each in occupied)
        self._guarded = [each.number for each in found if each not in occupied]
        if occupied and len(occupied) == len(found):
            raise BackendError(*next(iter(occupied.values())))

    def _attach(self, at: Interface, *, starts: bool) -> bool:
        """Attach or update our program; return False if the interface has another program."""
        pin = self._home / f"{_LINK}{at.number}"
        program = self._programs[at.program]
        if pin.exists():
            link = Link.pinned(pin)
            if link.ifindex == at.number and (not starts or at.mode == self._mode):
                link.update(program)
                return True
            link.detach()
            del link
            pin.unlink()
        elif at.attached:
            return False
        made = self._attached(at, program)
        if made is not None:
            made.pin(pin)
        return made is not None

    def _attached(self, at: Interface, program: Program) -> Link | None:
        """Attach in the mode asked for, else generic; None if another program was faster."""
        for mode in dict.fromkeys((self._mode, "generic")):
            try:
                return program.attach(at.number, ATTACH_XDP, _FLAGS[mode])
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.EEXIST):
                    return None
                if mode == "generic":
                    raise
                log.warning("the driver of %s does not support XDP: %s", at.name, error.strerror)
        return None

    def _map(self, name: str) -> Map:
        return Map.pinned(self._home / name)

    def _whole(self) -> bool:
        return all((self._home / name).exists() for name in _MAPS)

    def _at_its_place(self) -> None:
        """Check that the pins exist and the programs are attached.

        Raises:
            BackendError: a pin is missing, or a program was detached.
            OSError: a pin cannot be opened.
        """
        self._there()
        for number in self._guarded:
            if not Link.pinned(self._home / f"{_LINK}{number}").ifindex:
                raise BackendError(
                    f"the XDP program of interface {number} was detached",
                    "a running throttled restores it",
                )

    def _there(self) -> None:
        """Check that the pins exist.

        Raises:
            BackendError: they were removed, or never made.
        """
        if not (self._home / "settings").exists():
            raise BackendError(
                f"the maps in {self._home} are missing", "a running throttled restores them"
            )


def _fill(trie: Map, wanted: frozenset[bytes]) -> None:
    """Make a trie hold these keys: first more, then no others."""
    there = set(trie.keys())
    for key in wanted - there:
        trie.update(key, b"\1")
    for key in there - wanted:
        trie.delete(key)


def _number(pin: Path) -> int:
    return int(pin.name.removeprefix(_LINK))


def _occupied(at: Interface) -> tuple[str, str]:
    """Return which program an interface has, and what to do."""
    try:
        name = Program.by_number(at.attached).name or "without a name"
    except OSError:
        name = "of an unknown name"
    return (
        f"{at.name} has another XDP program ({name}, id {at.attached}) and is not filtered",
        "remove that program, or set firewall.backend to nftables, which works beside it",
    )


def _remove(path: Path) -> None:
    """Remove a directory of pins. Idempotent."""
    if path.is_dir():
        for each in path.iterdir():
            _remove(each)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _unmounted(place: Path) -> BackendError:
    return BackendError(f"there is no BPF file system at {place}", f"mount -t bpf bpf {place}")


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a refusal of the kernel into an error that says what it means to an operator."""
    try:
        yield
    except OSError as error:
        hint = RIGHTS if error.errno in (errno.EPERM, errno.EACCES) else ""
        what = f"the kernel refused: {error.strerror}"
        if error.errno == errno.ENOENT:
            what = (
                f"a pinned map is missing: {error.filename}"
                if error.filename
                else "a pinned map is missing"
            )
            hint = "a running throttled restores it"
        raise BackendError(what, hint) from error
