"""The iptables backend: chains of our own in the legacy tables `raw`, subjects in ipsets.

For hosts whose rules are in the legacy tables. With `reject` there is a chain in `filter` too.
State is the kernel's; kept here is only which sets there are, how the rules were listed after they
were put in place, and the last ruleset, from which a set for networks of another length is made
when the first of them comes.

Limits. Rules of IPv4 and IPv6 are two tables and two steps. An element's end is on a whole second,
up to one late, and at most 24 days away. Renewing an element sets its packet counter to zero. In a
set of more than 20,000 elements neither the time left nor the packets of one are known, only that
it is there (`ipsets` says why). The kernel announces no changes: `watch` and `intact` poll.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cached_property
from itertools import islice, product
from pathlib import Path

from msgspec.structs import replace

from throttled.enforce import batch
from throttled.enforce.backend import Applied, Fill, Ruleset
from throttled.enforce.iptables import ruleset as text
from throttled.enforce.iptables import tables
from throttled.enforce.iptables.ipsets import GoneError, Ipsets, plan
from throttled.enforce.iptables.messages import IpsetDefinition, IpsetHeader, parts
from throttled.enforce.iptables.watch import Outlines, TablesWatch
from throttled.enforce.set_backend import SetBackend
from throttled.enforce.sets import SetId
from throttled.errors import BackendError
from throttled.model import Element, Entry, Finding

log = logging.getLogger(__name__)

#: A set that holds more is not recreated for another size: that would take seconds.
_REMADE = 100_000

_TRIAL = Ruleset({}, (), rate=1, per=60.0, burst=1, size=1000)
_NFT = 'set [firewall] backend = "nftables": it works beside iptables-nft'
_MODULES = "needs the modules ip_tables, iptable_raw, ip_set, xt_set, xt_hashlimit and xt_addrtype"


class Iptables(SetBackend[int]):
    """Throttles and bans in the legacy tables."""

    name = "iptables"
    enforces, at_interfaces = True, False

    def __init__(self) -> None:
        super().__init__()
        self.refuses = True
        self._ipsets = Ipsets()
        self._listed: Mapping[tuple[int, str], Sequence[str]] = {}
        self._tables: Sequence[str] = ("raw",)  # in which there are rules of ours
        self._fixed: Mapping[str, int] = {}  # elements in the sets that stay
        self._state: object = None  # what the latest check of `watch` saw

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines(_versions())

    def check(self) -> list[Finding]:
        """Put a set and a chain of all our kinds of rules in place, that no packet comes to."""
        try:
            if tables.variant() == "nf_tables":
                return [Finding("fault", "this host's iptables is the nft variant", _NFT)]
            self._try()
        except BackendError as error:
            return [Finding("fault", error.message, error.hint or _MODULES)]
        return [Finding("ok", f"iptables-legacy and ipset work, on Linux {os.uname().release}")]

    def setup(self, ruleset: Ruleset) -> bool:
        """Put the rules in place, one step for each IP version; return whether there were sets.

        Sets of another size are recreated with their elements. One that holds more than 100,000,
        or more than the new size, stays as it is until it holds less; the log says so.
        """
        try:
            return self._install(ruleset, frozenset())
        except BackendError:
            if not self._ipsets.headers():
                raise
        self._try()  # or else nothing works now: another program holds the lock, no descriptors …
        try:
            return self._install(ruleset, frozenset())
        except BackendError as error:
            log.warning(
                "the rules of throttled in iptables are unusable and are replaced: %s",
                error.message,
            )
        self.teardown()  # a set is of another type, a chain used by a stranger's rule …
        self._install(ruleset, frozenset())
        return False

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch, one element after the other."""
        groups, unusable = plan(entries, self._known())
        placed, refused = self._placed(groups)
        applied = self._ipsets.commit(placed)
        return Applied((*unusable, *refused, *applied.failed), applied.full)

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that the kernel holds.

        In a set of more than 20,000 elements `seconds` is nan and `packets` 0: not known. Of one
        asked for with longer than the kernel counts `seconds` is that, in the first half.
        """
        return self._ipsets.lookup(plan(entries, self._known())[0])

    def dump(self) -> Iterator[Element]:
        """Yield every element."""
        for of in sorted(_subjects(self._ipsets.headers())):
            with suppress(GoneError):
                yield from self._ipsets.dump(of)

    def dropped(self) -> int:
        """Return the packets dropped since the sets were made; 0 where they are gone."""
        return sum(map(self._ipsets.counted, text.VERSIONS))

    def collect(self) -> None:
        """The kernel gives memory back by itself."""
        return

    def fill(self) -> list[Fill]:
        """Return how full each set is."""
        subjects = _subjects(self._ipsets.headers())
        return [
            Fill(header.name, of.scope, of.action, header.elements, header.definition.size)
            for of, header in subjects.items()
        ]

    def intact(self) -> bool:
        """Return whether the rules stand as they were put in place, ours first, and their sets."""
        return (
            bool(self._listed) and self._fixed == self._counts() and self._listed == self._rules()
        )

    def watch(self) -> TablesWatch:
        """Check four times a second whether another program changed rules or emptied all sets."""
        return TablesWatch(self._changed)

    def present(self) -> bool:
        """Return whether throttled has sets; without the table raw no rule could use them."""
        return any(map(tables.exists, text.VERSIONS)) and bool(self._ipsets.headers())

    def teardown(self) -> None:
        """Remove chains and sets."""
        for version in filter(tables.exists, text.VERSIONS):
            tables.remove(version, text.CHAINS)
        self._stop_refusing()
        for name in self._ipsets.headers():
            self._ipsets.destroy(name)
        self._end_trials(self._ipsets.trials())
        self._ruleset, self._sets, self._listed, self._fixed = None, frozenset(), {}, {}

    def _present(self) -> AbstractSet[SetId]:
        return _subjects(self._ipsets.headers()).keys()

    def _gone(self) -> BackendError:
        return GoneError(
            "the rules of throttled in iptables are missing, or may not be changed",
            "a running throttled creates them, and restores them after a flush",
        )

    def _install(self, ruleset: Ruleset, more: AbstractSet[SetId]) -> bool:
        present = self._ipsets.headers()
        subjects = _subjects(present)
        idle = {of for of in subjects if of.rate and of not in more and not subjects[of].elements}
        every = batch.every(subjects.keys() - idle, more)
        for of in every:
            wanted = text.definition(of, ruleset.size)
            if of not in subjects:
                self._ipsets.make(text.name(of), wanted)
            elif subjects[of].definition != wanted:
                self._remake(of, subjects[of], wanted)
        for version in text.VERSIONS:
            counting = parts(bytes(4 if version == 4 else 16), 0)
            name = text.dropped(version)
            if name not in present:
                self._ipsets.make(name, text.networks(version, 2))
            if name not in present or present[name].elements != len(counting):
                self._ipsets.fill(name, counting)
            self._protect(ruleset, version, present)
        self._put_rules(self._refuse(ruleset) if ruleset.reject else ruleset, every)
        for of in idle:
            self._ipsets.destroy(text.name(of))
        self._state, self._fixed = self._read_state(), self._counts()
        self._listed = self._rules()
        self._ruleset, self._sets = ruleset, frozenset(every)
        return bool(present)

    def _put_rules(self, ruleset: Ruleset, every: Sequence[SetId]) -> None:
        for version in _versions():
            tables.put(version, text.CHAINS, text.render(ruleset, every, version))
        if not ruleset.reject:
            self._stop_refusing()
        self._tables = ("raw", "filter") if ruleset.reject else ("raw",)

    def _refuse(self, ruleset: Ruleset) -> Ruleset:
        """Have packets refused that will be marked; where the kernel cannot, they are dropped."""
        self.refuses = True
        try:
            for version in _versions():
                tables.put(version, [text.REJECT], text.rejecting(), "filter")
        except BackendError as error:
            log.warning("[firewall] reject does not work, dropping instead: %s", error.message)
            self.refuses = False
            return replace(ruleset, reject=False)
        return ruleset

    def _stop_refusing(self) -> None:
        for version in text.VERSIONS:
            if tables.exists(version, "filter"):
                tables.remove(version, [text.REJECT], "filter")

    def _rules(self) -> dict[tuple[int, str], list[str]]:
        found = product(_versions(), self._tables)
        return {(version, name): _ours(tables.listed(version, name)) for version, name in found}

    def _counts(self) -> dict[str, int]:
        """Return how many elements are in each set that stays."""
        names = (of(version) for of in (text.dropped, text.protected) for version in text.VERSIONS)
        return {name: self._ipsets.count(name) for name in names}

    def _read_state(self) -> object:
        return self._outlines.read(self._tables), self._counts()

    def _changed(self) -> bool:
        """Return, once, whether another program changed our rules or sets."""
        try:
            state = self._read_state()
        except BackendError as error:
            state = error.message
        if state == self._state:
            return False
        self._state = state
        try:
            return not self.intact()
        except BackendError:
            return True  # unknown: have it checked

    def _protect(self, ruleset: Ruleset, version: int, present: Mapping[str, IpsetHeader]) -> None:
        name = text.protected(version)
        networks = text.protected_networks(ruleset.protected, version)
        definition = text.networks(version, len(networks))
        if name not in present:
            self._ipsets.make(name, definition)
        with self._ipsets.replacing(name, definition) as spare:
            self._ipsets.fill(spare, networks)

    def _remake(self, of: SetId, header: IpsetHeader, wanted: IpsetDefinition) -> None:
        """Give a set another size; what it holds goes along, packets counted do not."""
        most = min(_REMADE, wanted.size)
        if header.elements > most:
            log.warning(
                "%s has too many elements to be replaced: its size is unchanged", header.name
            )
            return
        with self._ipsets.replacing(header.name, wanted):
            existing = (
                # Was rounded down.
                Entry(state.subject, state.scope, state.action, state.seconds + 1, state.rate)
                for state in islice(self._ipsets.dump(of), most)
            )
            self._ipsets.commit(plan(existing, frozenset())[0], suffix=text.SPARE)

    def _try(self) -> None:
        """Let the kernel take a set and rules of all our kinds, under another name, and go."""
        trials = self._ipsets.trials()
        self._end_trials(name for name, process in trials.items() if not _runs(process))
        name = text.trial_name(os.getpid())
        for version in _versions():
            self._ipsets.make(name, IpsetDefinition("hash:ip", version, 64, 600))
            try:
                tables.put(version, [name], text.trial(_TRIAL, name, version))
                tables.remove(version, [name])
                tables.listed(version)  # which `intact` asks
            finally:
                self._ipsets.destroy(name)

    def _end_trials(self, names: Iterable[str]) -> None:
        """Remove what processes left that were killed during a trial."""
        for name in names:
            for version in filter(tables.exists, text.VERSIONS):
                tables.remove(version, [name])
            self._ipsets.destroy(name)


def _runs(process: int) -> bool:
    return process != os.getpid() and Path(f"/proc/{process}").exists()


def _subjects(present: Mapping[str, IpsetHeader]) -> dict[SetId, IpsetHeader]:
    """Return those of our sets that have subjects."""
    found = ((text.subjects(name), header) for name, header in present.items())
    return {of: header for of, header in found if of is not None}


def _ours(listed: Sequence[str]) -> list[str]:
    """Return what has to stand as it is: our rules, and what comes before them."""
    hooked = (
        next((line for line in listed if line.startswith(f"-A {hook} ")), "")
        for hook in text.HOOKED
    )
    return [*hooked, *(line for line in listed if text.is_ours(line))]


def _versions() -> list[int]:
    """Return the IP versions that this kernel has."""
    return [4, 6] if Path("/proc/sys/net/ipv6").exists() else [4]
