"""The live configuration: the operator's file, this host's facts and the allowlist, as one.

What is protected, which ports are filtered and which rules the kernel gets follows from these.
Owns all three, and what was wrong with the file at the latest reload.
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from throttled.address import LOOPBACK
from throttled.config.load import load
from throttled.config.schema import Config
from throttled.decide.protect import Protection
from throttled.enforce.backend import Answers, Ruleset
from throttled.errors import ConfigError, StoreError
from throttled.facts import Facts
from throttled.host.facts import gather
from throttled.host.files import Fingerprint, fingerprint
from throttled.model import Mode, Scope
from throttled.service import last_facts
from throttled.store.store import Store

log = logging.getLogger("throttled")

#: Seconds after which an allowlist that cannot be read is read again.
_AGAIN = 60.0


class Options(Struct, frozen=True):
    """What the command line says."""

    config: str | None = None
    backend: str | None = None
    mode: Mode | None = None

    def load(self) -> Config:
        """Return the configuration with the command line's words in it.

        Raises:
            ConfigError: it cannot be used.
        """
        config = load(self.config)
        if self.mode is not None:
            config = replace(config, mode=self.mode)
        if self.backend is not None:
            config = replace(config, firewall=replace(config.firewall, backend=self.backend))
        return config


def gathered(config: Config, before: Facts, names: Collection[str] = ()) -> Facts:
    """Return this host's facts as a configuration asks for them, see `host.facts.gather`.

    Args:
        config: names directories, scopes and host names.
        before: what was last known.
        names: of this host, beside the configuration's.
    """
    postfix = config.postfix
    directories = () if postfix.config_directories == "auto" else postfix.config_directories
    return gather(directories, postfix.scopes, [*postfix.hosts, *names], before)


class LiveConfiguration:
    """What holds now."""

    def __init__(self, options: Options) -> None:
        """Load the file.

        Raises:
            ConfigError: it cannot be used.
        """
        self.config = options.load()
        self.facts = Facts()
        self.error: ConfigError | None = None  # of the last reload
        self._options = options
        self._read: Fingerprint = ()  # of the files that the facts are of
        self._allowed: list[str] = []
        self._allowed_until = math.inf  # wall clock, of the first entry that ends

    def reload(self) -> tuple[Config, list[str]]:
        """Read the file again, and take nothing of it yet.

        What needs a restart stays as it is until then, also in what `status` says.

        Returns:
            What would hold, and the names of settings that changed and need a restart.

        Raises:
            ConfigError: it cannot be used; stored in `error`.
        """
        try:
            config = self._options.load()
        except ConfigError as error:
            error.message = f"not reloaded: {error.message}"
            self.error = error
            raise
        running, wanted = self.config, config
        firewall = replace(
            wanted.firewall,
            backend=running.firewall.backend,
            xdp_mode=running.firewall.xdp_mode,
        )
        kept = [
            name
            for name, before, after in (
                ("store.path", running.store, wanted.store),
                ("control", running.control, wanted.control),
                ("fleet", running.fleet, wanted.fleet),
                ("firewall.backend", running.firewall.backend, wanted.firewall.backend),
                ("firewall.xdp_mode", running.firewall.xdp_mode, wanted.firewall.xdp_mode),
            )
            if before != after
        ]
        config = replace(
            wanted,
            store=running.store,
            control=running.control,
            firewall=firewall,
            fleet=running.fleet,
        )
        return config, kept

    def gather(self) -> Facts:
        """Return this host's facts as they are now; blocks for as long as Postfix's tools do."""
        self._read = fingerprint(self.facts.files)  # before: what changes meanwhile is a change
        return gathered(self.config, self.facts)

    def outdated(self) -> bool:
        """Return whether a file that the facts were read from has changed."""
        return fingerprint(self.facts.files) != self._read

    def protection(self, store: Store, wall: float, shared: Iterable[str] = ()) -> Protection:
        """Return what is protected, with the allowlist as it is now.

        Args:
            shared: addresses that stand for many clients.
            store: has the allowlist; remembers the facts.
            wall: now, wall clock.
        """
        last_facts.save(store, self.facts, wall)
        try:
            rows = store.allowlist.entries(wall)
            self._allowed = [row.what for row in rows]
            self._allowed_until = min((row.until for row in rows if row.until), default=math.inf)
        except StoreError as error:
            log.error("%s; the allowlist is unchanged. %s", error.message, error.hint)
            self._allowed_until = wall + _AGAIN
        return Protection.of(self.facts, self.config.protect, self._allowed, shared)

    def ended(self, wall: float) -> bool:
        """Return whether an entry of the allowlist has ended since `protection` was asked."""
        return wall >= self._allowed_until

    def named(self, store: Store) -> Facts:
        """Return the facts with the names of this host that `check` found in its log."""
        try:
            names = store.hosts.names()
        except StoreError as error:
            log.error("%s; recorded host names cannot be read. %s", error.message, error.hint)
            names = frozenset()
        own = self.facts.hostnames  # none known: every host's lines count
        return replace(self.facts, hostnames=own | names) if own else self.facts

    def ports(self) -> Mapping[Scope, tuple[int, ...]]:
        """Return the ports to protect."""
        return self.config.filtered(self.facts)

    def ruleset(self, protection: Protection, store: Store, wall: float) -> Ruleset:
        """Return the static rules of the kernel.

        Args:
            protection: whom they exempt.
            store: has what should be active.
            wall: now, wall clock.
        """
        throttle = self.config.throttle
        try:
            stored = sum(store.active.counts(wall).values())
        except StoreError:  # reported where it is recorded
            stored = 0
        return Ruleset(
            dict(self.ports()),
            tuple(protection.networks),
            throttle.rate,
            float(throttle.per),
            throttle.burst,
            self.config.firewall.size,
            stored,
            self._answers(),
            self.config.firewall.reject,
        )

    def _answers(self) -> Answers:
        """Return how policy requests are answered."""
        accounts, facts = self.config.accounts, self.facts
        inside = facts.mynetworks if self.config.protect.mynetworks else ()
        apart = (*LOOPBACK, *sorted(facts.own))
        proxied = bool(facts.xclient) or any(service.proxy for service in facts.services)
        return Answers(accounts.over, accounts.ban, accounts.waiting, inside, apart, proxied)
