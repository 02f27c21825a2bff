"""Whose message it is that Postfix has in its queue. Pure: no clock, no I/O.

From the line that takes a message (smtpd's `client=`, pickup's `uid=`) to `removed` its queue id
stands for a subject: the account that logged in, the local user, or the client inside mynetworks.
What the lines between say is that subject's: `step` returns it as uses.

Nobody's are: mail from outside, and with it backscatter and what an alias forwards; bounces, which
have a null sender and no such line; and messages queued before the table knew of them.

A content filter hands a message back under another queue id. Postfix's own words on that are the
client's address and XFORWARD's `orig_queue_id`, believed of hosts that may use XFORWARD. Without
XFORWARD a filter on this host is known by `queued as ID` of a server at a loopback address or one
of ours, and only an id that such a client has queued is taken over.

Owns the table: at most `cap` queue ids, of which the oldest is evicted, and the names of accounts
as first written. 200,000 ids of 11 characters take 30 MB, and 42 MB after many were evicted.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from throttled import subjects
from throttled.address import contains, is_subject, network_of, pack, parse
from throttled.decide.outcome import forwarded, judge
from throttled.model import Event, Facts, Message

CAP = 200_000
#: Accounts whose names are remembered as first written, and owners that entries share.
_NAMES = 50_000
#: Domains that this host delivers for, learnt from its deliveries.
_DOMAINS = 10_000
_ADDRESSES = 20_000
_LOOPBACK = ("127.0.0.0/8", "::1/128")

Counted = Literal[
    "messages",
    "recipients",
    "bytes",
    "bounces",
    "deferrals",
    "networks",
    "received",
    "connections",
]


class Use(NamedTuple):
    """What a subject did."""

    subject: str
    counted: Counted
    amount: int
    name: str = ""  # `networks`: which


class _Owner(NamedTuple):
    """Whose a message is. Many entries share one."""

    subject: str
    counted: bool = False  # whether its recipients are: the first `active` of the first queue id
    domain: str = ""  # of the sender, if hosted here
    local: bool = False  # queued by a client at an address of this host: a filter may have


_NOBODY: tuple[Use, ...] = ()


class _Place:
    """Where an address is: addresses seen are remembered."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [parse(network) for network in networks]
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _ADDRESSES:
                self._known.clear()
            known = self._known[address] = is_subject(address) and any(
                contains(network, pack(address)) for network in self._networks
            )
        return known


