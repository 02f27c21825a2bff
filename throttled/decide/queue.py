"""Whose message it is that Postfix has in its queue. Pure: no clock, no I/O.

From the line that takes a message (smtpd's `client=`, pickup's `uid=`) to `removed` its queue id
stands for a subject: the account that logged in, the local user, or the client inside mynetworks.
What the lines between say is that subject's: `step` returns it as uses.

Nobody's are: mail from outside, and with it backscatter and what an alias forwards; bounces, which
have a null sender and no such line; and messages queued before the table knew of them.

A content filter hands a message back under another queue id. Postfix's own words on that are the
client's address and XFORWARD's `orig_queue_id`, believed of hosts that may use XFORWARD. Without
XFORWARD a filter on this host is known by `queued as ID` of a server at a loopback address or one
of ours, and only an id that such a client has queued is taken over. Of a filter before the queue
(smtpd_proxy_filter) smtpd's `proxy-accept` says the same.

The daemons of Postfix write at the same time, and only what causes each other is in order: the
`client=` line of the second queue id, then the filter's answer, then `removed` of the first. The
second's bounces and its `removed` may come before that answer. So its events wait
(`throttled.decide.pending`) until the first is removed: only then it is known whose they are, and
which of its recipients an alias forwards.

Owns the table (`throttled.decide.owners`), and the names of accounts as first written.
"""

from collections.abc import Callable
from math import inf

from throttled import subjects
from throttled.address import LOOPBACK, network_of
from throttled.decide.mailboxes import Mailboxes
from throttled.decide.outcome import forwarded, judge
from throttled.decide.owners import Owner, Owners
from throttled.decide.pending import Pending
from throttled.decide.place import Place
from throttled.decide.tables import Generations
from throttled.decide.uses import Counted, Use, uses_of
from throttled.facts import Facts
from throttled.model import Event, Message

CAP = 200_000
#: Accounts whose names are remembered as first written; recipients that an alias forwards.
_NAMES = 50_000
#: Domains that this host delivers for, learnt from its deliveries.
_DOMAINS = 10_000
#: Messages at a filter, and sessions with one before the queue.
_FILTERED = 20_000
#: Filters that are behind each other.
_CHAIN = 8

#: What a message counts that is sent.
_SENT: tuple[Counted, ...] = ("messages", "recipients", "bytes")
_Uses = tuple[Use, ...]
_NOBODY: _Uses = ()


