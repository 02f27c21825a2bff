"""Ends the open SMTP sessions of banned clients, and the session that earned its client a throttle.

Dropping packets is not enough: the server's side stays ESTABLISHED and holds an smtpd until
`smtpd_timeout`, 300 seconds; and a throttle counts new connections only, so a session that has
begun could continue for ever.

A session is ended only when the server has replied to all that the client sent. Between the final
dot of a message and its reply the client does not know that it was accepted, and would send
it again. Sessions with an outstanding reply are checked again every `AGAIN` seconds: of a
throttled client for `_THROTTLED` seconds; of a banned one for `_BANNED`, Postfix's own timeout
(its packets are dropped, so that the reply is the last that happens in its session). Two moments
cannot be seen: a dot that arrives between the check and the end, some microseconds; and a whole
BDAT that was sent along with MAIL and RCPT, if the replies to these are sent after it arrived.
Where command, reply and acknowledgement fall into one tick of the kernel (4 or 10 ms), their order
cannot be seen either: a reply then counts as outstanding until the client sends again.

Owns the list of sessions to check again.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from throttled.address import is_network, mask, parse, unpack
from throttled.enforce.sockets import Socket, destroy, opened
from throttled.model import Decision, Scope

AGAIN = 0.2
_THROTTLED, _BANNED = 5.0, 300.0

Ports = Mapping[Scope, Sequence[int]]

#: What is banned at one port: packed subjects, by their size in bytes and their prefix length.
_Subjects = dict[tuple[int, int], set[bytes]]


class Endings:
    """Ends sessions, at once or when the server has replied."""

    def __init__(self) -> None:
        """Touch nothing yet."""
        #: Identities of sessions with an outstanding reply, and until when to check them.
        self.pending: dict[bytes, float] = {}

    def end(
        self,
        decisions: Sequence[Decision],
        ports: Ports,
        at: float,
        spared: Callable[[str], object] = lambda _address: False,
    ) -> int:
        """End the sessions that decisions ask for, and check the pending ones again.

        Args:
            decisions: those that were applied.
            ports: the local ports of each scope.
            at: now, on the boot clock.
            spared: returns whether an address inside a banned network is protected.

        Returns:
            How many have ended.
        """
        banned = _by_port(((d.subject, d.scope) for d in decisions if d.action == "ban"), ports)
        causes = [d for d in decisions if d.action == "throttle" and (d.pid or d.port)]
        if not banned and not causes and not self.pending:
            return 0
        listening = {port for group in ports.values() for port in group}
        found = opened(listening)
        for session in found:
            subjects = banned.get(session.port)
            if subjects and _inside(subjects, session.far) and not spared(unpack(session.far)):
                self.pending[session.identity] = at + _BANNED
        for decision in causes:
            for session in _caused(decision, found, ports.get(decision.scope, ())):
                self.pending.setdefault(session.identity, at + _THROTTLED)
        return self._settle(found, at)

    def _settle(self, found: Iterable[Socket], at: float) -> int:
        sessions = [session for session in found if session.identity in self.pending]
        waits = [session for session in sessions if session.waits]
        self.pending = {
            session.identity: self.pending[session.identity]
            for session in sessions
            if not session.waits and self.pending[session.identity] > at
        }
        return destroy(waits) if waits else 0


def _by_port(subjects: Iterable[tuple[str, Scope]], ports: Ports) -> dict[int, _Subjects]:
    """Return what is banned at each port."""
    scopes: dict[Scope, _Subjects] = {}
    for subject, scope in subjects:
        packed, prefix = parse(subject)
        scopes.setdefault(scope, {}).setdefault((len(packed), prefix), set()).add(packed)
    return {port: banned for scope, banned in scopes.items() for port in ports.get(scope, ())}


def _inside(subjects: _Subjects, far: bytes) -> bool:
    return any(
        size == len(far) and mask(far, prefix) in packed
        for (size, prefix), packed in subjects.items()
    )


def _caused(decision: Decision, found: Iterable[Socket], ports: Iterable[int]) -> list[Socket]:
    """Return the session that led to a decision.

    It is known by the client's port, where Postfix logs it, or by the sockets of its smtpd, where
    /proc may be read: the packaged unit's sandbox forbids it (no CAP_SYS_PTRACE). Else
    it is the only session of the client, or all of its sessions that wait for it now; of a network
    none.
    """
    packed, prefix = parse(decision.subject)
    listening = set(ports)
    subjects = {(len(packed), prefix): {packed}}
    sessions = [s for s in found if s.port in listening and _inside(subjects, s.far)]
    if decision.port:
        return [session for session in sessions if session.far_port == decision.port]
    own = _sockets_of(decision.pid)
    if its := [session for session in sessions if session.inode in own]:
        return its
    if is_network(decision.subject):
        return []
    return sessions if len(sessions) == 1 else [session for session in sessions if session.waits]


def _sockets_of(pid: int) -> set[int]:
    """Return the inodes of a process's sockets; none where they cannot be read."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            links = [str(Path(entry.path).readlink()) for entry in entries]
    except OSError:
        return set()
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}
