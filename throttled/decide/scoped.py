"""What is counted in one scope, and who crossed a limit there. Pure: no clock, no I/O.

Crossings are kept for each subject and limit: none hides another. They wait for the engine to take
them. What is active or was spared is known here, so that a client is not judged again by every
further line.

Failed logins of one session at one time are counted together: a log that is read behind has many.

Owns the gauges, what is active, the connections that postscreen hands over, and the crossings.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import nan
from typing import cast

from throttled.address import network_of
from throttled.decide.active import Active, Excuse
from throttled.decide.allowance import Kind
from throttled.decide.guessing import Guessing
from throttled.decide.limits import CountGauge, Gauges, NameGauge, pace
from throttled.decide.session import family
from throttled.decide.tables import Generations, digest
from throttled.decide.tried import Tried
from throttled.model import Action, Crossing, Event, Rate, Scope
from throttled.settings import GUESSING, Policy

_DAY = 86400.0
#: Between PASS of postscreen and `connect` of smtpd for the same connection.
_HANDOVER = 60.0


class _Failures:
    """Failed logins of one session at one time."""

    __slots__ = ("accounts", "count", "latest", "names")

    def __init__(self) -> None:
        self.latest: Event
        self.count = 0
        self.names: list[bytes] = []  # see `tables.digest`
        self.accounts: list[tuple[str, int]] = []  # with how many each


class Scoped:
    """The state of one scope."""

    def __init__(
        self,
        policy: Policy,
        scope: Scope,
        guessing: Guessing,
        peaks: int = 0,
        *,
        behind: bool = False,
    ) -> None:
        """Begin with nothing counted.

        Args:
            policy: its limits.
            scope: it.
            guessing: counts failed logins against their accounts, of all scopes.
            peaks: see `Gauges.of`.
            behind: of clients behind a proxy: what they do says nothing of who sends packets here.
        """
        self.scope = scope
        self.guessing = guessing
        self.behind = behind
        self.gauges = Gauges.of(policy, scope, peaks)
        self.screening = False  # whether there is a postscreen that hands connections over
        self.handover: Generations[str, int] = Generations(_HANDOVER, policy.max_clients)
        self.active = Active(policy.max_clients)
        #: The latest moment known, where that is not the latest line's, see `Engine.now`.
        self.now = 0.0
        #: Makes tags of user names and collects them; None: this host is in no fleet.
        self.tried: Tried | None = None
        self._policy = policy
        #: Failed logins that are not counted yet, by session, and when they happened.
        self._failures: dict[tuple[str, int, int], _Failures] = {}
        self._failed_at = nan
        self._pending: dict[tuple[str, str], Crossing] = {}  # by subject and limit
        self._further: dict[tuple[str, int, int], Crossing] = {}  # by session
        #: Clients that failed on accounts under attack; those of them that logged in since.
        self._accused: Generations[str, bool] = Generations(_DAY, policy.max_clients)
        self._acquitted: list[str] = []

    def adopt(self, before: "Scoped") -> None:
        """Take over all that another policy leaves as it is."""
        before.flush()
        self.active, self.now, self.tried = before.active, before.now, before.tried
        self.screening, self.handover = before.screening, before.handover
        self._pending, self._further = before._pending, before._further  # noqa: SLF001 - its own
        self._accused, self._acquitted = before._accused, before._acquitted  # noqa: SLF001
        self.gauges.adopt(before.gauges)

    def hold(  # noqa: PLR0913 - see `Engine.hold`
        self,
        subject: str,
        action: Action,
        until: float,
        at: float,
        *,
        enforced: bool,
        rate: Rate | None,
    ) -> None:
        """Learn what is active against a subject, see `Engine.hold`."""
        if action == "ban":
            self.active.ban(subject, until, at, enforced=enforced)
        elif action == "throttle":
            given = self._policy.throttle
            pace = given.rate / given.per if rate is None else rate.count / rate.per
            self.active.throttle(subject, until, at, pace)

    def excuse(self, crossing: Crossing, value: int, until: float, at: float) -> None:
        """Learn what was spared a subject in one limit, see `Engine.excuse`."""
        excuse = Excuse(crossing.action, value, until)
        self.active.excuse(crossing.subject, crossing.limit, excuse, at)

    def reset(self, subject: str) -> None:
        """Reset what a subject did."""
        self.flush()
        limits = {GUESSING}
        for gauge in self.gauges.all():
            limits.add(gauge.limit)
            gauge.table.pop(subject)
            gauge.networks.pop(subject)
        for limit in limits:
            self._pending.pop((subject, limit), None)
        self.active.reset(subject, limits)

    def reset_all(self) -> None:
        """Reset what all did."""
        self._failures = {}
        for gauge in self.gauges.all():
            gauge.table.clear()
            gauge.networks.clear()
        self.active.clear()
        self._pending = {}

    def drain(self) -> tuple[list[Crossing], list[Crossing], list[str]]:
        """Return what came since the last call.

        Returns:
            The crossings, those that only end their sessions, and the clients that were accused
            and logged in.
        """
        self.flush()
        drained = list(self._pending.values()), list(self._further.values()), self._acquitted
        self._pending, self._further, self._acquitted = {}, {}, []
        return drained

    def good(self, client: str, at: float, deliveries: int, logins: int) -> None:
        """Count good events of a client, and of its network."""
        self.flush()
        done: tuple[tuple[Kind, int], ...] = ("deliveries", deliveries), ("logins", logins)
        network = network_of(client)
        for kind, count in done:
            for table in self.gauges.good[kind].values() if count else ():
                table.add(client, at, count)
                if network:
                    table.add(network, at, count)

    def count(self, group: list[CountGauge], event: Event, at: float, count: int) -> int:
        """Count against a client and, beside it, against its network.

        What a client does above its own threshold is not added: no single address gets its network
        throttled. But what the network did is judged by that event as by any other, or addresses
        that stay above their own threshold would outlast the throttle of their network.
        """
        if count:
            client = event.client
            network = network_of(client)
            for gauge in group:
                value = gauge.table.add(client, at, count)
                if gauge.peaks is not None:
                    gauge.peaks.add(client, value)
                share, banned = count, False
                if value > gauge.least:
                    share = max(0, share - max(0, value - gauge.usual))
                    banned = self._weigh(gauge, client, value, at, event)
                if network and (share or not banned):
                    value = gauge.networks.add(network, at, share)
                    if value > gauge.network_least:
                        self._weigh(gauge, network, value, at, event)
        return count

    def fail(self, event: Event, account: str, at: float) -> int:
        """Note failed logins, to be counted with those of the same session and time.

        Args:
            event: says how many.
            account: subject; "": no line names it.
            at: when.
        """
        if at != self._failed_at:
            self.flush()
            self._failed_at = at
        session = event.client, event.pid, event.port
        noted = self._failures.get(session)
        if noted is None:
            noted = self._failures[session] = _Failures()
        noted.latest = event
        noted.count += event.count
        if account:
            name = self.key(family(event.user) if event.text == _UNEXPLAINED else event.user)
            if self.tried is not None:  # then it is a tag, see `key`
                self.tried.add(event.client, self.scope, cast("int", name), at)
            noted.names.append(digest(name))
            noted.accounts.append((account, event.count))
        return event.count

    def flush(self) -> None:
        """Count what `fail` noted."""
        if self._failures:
            failures, self._failures = self._failures, {}
            at = self._failed_at
            for noted in failures.values():
                if noted.names:
                    self._names(noted.latest, at, noted.names)
                    self._guesses(noted.latest, at, noted.accounts)
                self.count(self.gauges.auth_failures, noted.latest, at, noted.count)

    def _guesses(self, event: Event, at: float, failures: list[tuple[str, int]]) -> None:
        """Count failed logins against their accounts; against the client, if these are attacked."""
        found = self.guessing.failed(event.client, at, failures)
        if found:
            self.accuse(event.client, event, at, found[-1][1])
        for account, value in reversed(found):
            network = self.guessing.network(account, event.client)
            if network:
                self.accuse(network, event, at, value)
                return

    def _names(self, event: Event, at: float, names: list[bytes]) -> None:
        """Count the user names that a client tried in a session."""
        client = event.client
        network = network_of(client)
        for gauge in self.gauges.auth_users:
            values = gauge.table.add_all(client, at, names)
            value = values[-1]
            if gauge.peaks is not None:
                gauge.peaks.add(client, value)
            together, banned = 0, False
            if value > gauge.least:
                banned = self._weigh(gauge, client, value, at, event)
            # What a client does above its own threshold is not added, see `count`.
            below = names[: bisect_right(values, gauge.least)]
            if network and below:
                together = gauge.networks.add_all(network, at, below)[-1]
            elif not banned:
                together = gauge.networks.value(network, at)
            if together > gauge.network_least:
                self._weigh(gauge, network, together, at, event)

    def key(self, name: str) -> str | int:
        """Return under what a user name is counted."""
        return name if self.tried is None else self.tried.tag(name)

    def elsewhere(self, client: str, tags: Sequence[int], at: float, now: float) -> list[Crossing]:
        """Count user names that a client tried on another host, see `Engine.elsewhere`."""
        event = Event("auth_failure", client, "", "", 0, 0.0)
        before, self._pending = self._pending, {}
        for gauge in self.gauges.auth_users:
            for tag in tags if at > now - gauge.within else ():
                value = gauge.table.add(client, at, tag)
                if gauge.peaks is not None:
                    gauge.peaks.add(client, value)
            value = gauge.table.value(client, now)
            if value > gauge.least:
                self._weigh(gauge, client, value, now, event)
        found, self._pending = list(self._pending.values()), before
        return found

    def subtract(self, group: list[CountGauge], client: str, then: float, count: int) -> None:
        """Take back what was counted at a time, against a client and its network."""
        self.flush()
        network = network_of(client)
        for gauge in group:
            gauge.table.subtract(client, then, count)
            gauge.networks.subtract(network, then, count)

    def accuse(self, subject: str, event: Event, at: float, value: int) -> None:
        """Note a failed login on an account under attack.

        The throttle for it is slow, so what a client continues doing ends its session.

        Args:
            subject: the client, or its /64.
            event: the failure.
            at: when.
            value: on how many accounts under attack it failed.
        """
        noted = self._pending.get((subject, GUESSING))
        session = value, event.pid, event.port
        if noted is not None and (noted.value, noted.pid, noted.port) == session:
            return  # it continues
        settings = self._policy.guessing
        bans = value >= settings.accounts
        action: Action = "ban" if bans else "throttle"
        now = max(at, self.now)
        known = self.active.get(subject)
        if known is not None and now < known.banned_until:
            return
        crossing = Crossing(
            subject,
            self.scope,
            GUESSING,
            action,
            value,
            settings.accounts - 1 if bans else 0,
            float(settings.within),
            "guesses",
            event.name,
            (),
            event.pid,
            event.port,
        )
        slow = pace(self._policy, settings.throttle)
        if not bans and known is not None and now < known.throttled_until and known.pace <= slow:
            if subject == event.client and slow < pace(self._policy, None):
                self._further[subject, event.pid, event.port] = crossing
        elif not self.active.excuses(subject, GUESSING, action, value, now):
            self._pending[subject, GUESSING] = crossing
            self._accused.put(subject, True, at)

    def acquit(self, client: str) -> None:
        """Learn of a login: what the client failed before accuses it no more."""
        for subject in (client, network_of(client)):
            self._pending.pop((subject, GUESSING), None)
        if self._accused.pop(client):
            self._acquitted.append(client)

    def _weigh(
        self,
        gauge: CountGauge | NameGauge,
        subject: str,
        value: int,
        at: float,
        event: Event,
    ) -> bool:
        """Note a crossing, unless that much is active, was spared or is recorded already.

        A slow throttle counts connections, but each may have 20 tries and last for hours: where a
        limit has a rate of its own, what a client continues doing above it ends its session.

        Returns:
            Whether the subject is banned already.
        """
        active = self.active
        now = max(at, self.now)
        known = active.get(subject)
        if known is not None and now < known.banned_until:
            return True
        plain_soft, plain_hard = gauge.plain(subject)
        pace = gauge.paces[subject is not event.client]
        throttled = known is not None and now < known.throttled_until and known.pace <= pace
        if throttled and value <= plain_hard and not gauge.slow:
            return False
        soft, hard, good = gauge.thresholds(subject, at)
        action: Action = "ban" if value > hard else "throttle"
        threshold, plain = (hard, plain_hard) if action == "ban" else (soft, plain_soft)
        further = throttled and action == "throttle"
        if value <= threshold or (
            not (gauge.slow and subject is event.client)
            if further
            else active.excuses(subject, gauge.limit, action, value, now)
        ):
            return False
        crossing = Crossing(
            subject,
            gauge.scope,
            gauge.limit,
            action,
            value,
            threshold,
            gauge.within,
            "handshakes" if gauge.kernel else gauge.count,
            "" if subject is not event.client else event.name,
            (),
            event.pid,
            event.port,
            plain,
            good,
        )
        key = (subject, gauge.limit)
        pending = self._pending.get(key)
        if further:
            self._further[subject, event.pid, event.port] = crossing
        elif pending is None or pending.action != "ban" or action == "ban":
            self._pending[key] = crossing
        return False


#: What Postfix writes where the authentication server gave no reason, overloaded or not.
_UNEXPLAINED = "(reason unavailable)"
