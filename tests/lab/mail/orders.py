"""Messages through content filters, and the orders in which Postfix's daemons may log them.

Lines of one process are in order, and what causes a line comes before it. All else is free: a
second queue id may bounce and be removed before the filter's answer is logged.
"""

from collections import Counter
from random import Random

from hypothesis import strategies as st

CLIENTS = {"program": "127.0.0.1", "device": "198.51.100.9", "stranger": "203.0.113.9"}
ORIGINS = ["account", "proxied account", "proxied stranger", *CLIENTS]
#: A recipient, how an alias made it of another, and whether it bounces.
RECIPIENTS = {
    "dead": ("x@example.net", "", True),
    "forwarded": ("y@example.net", "orig_to=<list@x.test>, ", True),
    "well": ("z@example.net", "", False),
}
#: What smtpd writes of a filter's XFORWARD; after `postsuper -r` it is a queue id from before.
XFORWARD = {"xforward": ", orig_queue_id={}", "answer": "", "stale": ", orig_queue_id=0A0C01F0B"}
ID = "{:d}A5C01F{:d}B"


class Message:
    """A message on its way: the lines of its processes, and what each comes after."""

    def __init__(self, number: int, origin: str, filters: list[str], kinds: list[str]) -> None:
        self.origin, self.filters = origin, filters
        # Two filters and an alias: what comes after the second does not say so.
        self.kinds = [kind for kind in kinds if kind != "forwarded" or len(filters) < 2]
        self.kinds = self.kinds or ["dead"]
        self.ids = [ID.format(step, number) for step in range(len(filters) + 1)]
        self.lines: list[tuple[str, set[int]]] = []
        if origin.startswith("proxied"):
            self._behind_a_proxy(number)
        else:
            first = f"smtpd[1]: {self.ids[0]}: client=x[{CLIENTS.get(origin, '203.0.113.7')}]"
            self._queued(0, self._line(first + self._login()))

    def _login(self) -> str:
        return ", sasl_method=PLAIN, sasl_username=alice" if "account" in self.origin else ""

    def _line(self, body: str, *after: int) -> int:
        self.lines.append((body, set(after)))
        return len(self.lines) - 1

    def _behind_a_proxy(self, number: int) -> None:
        pid = 100 + number
        begin = self._line(f"smtpd[{pid}]: NOQUEUE: client=x[203.0.113.7]{self._login()}")
        client = self._line(f"smtpd[9]: {self.ids[0]}: client=localhost[127.0.0.1]", begin)
        answer = f"250 2.0.0 Ok: queued as {self.ids[0]}; from=<a@x.test> to=<b@x.test>"
        self._line(f"smtpd[{pid}]: proxy-accept: END-OF-MESSAGE: {answer}", client)
        self._queued(0, client)

    def _queued(self, step: int, client: int) -> None:
        one, n = self.ids[step], len(self.kinds)
        body = f"qmgr[2]: {one}: from=<a@x.test>, size=4, nrcpt={n} (queue active)"
        active = self._line(body, client)
        done = [active]
        if step < len(self.filters):
            second = self.ids[step + 1]
            xforward = XFORWARD[self.filters[step]].format(one)
            again = self._line(f"smtpd[4]: {second}: client=x[127.0.0.1]{xforward}", active)
            self._queued(step + 1, again)
            for kind in self.kinds:
                said = f"dsn=2.0.0, status=sent (250 Ok: queued as {second})"
                done = [self._line(self._delivery("smtp", one, kind, said, step), again, *done)]
        else:
            for kind in self.kinds:
                bounces = RECIPIENTS[kind][2]
                said = f"dsn={'5.1.1, status=bounced' if bounces else '2.0.0, status=sent'} (x)"
                done.append(self._line(self._delivery("error", one, kind, said, step), active))
        self._line(f"qmgr[2]: {one}: removed", *done)

    @staticmethod
    def _delivery(process: str, one: str, kind: str, said: str, step: int) -> str:
        recipient, alias, _ = RECIPIENTS[kind]
        relay = "127.0.0.1[127.0.0.1]:10025" if process == "smtp" else "none"
        alias = "" if step else alias  # what comes after a filter does not say so again
        return f"{process}[3]: {one}: to=<{recipient}>, {alias}relay={relay}, delay=1, {said}"

    def expected(self, *, answers: bool) -> Counter[tuple[str, str]]:
        """Return what is its sender's.

        Args:
            answers: whether some message is known to be a filter's only by the filter's answer.
        """
        subject = CLIENTS.get(self.origin, "account:alice")
        unknown = self.origin == "program" and not self.filters and answers
        if unknown or self.origin in ("stranger", "proxied stranger"):
            return Counter()
        counted = {
            "messages": 1,
            "recipients": len(self.kinds),
            "bounces": self.kinds.count("dead"),
        }
        return Counter({(subject, name): n for name, n in counted.items() if n})

    def answered(self) -> bool:
        """Return whether a filter's answer is all that joins two of its queue ids."""
        return "proxied" in self.origin or "answer" in self.filters


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(ORIGINS),
        st.lists(st.sampled_from(sorted(XFORWARD)), max_size=2),
        st.lists(st.sampled_from(sorted(RECIPIENTS)), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=6,
)


def shuffled(messages: list[Message], random: Random) -> list[str]:
    """Return all lines in an order in which they may be logged."""
    lines, written = [], [set[int]() for _ in messages]
    while ready := [
        (number, place)
        for number, message in enumerate(messages)
        for place, (_, after) in enumerate(message.lines)
        if place not in written[number] and after <= written[number]
    ]:
        number, place = random.choice(ready)
        written[number].add(place)
        lines.append(messages[number].lines[place][0])
    return lines
