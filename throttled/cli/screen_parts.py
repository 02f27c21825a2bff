"""Parts of the screen of `throttled top`: its dialogs, and what its rows show. Owns no state."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from throttled.cli import output
from throttled.control.results import Worst
from throttled.model import Decision

HELP = """\
throttled top

  b        ban the client under the cursor, once confirmed
  u        unban it
  a        allow it: never act on it
  e Enter  explain it
  /        search: only rows with the text in address, host name, limit
           or reason; Enter explains an address; Escape ends the search
  Tab      the other table
  ?        this help
  q        quit

Upper table: clients and senders nearest to a threshold, or furthest
above it, among those of the latest lines that counted. NOW is the value
of the limit; above SOFT a client is throttled, above HARD banned.
Lower table: the latest decisions.

  # ban        all packets to the ports of the scope are dropped
  ~ throttle   new connections above a rate are dropped
  = exempt     networks around it do not apply to it

Left: events a second. Right: packets dropped a second, since this
screen was opened; packets dropped and bans in the latest 48 hours.

From 120 columns on the tables have host names, since when, and why.
"""

#: Signs and colours of actions: they differ without colour too.
_SIGNS = {"ban": ("#", "red"), "throttle": ("~", "yellow"), "exempt": ("=", "green")}
#: Colours by what a cell with an action begins with.
_STYLES = {f"{sign} ": colour for sign, colour in _SIGNS.values()}

#: Characters shown of a subject: the longest network has 43, names may have hundreds.
_SUBJECT = 45

#: Of a question: ten lines of a small terminal, more than the longest name has unescaped.
_QUESTION = 600

#: Titles of the tables: for narrow terminals, and for wide ones.
WORST = {
    False: ("WORST CLIENT", "ACTIVE", "LIMIT", "SCOPE", "NOW", "SOFT", "HARD"),
    True: (
        *("WORST CLIENT", "ACTIVE", "LIMIT", "SCOPE", "NOW", "SOFT", "HARD"),
        *("SINCE", "HOST NAME", "WHY"),
    ),
}
LATEST = {
    False: ("LATEST", "ADDRESS", "ACTION", "WHY"),
    True: ("LATEST", "ADDRESS", "ACTION", "SCOPE", "HOST NAME", "WHY"),
}


class Question(ModalScreen[bool]):
    """Asks whether a change is meant."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y,enter", "dismiss(True)", "yes"),
        ("n,escape,q", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        """Show the question."""
        # It names a client by its own words: these may be no commands to the terminal.
        shown = output.cut_to(_QUESTION, self.question)
        yield Label(Text(f"{shown}  [y]es [n]o", overflow="fold"))


class Reading(ModalScreen[None]):
    """Shows a text until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,e,enter,question_mark", "dismiss", "close"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Show the text."""
        with VerticalScroll():
            yield Static(Text(self.text))


def worst(row: Worst, would: str, *, wide: bool) -> tuple[str, ...]:
    """Return the cells of a client near a threshold."""
    meter = row.meter
    soft, hard = ("-" if n is None else output.short_number(n) for n in (meter.soft, meter.hard))
    value = output.short_number(meter.value)
    scope = output.scope(row.subject, meter.scope)
    action = signed(row.action, would) if row.action else ""
    subject = output.cut_to(_SUBJECT, row.subject)
    cells = (subject, action, meter.limit, scope, value, soft, hard)
    if not wide:
        return cells
    since = output.moment(row.since).partition(" ")[2] if row.since else ""
    return (*cells, since, output.cut_to(40, row.name), row.why)


def decision(row: Decision, would: str, *, wide: bool) -> tuple[str, ...]:
    """Return the cells of a decision."""
    when = output.moment(row.time).partition(" ")[2]
    cells = (when, output.cut_to(_SUBJECT, row.subject), signed(row.action, would))
    why = f"{row.limit}: {row.why}"
    if not wide:
        return (*cells, why)
    return (*cells, output.scope(row.subject, row.scope), output.cut_to(40, row.name), why)


def signed(action: str, would: str) -> str:
    """Return an action behind its sign."""
    sign = _SIGNS.get(action, (" ", ""))[0]
    return f"{sign} {would}{action}"


def cell(text: str) -> Text:
    """Return a cell, printable; actions in their colour."""
    return Text(output.printable(text), no_wrap=True, style=_STYLES.get(text[:2], ""))
