"""Which accounts are guessed from many addresses, and which clients take part. Pure.

An account is under attack while the failed logins on it within the window are more than `tries`.
Of each source at most `tries_each` count, and none of a source that logged in within the
window: ten devices with an old password are no attack, eleven strangers with three tries each are.
A source is an IPv4 address or an IPv6 /64. It is kept as a keyed hash (Python's SipHash, whose key
is new in each process), with a meter (`throttled.decide.meter`): a failure counts for as long as
the window, and at most an eighth of it longer.

At a cap the accounts without a failure in the window are evicted, then the lower half: first names
that nobody logged in with, of these first those with the fewest tries. Names that an attacker
invents never evict an account that is used.

Owns the accounts that failed logins name, who logged in, and which accounts under attack each
source failed on.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from throttled.address import network_of, version
from throttled.decide import meter
from throttled.decide.tables import Distinct, Generations, digest
from throttled.settings import Guessing as Settings

#: Names tracked, sources of all of them together, and of one: beyond that an account is under
#: attack anyway, and only how many they are is not known.
_ACCOUNTS, _SOURCES, _OF_ONE = 5_000, 100_000, 25_000
#: Names that somebody logged in with, and how long they are known without another login.
_OWNED, _OWNED_TIME = 50_000, 30 * 86400.0


class Target(Struct, frozen=True):
    """An account that clients failed to log in to within the window."""

    account: str  # subject
    tries: int  # those that count
    sources: int  # distinct ones without good evidence, as far as the caps let count them
    attacked: bool


class _Account(Struct):
    tick: int  # the latest eighth
    tries: int = 0
    sources: dict[int, int] = {}  # meter by hash
    reported: bool = False  # the attack; until half of it is over

    def at(self, tick: int) -> dict[int, int]:
        """Return the sources with failures in the window that ends with an eighth."""
        moved = ((tag, meter.advance(known, tick)) for tag, known in self.sources.items())
        return {tag: known for tag, known in moved if meter.total(known)}


class Guessing:
    """Accounts under attack."""

    def __init__(self, settings: Settings) -> None:
        """Begin with nothing counted."""
        self.settings = settings
        self.dropped = 0  # accounts, at a cap
        self._per_second = meter.EIGHTHS / float(settings.within)
        self._accounts: dict[str, _Account] = {}
        self._sources = 0  # of all accounts
        self._owned: Generations[str, bool] = Generations(_OWNED_TIME, _OWNED)
        self._good: Generations[int, float] = Generations(float(settings.within), _SOURCES)
        self._failed = Distinct(float(settings.within), _SOURCES, settings.accounts)
        self._begun: list[Target] = []

    def reconfigured(self, settings: Settings) -> "Guessing":
        """Return the same with other settings; with another window, or disabled, it begins anew."""
        if (settings.within, settings.enabled) != (self.settings.within, self.settings.enabled):
            return Guessing(settings)
        self.settings = settings
        self._failed.most = settings.accounts
        for known in self._accounts.values():
            self._sum(known)
        return self

    def failed(
        self, client: str, at: float, failures: Iterable[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """Count failed logins of a client.

        Args:
            client: address.
            at: when.
            failures: the account (subject) and how many, in their order.

        Returns:
            Those whose account is under attack, with the number of such accounts on which the
            client failed within the window, at most `accounts` of the settings. None of a client
            with good evidence.
        """
        source = _source(client)
        tag = hash(source)
        if not self.settings.enabled or self._proven(tag, at):
            return []
        tick = int(at * self._per_second)
        attacked = [one for one, count in failures if self._attacked(one, tag, tick, count)]
        if not attacked:
            return []
        values = self._failed.add_all(source, at, [digest(account) for account in attacked])
        return list(zip(attacked, values, strict=True))

    def logged_in(self, account: str, client: str, at: float) -> None:
        """Learn of a login: what the client failed before on that account was its owner's.

        Args:
            account: subject; "": not known.
            client: address.
            at: when.
        """
        if not self.settings.enabled:
            return
        source = _source(client)
        self._good.put(hash(source), at, at)
        if not account:
            return
        self._owned.put(account, True, at)
        self._failed.remove(source, account)
        known = self._accounts.get(account)
        before = None if known is None else known.sources.pop(hash(source), None)
        if known is not None and before is not None:
            self._sources -= 1
            known.tries -= self._counted(meter.total(before))

    def accused(self, client: str, at: float) -> int:
        """Return on how many accounts under attack a client failed, as `failed` does."""
        return self._failed.value(_source(client), at)

    def network(self, account: str, client: str) -> str:
        """Return the IPv6 /64 of a client from which more than one failure on an account came."""
        source = _source(client)
        known = None if source == client else self._accounts.get(account)
        if known is None:
            return ""
        return source if meter.total(known.sources.get(hash(source), 0)) > 1 else ""

    def drain(self) -> list[Target]:
        """Return the accounts that came under attack since the last call."""
        begun, self._begun = self._begun, []
        return begun

    def target(self, account: str, at: float) -> Target | None:
        """Return what is known of an account; None: nobody failed on it within the window."""
        known = self._accounts.get(account)
        if known is None:
            return None
        self._move(known, max(known.tick, int(at * self._per_second)))
        return self._target(account, known) if known.sources else None

    def attacked(self, at: float) -> Iterator[Target]:
        """Yield the accounts under attack."""
        for account in list(self._accounts):
            found = self.target(account, at)
            if found is not None and found.attacked:
                yield found

    def reset(self, subject: str) -> None:
        """Reset what failed on an account, or on which accounts a client failed."""
        known = self._accounts.pop(subject, None)
        if known is not None:
            self._sources -= len(known.sources)
        else:
            self._failed.pop(_source(subject))

    def clear(self) -> None:
        """Reset what all clients did."""
        self._accounts, self._sources = {}, 0
        self._failed.clear()

    def size(self) -> tuple[int, int]:
        """Return how many accounts and sources are tracked."""
        return len(self._accounts), self._sources

    def _proven(self, tag: int, at: float) -> bool:
        last = self._good.get(tag)
        return last is not None and at - last <= float(self.settings.within)

    def _counted(self, failures: int) -> int:
        return min(failures, self.settings.tries_each)

    def _attacked(self, account: str, tag: int, tick: int, count: int) -> bool:
        """Count failures on an account; return whether it is under attack."""
        known = self._accounts.get(account)
        if known is None:
            self._make_room(tick)
            known = self._accounts[account] = _Account(tick)
        elif tick > known.tick:
            self._move(known, tick)
        if known.tick - tick <= meter.EIGHTHS:  # else its line came later than the window is long
            self._count(known, tag, tick, count)
        if known.tries <= self.settings.tries:
            return False
        if not known.reported:
            known.reported = True
            self._begun.append(self._target(account, known))
        return True

    def _count(self, known: _Account, tag: int, tick: int, count: int) -> None:
        before = known.sources.get(tag, 0)
        if before:
            known.tries -= self._counted(meter.total(before))
        elif len(known.sources) < _OF_ONE:
            self._sources += 1
        else:
            return
        known.sources[tag], total = meter.add(before, tick, count)
        known.tries += self._counted(total)

    def _move(self, known: _Account, tick: int) -> None:
        """Move an account on to an eighth of the window."""
        if tick == known.tick:
            return
        sources = known.at(tick)
        self._sources -= len(known.sources) - len(sources)
        known.tick, known.sources = tick, sources
        self._sum(known)
        known.reported &= known.tries > self.settings.tries // 2

    def _sum(self, known: _Account) -> None:
        known.tries = sum(self._counted(meter.total(one)) for one in known.sources.values())

    def _target(self, account: str, known: _Account) -> Target:
        attacked = known.tries > self.settings.tries
        return Target(account, known.tries, len(known.sources), attacked)

    def _make_room(self, tick: int) -> None:
        """Evict where a cap is reached, so that it is not again at once."""
        if len(self._accounts) < _ACCOUNTS and self._sources < _SOURCES:
            return
        oldest = tick - meter.EIGHTHS
        recent = [item for item in self._accounts.items() if item[1].tick >= oldest]
        recent.sort(key=lambda item: self._rank(*item), reverse=True)
        kept: dict[str, _Account] = {}
        sources = 0
        for name, known in recent[: _ACCOUNTS // 2]:
            if sources + len(known.sources) > _SOURCES // 2:
                # These are enough for it to stay under attack.
                known.sources = dict(islice(known.sources.items(), self.settings.tries + 1))
                self._sum(known)
            if sources + len(known.sources) <= _SOURCES * 3 // 4:
                kept[name] = known
                sources += len(known.sources)
        self.dropped += len(recent) - len(kept)
        self._accounts, self._sources = kept, sources

    def _rank(self, name: str, known: _Account) -> tuple[bool, int, int]:
        return self._owned.get(name) is not None, known.tries, known.tick


def _source(client: str) -> str:
    """Return who counts as one: an IPv4 address, or the /64 of an IPv6 one."""
    return (version(client) == 6 and network_of(client)) or client
