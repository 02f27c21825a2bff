"""Protected subjects: never throttled or banned. Pure.

Protection is checked here, when a decision is made, and again by the firewall itself, as the first
rule of its ruleset (`networks`). A host name can only be checked here: the one in Postfix's log is
forward-confirmed (smtpd_peer.c), so no DNS is needed.
"""

from collections.abc import Iterable

from throttled import address
from throttled.facts import Facts
from throttled.settings import Protect

#: Loopback, link-local, and what is no client's address.
_ALWAYS = (*address.LOOPBACK, "0.0.0.0/8", "::", "fe80::/10")

INSIDE = "in Postfix's mynetworks"
PROXY = "a host that may use XCLIENT"
_ALLOWED = "allowed by the operator"


class Protection:
    """What is protected, and why. Immutable: recreated when facts or configuration change."""

    def __init__(  # noqa: PLR0913 - whom, by what it is
        self,
        facts: Facts,
        *,
        networks: Iterable[str] = (),
        names: Iterable[str] = (),
        mynetworks: bool = True,
        senders: Iterable[str] = (),
        shared: Iterable[str] = (),
    ) -> None:
        """Collect what is protected.

        Args:
            facts: own addresses, gateways, resolvers, relays, mynetworks, and who may name others.
            networks: addresses and networks that the operator allows.
            names: host names (`mail.example.com`) and suffixes (`.example.com`) that he allows.
            mynetworks: whether Postfix's mynetworks count.
            senders: subjects that are no address, as account:alice, that the operator allows.
            shared: addresses that stand for many clients, see `throttled.decide.shared`.
        """
        groups: tuple[tuple[str, Iterable[str]], ...] = (
            ("loopback or link-local", _ALWAYS),
            ("an address of this host", facts.own),
            ("a gateway of this host", facts.gateways),
            ("a resolver of this host", facts.resolvers),
            ("a relayhost", facts.relays),
            (INSIDE, facts.mynetworks if mynetworks else ()),
            (PROXY, facts.xclient),
            ("a host that may use XFORWARD", facts.xforward),
            (_ALLOWED, networks),
            ("many clients share it: a NAT or proxy in front", shared),
        )
        self._reasons: dict[int, dict[bytes, str]] = {}
        #: What the operator allows, which may be inside of what else is protected.
        self._allowed: dict[int, dict[bytes, str]] = {}
        self.networks: list[str] = []
        for reason, members in groups:
            for member in members:
                packed, prefix = address.parse(member)
                self._reasons.setdefault(prefix, {}).setdefault(packed, reason)
                if reason == _ALLOWED:
                    self._allowed.setdefault(prefix, {})[packed] = reason
                self.networks.append(address.subject(member))
        self._senders = frozenset(senders)
        self._names = frozenset(name.lower() for name in names if not name.startswith("."))
        self._suffixes = tuple(name.lower() for name in names if name.startswith("."))

    @classmethod
    def of(
        cls,
        facts: Facts,
        protect: Protect,
        allowed: Iterable[str] = (),
        shared: Iterable[str] = (),
    ) -> "Protection":
        """Collect what facts, configuration and `throttled allow` protect.

        Args:
            facts: of this host.
            protect: the section of the configuration.
            shared: addresses that stand for many clients.
            allowed: subjects and host names on the allowlist.
        """
        networks, names, senders = [*protect.networks], [*protect.names], []
        for what in allowed:
            if address.is_named(what):
                senders.append(what)
            else:
                (networks if address.is_subject(what) else names).append(what)
        return cls(
            facts,
            networks=networks,
            names=names,
            mynetworks=protect.mynetworks,
            senders=senders,
            shared=shared,
        )

    @property
    def by_name(self) -> bool:
        """Whether host names protect."""
        return bool(self._names or self._suffixes)

    def reason(self, subject: str, name: str = "") -> str:
        """Return why a subject is protected, or "".

        Args:
            subject: a canonical address or network. A network is protected when it lies within
                one that is; one that merely contains protected addresses is not: the firewall
                accepts those first.
            name: the client's forward-confirmed host name, where known.
        """
        if address.is_named(subject):
            return self.sender(subject)
        reason = address.covering(self._reasons, subject)
        if reason is not None:
            return reason
        name = name.lower()
        if name and (name in self._names or name.endswith(self._suffixes)):
            return "a host name allowed by the operator"
        return ""

    def sender(self, subject: str) -> str:
        """Return why what a subject sends is not acted on, or "".

        An inside host is not protected as a sender: its mail is slowed, no packet is dropped.

        Args:
            subject: of a limit whose `of` is not "client".
        """
        if address.is_named(subject):
            return _ALLOWED if subject in self._senders else ""
        return address.covering(self._allowed, subject) or ""