class Queue:
    """The messages in the queue, and whose each is."""

    def __init__(self, facts: Facts, cap: int = CAP) -> None:
        """Begin with an empty table."""
        self._owners = Owners(cap)
        self._pending = Pending()
        self._names: dict[str, str] = {}
        self._hosted: set[str] = set()
        self.mailboxes = Mailboxes()
        #: Queue ids and recipients that an alias forwards, which a filter's line no longer says.
        self._forwarded: Generations[tuple[str, str], bool] = Generations(inf, _NAMES)
        #: Queue ids at a filter, and those under which it handed them back.
        self._seconds: Generations[str, list[str]] = Generations(inf, _FILTERED)
        #: Whose the latest message was of each smtpd with a filter before the queue.
        self._sessions: Generations[tuple[str, int], Owner] = Generations(inf, _FILTERED)
        self._filtered = False  # a filter on this host hands messages back without XFORWARD
        self.facts(facts)
        self._actions: dict[str, Callable[[Event, Message], _Uses]] = {
            "policy_request": self._policy_request,
            "login": self._login,
            "accepted": self._accepted,
            "proxied": self._proxied,
            "queued": self._queued,
            "active": self._active,
            "delivery": self._delivery,
            "removed": self._removed,
        }

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def evicted(self) -> int:
        """Return how many entries were evicted at the cap."""
        return self._owners.evicted

    def facts(self, facts: Facts) -> None:
        """Learn what changed on this host."""
        self._here = Place((*LOOPBACK, *facts.own))
        self._filters = Place((*LOOPBACK, *facts.own, *facts.xforward))
        self._inside = Place(facts.mynetworks)
        self._local_domain = facts.sasl_domain
        self.mailboxes.delimiters = facts.delimiters
        self.mailboxes.pipes = facts.pipes

    def clear(self) -> None:
        """Evict everything, names of accounts too."""
        self._owners.clear()
        self._pending = Pending()
        for table in (self._forwarded, self._seconds, self._sessions):
            table.clear()
        self._names.clear()
        self.mailboxes.clear()

    def step(self, event: Event) -> _Uses:
        """Take one event; return what its subjects did."""
        action = self._actions.get(event.kind)
        message = event.message
        if action is None or message is None:
            return _NOBODY
        uses = _NOBODY
        if self._pending:
            while queue_id := self._pending.due(event.time):
                uses += self._settle(queue_id)
        return uses + action(event, message)

    def subject(self, queue_id: str) -> str:
        """Return whose a message is; "" = nobody's, or not known."""
        owner = self._owners.get(queue_id)
        return "" if owner is None else owner.subject

    def inside(self, client: str) -> bool:
        """Return whether a client is within mynetworks."""
        return client in self._inside

    def learn(self, queue_id: str, login: str, client: str, sender: str) -> bool:
        """Learn whose a message is from its queue file; return whether it is somebody's.

        It was counted when it was queued. A client at an address of this host may be a filter.
        """
        if not sender or self._owners.get(queue_id) is not None:
            return False
        subject = self._account(login) if login else client
        if not login and (client in self._here or client not in self._inside):
            return False
        self._owners.put(queue_id, Owner(subject, counted=True))
        return True

    def counted(self, subject: str) -> str:
        """Return a canonical subject that an operator wrote as it is counted here."""
        return subjects.counted(subject, self._local_domain)

    def spellings(self, subject: str) -> list[str]:
        """Return the canonical subjects that are counted here as this one is."""
        return subjects.spellings(subject, self._local_domain)

    def shown(self, subject: str) -> str:
        """Return a subject as its name was first written."""
        return self._names.get(subject, subject)

    # A method for each kind of event

    def _policy_request(self, event: Event, message: Message) -> _Uses:
        """Count a message that smtpd asks about: now, not at `active`, so that it is in time."""
        client, queue_id = event.client, message.queue_id
        if event.user:
            subject = self._account(subjects.from_log(event.user))
        else:
            subject = client if client in self._inside and client not in self._filters else ""
        if not (subject and queue_id and message.sender):
            return _NOBODY
        known = self._owners.get(queue_id)
        if known is None or known.counted:  # a short id that is used again
            known = Owner(subject, asked="early")
        elif known.asked:
            return _NOBODY
        else:
            known = known._replace(asked="asked")
        domain = self._domain(message)
        if known.subject == subject:  # whose a message is the log says
            self._owners.put(queue_id, known._replace(domain=domain))
        return uses_of((subject, domain), message, ("messages", "recipients"))

    def _login(self, event: Event, message: Message) -> _Uses:
        subject = self._account(subjects.from_log(event.user))
        uses = self._queue(event, message.queue_id, Owner(subject))
        network = network_of(event.client) or event.client
        return (*uses, Use(subject, "networks", 1, network))

    def _accepted(self, event: Event, message: Message) -> _Uses:
        client = event.client
        if message.previous and client in self._filters:
            uses = self._queue(event, message.queue_id, None)
            if self._owners.get(message.previous) is not None:
                self._follow(message.previous, message.queue_id)
            elif client in self._here:
                # A stranger's; or of postsuper -r: XFORWARD has the id from before, the answer not.
                self._owners.put(message.queue_id, Owner("", state="here"))
            return uses
        if client in self._here:
            return self._queue(event, message.queue_id, Owner(client, state="here"))
        return self._queue(
            event, message.queue_id, Owner(client) if client in self._inside else None
        )

    def _proxied(self, event: Event, message: Message) -> _Uses:
        again = self._owners.get(message.following)
        owner = self._sessions.pop((event.host, event.pid))
        if again is None or again.state != "here":
            return _NOBODY
        self._filtered = True
        if owner is None:  # a stranger's
            self._drop(message.following)
            return _NOBODY
        self._give(message.following, owner)
        return self._settle(message.following)

    def _queued(self, event: Event, message: Message) -> _Uses:
        if not message.previous:
            return self._queue(event, message.queue_id, Owner(subjects.uid(message.uid)))
        # postsuper -r: the uid is that of the queue file
        uses = self._settle(message.previous)
        owner = self._owners.pop(message.previous)
        return uses + self._queue(event, message.queue_id, owner)

    def _active(self, event: Event, message: Message) -> _Uses:
        queue_id = message.queue_id
        owner = self._owners.get(queue_id)
        if owner is None:
            return _NOBODY
        if not message.sender:
            self._owners.pop(queue_id)
            return _NOBODY
        if owner.counted:
            return _NOBODY
        if owner.state == "here":
            self._pending.add(event, message)
            return _NOBODY
        domain = self._domain(message)
        counted: tuple[Counted, ...] = ("bytes",) if owner.asked else _SENT
        self._owners.change(queue_id, owner._replace(counted=True, domain=domain, asked=""))
        return uses_of((owner.subject, domain), message, counted)

    def _delivery(self, event: Event, message: Message) -> _Uses:
        if message.following and message.relay in self._filters:
            self._handed_over(event, message)
            return _NOBODY
        mailbox = self.mailboxes.learn(event, message)
        if message.status == "sent":
            return self._received(event, message, mailbox) if mailbox else _NOBODY
        owner = self._owners.get(message.queue_id)
        counted = judge(event) if owner is not None else ""
        if owner is None or not counted:
            return _NOBODY
        if owner.state:
            self._pending.add(event, message)
            return _NOBODY
        if self._forwarded.get((message.queue_id, message.recipient)):
            return _NOBODY
        named = filter(None, (owner.subject, owner.domain))
        return tuple(Use(subject, counted, event.count) for subject in named)

    def _removed(self, event: Event, message: Message) -> _Uses:
        queue_id = message.queue_id
        owner = self._owners.get(queue_id)
        waits = self._pending.get(queue_id) is not None
        if waits or (owner is not None and owner.state and self._seconds.get(queue_id)):
            self._pending.removed(queue_id, event)
            return _NOBODY
        return self._end(queue_id)

    # What these share

    def _account(self, login: str) -> str:
        """Return the subject of a login, and remember it as first written."""
        subject = subjects.account(login, self._local_domain)
        shown = self._names.get(subject)
        if shown is None:
            if len(self._names) >= _NAMES:
                self._names.clear()
            shown = self._names[subject] = f"account:{login}"
        return shown if shown == subject else subject  # one string for all of its messages

    def _domain(self, message: Message) -> str:
        """Return the domain of a sender if it is hosted here."""
        domain = subjects.domain(subjects.from_log(message.sender or ""))
        return domain if domain in self._hosted else ""

    def _queue(self, event: Event, queue_id: str, owner: Owner | None) -> _Uses:
        """Learn whose a new message is; None = nobody's. Short queue ids are used again."""
        if not queue_id:
            key = event.host, event.pid
            if owner is None or owner.state:
                self._sessions.pop(key)
            else:
                self._sessions.put(key, owner, event.time)
            return _NOBODY
        uses = self._settle(queue_id) if self._pending else _NOBODY
        if owner is None:
            self._owners.pop(queue_id)
            return uses
        known = self._owners.get(queue_id)
        if known is not None and known.asked == "early" and known.subject == owner.subject:
            owner = known._replace(asked="asked")
        self._owners.put(queue_id, owner)
        return uses

    def _handed_over(self, event: Event, message: Message) -> None:
        """Learn what a filter answered, of each recipient."""
        first, second = message.queue_id, message.following
        if forwarded(message.original, message.recipient):
            self._forwarded.put((second, message.recipient), True, event.time)
        again = self._owners.get(second)
        if again is None or not again.state or message.relay not in self._here:
            return
        owner = self._owners.get(first)
        self._filtered |= again.state == "here" and again.subject != ""
        if again.state == "here" or owner is None or owner.subject != again.subject:
            self._follow(first, second)

    def _follow(self, first: str, second: str) -> None:
        """Join the id under which a filter queued a message again to its first."""
        owner = self._owners.get(first)
        if owner is None:  # a stranger's
            self._drop(second)
            return
        seconds = self._seconds.get(first)
        if seconds is None:
            self._seconds.put(first, [second], 0.0)
        else:
            seconds.append(second)
        self._give(second, owner._replace(counted=True, state="again"))

    def _give(self, queue_id: str, owner: Owner, filters: int = 0) -> None:
        """Learn whose a message is, and so those that filters behind the filter handed back."""
        self._owners.put(queue_id, owner)
        for one in self._seconds.get(queue_id) or ():
            known = self._owners.get(one)
            if filters < _CHAIN and known is not None and known.state == "again":
                self._give(one, owner._replace(counted=True, state="again"), filters + 1)

    def _settle(self, queue_id: str) -> _Uses:
        """Count what waited until it is known whose a message is."""
        waiting = self._pending.pop(queue_id)
        owner = self._owners.get(queue_id)
        if owner is None:
            return _NOBODY
        filtered = self._filtered and self._seconds.get(queue_id) is None
        if owner.state == "here" and (filtered or not owner.subject):
            self._drop(queue_id)  # from a program here, or a filter whose answer is not understood
            return _NOBODY
        if owner.state:
            self._owners.change(queue_id, owner._replace(state=""))
        if waiting is None:
            return _NOBODY
        uses = _NOBODY
        for event, message in waiting.events:
            uses += self._actions[event.kind](event, message)
        return uses + self._end(queue_id) if waiting.removed else uses

    def _drop(self, queue_id: str) -> None:
        """Learn that a message is nobody's, and so are those that a filter handed back for it."""
        self._owners.pop(queue_id)
        self._pending.pop(queue_id)
        for one in self._seconds.pop(queue_id) or ():
            owner = self._owners.get(one)
            if owner is not None and owner.state == "again":
                self._drop(one)

    def _end(self, queue_id: str) -> _Uses:
        """Remove a message, and settle those that a filter handed back for it."""
        self._owners.pop(queue_id)
        uses = _NOBODY
        for second in self._seconds.pop(queue_id) or ():
            owner = self._owners.get(second)
            if owner is not None and owner.state == "again":
                uses += self._settle(second)
        return uses

    def _received(self, event: Event, message: Message, mailbox: str) -> _Uses:
        """Count a message for the mailbox that it was delivered to."""
        domain = subjects.domain(subjects.from_log(message.recipient))
        if domain and len(self._hosted) < _DOMAINS:
            self._hosted.add(domain)
        received = Use(mailbox, "messages", event.count)
        return (received, Use(domain, "received", event.count)) if domain else (received,)
