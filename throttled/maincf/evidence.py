"""What logs say of Postfix's limits: hits, and how high honest senders came. Pure.

Honest is who delivered mail or logged in. Owns counters with caps: `_CLIENTS` clients for each
measure and parameter; of further ones only the number is counted.
"""

import re

from msgspec import Struct, field

from throttled.maincf.parameter import Measure
from throttled.maincf.parameters import TABLE

_CLIENTS = 10_000
_SHOWN = 3

_HITS = [(re.compile(hit), parameter.name) for parameter in TABLE for hit in parameter.hits]
#: What a line has to contain to be looked at: most lines are of no interest here.
_WORTH = re.compile(
    r"limit|too many errors|timeout after|5\.3\.4|request longer|hopcount|4\.3\.1|SSL_accept"
    r"|improper|bare |busy|too many connections"
)
_DISCONNECT = re.compile(r"disconnect from \S{0,255}\[([0-9A-Fa-f.:]{3,45})\] (.*)")
_COUNTER = re.compile(r"(?<![^ ])([a-z_]{1,20})=([0-9]{1,9})(?:/([0-9]{1,9}))?(?= |\Z)")
_QUEUED = re.compile(
    r"\w{1,20}: from=<.*>, size=([0-9]{1,18}), nrcpt=([0-9]{1,9}) \(queue active\)"
)
_LOGIN = re.compile(r"\w{1,20}: client=\S{0,255}\[([0-9A-Fa-f.:]{3,45})\], sasl_method=")

#: What anvil(8) counts, and what it is here.
_PEAKS: dict[str, Measure] = {
    "connection count": "connections",
    "connection rate": "connection rate",
    "message rate": "message rate",
    "recipient rate": "recipient rate",
    "newtls rate": "newtls rate",
    "auth rate": "auth rate",
}


class Hits(Struct):
    """How often a limit was hit."""

    count: int = 0
    clients: dict[str, int] = field(default_factory=dict)

    def add(self, client: str) -> None:
        """Count one."""
        self.count += 1
        if client and (client in self.clients or len(self.clients) < _CLIENTS):
            self.clients[client] = self.clients.get(client, 0) + 1

    def most(self) -> list[tuple[str, int]]:
        """Return the clients that hit it most often."""
        return sorted(self.clients.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]


class Evidence(Struct):
    """What the lines of one instance say."""

    hits: dict[str, Hits] = field(default_factory=dict)
    #: By measure, then client ("" where the line names none).
    reached: dict[Measure, dict[str, int]] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)

    def read(self, process: str, body: str) -> None:
        """Take a line of one of the instance's daemons.

        Args:
            process: smtpd, postscreen, qmgr …
            body: what it wrote, behind the tag.
        """
        if process == "smtpd" and body.startswith("disconnect from "):
            if (" data=" in body or " bdat=" in body or " auth=" in body) and (
                match := _DISCONNECT.match(body)
            ):
                self._session(match[1], match[2])
        elif process == "smtpd" and (match := _LOGIN.match(body)):
            self._honest(match[1])
        elif process == "qmgr":
            if match := _QUEUED.fullmatch(body):
                self.note("size", "", int(match[1]))
                self.note("recipients", "", int(match[2]))
        elif process in ("smtpd", "postscreen", "cleanup", "master") and _WORTH.search(body):
            self._hit(body)

    def peak(self, what: str, client: str, value: int) -> None:
        """Note the highest that anvil(8) counted of a client: its `auth rate`, for example."""
        if what in _PEAKS:
            self.note(_PEAKS[what], client, value)

    def note(self, measure: Measure, client: str, value: int) -> None:
        """Note how high a client came."""
        of = self.reached.setdefault(measure, {})
        if client in of or len(of) < _CLIENTS:
            of[client] = max(value, of.get(client, 0))

    def highest(self, measure: Measure) -> tuple[int, str] | None:
        """Return the highest value of an honest client and its address; None if none is known."""
        found = [
            (value, client)
            for client, value in self.reached.get(measure, {}).items()
            if not client or client in self.good
        ]
        return max(found, default=None)

    def _honest(self, client: str) -> None:
        if len(self.good) < 10 * _CLIENTS:
            self.good.add(client)

    def _session(self, client: str, text: str) -> None:
        """Count the errors of a session that delivered."""
        commands = {
            found[1]: (int(found[2]), int(found[3] or found[2]))
            for found in _COUNTER.finditer(text)
        }
        delivered = sum(commands.get(name, (0, 0))[0] for name in ("data", "bdat"))
        if commands.get("auth", (0, 0))[0]:
            self._honest(client)
        if delivered:
            self._honest(client)
            done, total = commands.get("commands", (0, 0))
            self.note("errors", client, total - done)

    def _hit(self, body: str) -> None:
        for pattern, name in _HITS:
            if match := pattern.match(body):
                client = match["client"] if "client" in pattern.groupindex else ""
                self.hits.setdefault(name, Hits()).add(client)
                return