class Queue:
    """The messages in the queue, and whose each is."""

    def __init__(self, facts: Facts, cap: int = CAP) -> None:
        """Begin with an empty table."""
        self._cap = cap
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        self._shared: dict[_Owner, _Owner] = {}
        self._names: dict[str, str] = {}
        self._hosted: set[str] = set()
        #: Queue ids and recipients that an alias forwards, which a filter's line no longer says.
        self._forwarded: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._filtered = False  # a filter on this host hands messages back without XFORWARD
        self.evicted = 0  # entries, at the cap
        self.facts(facts)
        self._actions: dict[str, Callable[[Event, Message], tuple[Use, ...]]] = {
            "login": self._login,
            "accepted": self._accepted,
            "queued": self._queued,
            "active": self._active,
            "delivery": self._delivery,
            "removed": self._removed,
        }

    def __len__(self) -> int:
        return len(self._owners)

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self._here = _Place((*_LOOPBACK, *facts.own))
        self._filters = _Place((*_LOOPBACK, *facts.own, *facts.xforward))
        self._inside = _Place(facts.mynetworks)
        self._local_domain = facts.sasl_domain

    def clear(self) -> None:
        """Evict everything, names of accounts too."""
        self._owners.clear()
        self._shared.clear()
        self._names.clear()
        self._forwarded.clear()

    def step(self, event: Event) -> tuple[Use, ...]:
        """Take one event; return what its subjects did."""
        action = self._actions.get(event.kind)
        message = event.message
        if action is None or message is None:
            return _NOBODY
        return action(event, message)

    def subject(self, queue_id: str) -> str:
        """Return whose a message is; "" = nobody's, or not known."""
        owner = self._owners.get(queue_id)
        return "" if owner is None else owner.subject

    def inside(self, client: str) -> bool:
        """Tell whether a client is within mynetworks."""
        return client in self._inside

    def shown(self, subject: str) -> str:
        """Return a subject as its name was first written."""
        return self._names.get(subject, subject)

    # A method for each kind of event

    def _login(self, event: Event, message: Message) -> tuple[Use, ...]:
        subject = subjects.account(event.user, self._local_domain)
        if subject not in self._names:
            if len(self._names) >= _NAMES:
                self._names.clear()
            self._names[subject] = f"account:{event.user}"
        self._put(message.queue_id, _Owner(subject))
        network = network_of(event.client) or event.client
        return (Use(subject, "networks", 1, network),)

    def _accepted(self, event: Event, message: Message) -> tuple[Use, ...]:
        client, queue_id = event.client, message.queue_id
        self._owners.pop(queue_id, None)  # a short id that is used again
        if message.previous and client in self._filters:
            owner = self._owners.get(message.previous)
            if owner is not None:
                self._put(queue_id, owner._replace(counted=True, local=False))
        elif client in self._here:
            self._put(queue_id, _Owner("" if self._filtered else client, local=True))
        elif client in self._inside:
            self._put(queue_id, _Owner(client))
        return _NOBODY

    def _queued(self, _event: Event, message: Message) -> tuple[Use, ...]:
        if message.previous:  # postsuper -r: the uid is that of the queue file
            owner = self._owners.pop(message.previous, None)
        else:
            owner = _Owner(subjects.uid(message.uid))
        if owner is None:
            self._owners.pop(message.queue_id, None)
        else:
            self._put(message.queue_id, owner)
        return _NOBODY

    def _active(self, _event: Event, message: Message) -> tuple[Use, ...]:
        owner = self._owners.get(message.queue_id)
        if owner is None:
            return _NOBODY
        if not message.sender:
            del self._owners[message.queue_id]
            return _NOBODY
        if owner.counted:
            return _NOBODY
        domain = subjects.domain(message.sender)
        owner = owner._replace(counted=True, domain=domain if domain in self._hosted else "")
        self._owners[message.queue_id] = self._share(owner)
        uses: list[Use] = []
        for subject in filter(None, (owner.subject, owner.domain)):
            uses += (
                Use(subject, "messages", 1),
                Use(subject, "recipients", message.recipients),
                Use(subject, "bytes", message.size),
            )
        return tuple(uses)

    def _delivery(self, event: Event, message: Message) -> tuple[Use, ...]:
        if message.following and message.relay in self._here:
            if forwarded(message.original, message.recipient):
                self._forwarded[message.following, message.recipient] = None
                if len(self._forwarded) > _NAMES:
                    self._forwarded.popitem(last=False)
            self._handed_over(message)
            return _NOBODY
        if message.status == "sent":
            return self._received(event, message)
        owner = self._owners.get(message.queue_id)
        counted = judge(event) if owner is not None else ""
        if owner is None or not counted:
            return _NOBODY
        if (message.queue_id, message.recipient) in self._forwarded:
            return _NOBODY
        named = filter(None, (owner.subject, owner.domain))
        return tuple(Use(subject, counted, event.count) for subject in named)

    def _removed(self, _event: Event, message: Message) -> tuple[Use, ...]:
        self._owners.pop(message.queue_id, None)
        return _NOBODY

    # What these share

    def _handed_over(self, message: Message) -> None:
        """Join the id under which a filter on this host queued a message again to its first."""
        again = self._owners.get(message.following)
        if again is None or not again.local:
            return
        self._filtered = True
        owner = self._owners.get(message.queue_id)
        if owner is None:
            del self._owners[message.following]
        else:
            self._put(message.following, owner._replace(counted=True))

    def _received(self, event: Event, message: Message) -> tuple[Use, ...]:
        """Count a message for the mailbox that it was delivered to, if that is here."""
        if event.process not in ("local", "virtual", "lmtp") or message.following:
            return _NOBODY
        domain = subjects.domain(message.recipient)
        if domain and len(self._hosted) < _DOMAINS:
            self._hosted.add(domain)
        received = Use(subjects.mailbox(message.recipient), "messages", event.count)
        return (received, Use(domain, "received", event.count)) if domain else (received,)

    def _put(self, queue_id: str, owner: _Owner) -> None:
        self._owners.pop(queue_id, None)
        self._owners[queue_id] = self._share(owner)
        if len(self._owners) > self._cap:
            self._owners.popitem(last=False)
            self.evicted += 1

    def _share(self, owner: _Owner) -> _Owner:
        """Return the same object for equal owners: an entry of its own would take 200 bytes."""
        known = self._shared.get(owner)
        if known is None:
            if len(self._shared) >= _NAMES:
                self._shared.clear()
            known = self._shared[owner] = owner
        return known
