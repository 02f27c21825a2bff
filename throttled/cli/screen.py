"""The screen of `throttled top`. Owns what it shows; all numbers are the daemon's.

The daemon is asked every few seconds, in a thread, because an answer may take long; a daemon that
does not answer is reported in the first line, and asked again. Rates are differences between two
answers. Text of clients goes through `printable`, and is never interpreted as markup.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from throttled import address
from throttled.cli import explained, output, overload
from throttled.cli import screen_parts as parts
from throttled.cli.screen_parts import Question, Reading
from throttled.control.requests import Allow, Ban, Explain, Request, Top, Unban
from throttled.control.results import ChangeResult, ExplainResult, StatusResult, TopResult
from throttled.errors import ThrottledError

#: Pictures in the sparkline; columns of a wide terminal.
_PAST, _WIDE = 60, 120
_KINDS = 8

Ask = Callable[[Any, Any], Any]


class Screen(App[None]):
    """The live view.

    Args:
        ask: sends a request to the daemon; takes the request and the type of its result.
        first: the first picture.
        every: seconds between two pictures.
    """

    TITLE = "throttled"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #health { height: 1; }
    #middle { height: auto; max-height: 9; }
    #rates { width: 30; height: auto; }
    #drops, #hours, #bans { width: 1fr; height: 2; }
    #search { height: 1; border: none; padding: 0; display: none; }
    #search.shown { display: block; }
    #right { width: 1fr; height: auto; }
    DataTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    Question, Reading { align: center middle; }
    Question Label { max-width: 95%; padding: 1 2; background: $panel; border: solid $warning; }
    Reading VerticalScroll { width: 95%; height: 90%; background: $panel; border: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("b", "ban", "ban"),
        ("u", "unban", "unban"),
        ("a", "allow", "allow"),
        ("e", "explain", "explain"),
        ("slash", "search", "search"),
        ("question_mark", "help", "help"),
        ("q", "quit", "quit"),
    ]

    def __init__(self, ask: Ask, first: TopResult, every: float) -> None:
        super().__init__()
        self._ask = ask
        self._every = every
        self._last = first
        self._past: deque[float] = deque([0.0] * _PAST, maxlen=_PAST)
        # Held, not looked up: while the screen is taken down there is nothing to be found.
        self._head = Static(id="head")
        self._health = Static(id="health")
        self._rates = Static(id="rates")
        self._dropped = Static(id="dropped")
        self._drops = Sparkline(list(self._past), id="drops")
        self._stored = Static(id="stored")
        self._hours = Sparkline(id="hours")
        self._banned = Static(id="banned")
        self._bans = Sparkline(id="bans")
        self._search = Input(id="search", placeholder="address, host name, limit, reason")
        self._wide: bool | None = None  # which columns the tables have; None: none yet
        self._worst: DataTable[Text] = DataTable(id="worst", cursor_type="row")
        self._latest: DataTable[Text] = DataTable(id="latest", cursor_type="row")

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield self._head
        yield self._health
        with Horizontal(id="middle"):
            yield self._rates
            with Vertical(id="right"):
                yield self._dropped
                yield self._drops
                yield self._stored
                yield self._hours
                yield self._banned
                yield self._bans
        yield self._worst
        yield self._latest
        yield self._search
        yield Footer()

    def on_mount(self) -> None:
        """Show the first picture, and take another every so often."""
        self.show(self._last)
        self._worst.focus()
        self.set_interval(self._every, self.look)

    def on_resize(self, _event: events.Resize) -> None:
        """Use the width that there is."""
        self._show_tables()

    @work(thread=True, exclusive=True, group="look")
    def look(self) -> None:
        """Ask the daemon what is now."""
        try:
            picture = self._ask(Top(), TopResult)
        except ThrottledError as error:
            self.call_from_thread(_put, self._head, error.message)
            self.call_from_thread(_put, self._health, error.hint)
            return
        self.call_from_thread(self.show, picture)

    def show(self, picture: TopResult) -> None:
        """Show a picture, unless the program ended while it was fetched."""
        if not self._worst.is_attached:
            return
        before, self._last = self._last, picture
        passed = picture.time - before.time
        status = picture.status
        verbs = ("would ban", "would throttle") if status.would else ("banned", "throttled")
        _put(
            self._head,
            f"throttled {status.version}  {status.backend}, {status.mode}  "
            f"up {output.lasting(status.uptime)}  "
            f"{verbs[0]} {output.number(sum(status.banned.values()))}  "
            f"{verbs[1]} {output.number(sum(status.throttled.values()))}  "
            f"clients {output.number(status.clients)}",
        )
        wrong = [f"{finding.label}: {finding.what}" for finding in status.health]
        _put(self._health, overload.short(status.overload) or (wrong[0] if wrong else "ok"))
        self._show_rates(before.status, status, passed)
        self._show_tables()

    def _show_tables(self) -> None:
        """Show the rows that are searched for, with as many columns as there is room for."""
        wide, would = self.size.width >= _WIDE, "would " if self._last.status.would else ""
        if wide != self._wide:
            self._wide = wide
            for table, titles in (self._worst, parts.WORST), (self._latest, parts.LATEST):
                table.clear(columns=True)
                table.add_columns(*titles[wide])
        text = self._search.value.casefold()
        _fill(
            self._worst,
            {
                row.subject: parts.worst(row, would, wide=wide)
                for row in self._last.worst
                if _has(text, row.subject, row.name, row.meter.limit, row.why)
            },
        )
        _fill(
            self._latest,
            {
                f"{row.time} {row.action} {row.scope} {row.subject}": parts.decision(
                    row, would, wide=wide
                )
                for row in self._last.latest
                if _has(text, row.subject, row.name, row.limit, row.why, row.action)
            },
        )

    def _show_rates(self, before: StatusResult, now: StatusResult, passed: float) -> None:
        def rate(later: int, earlier: int) -> float:
            # A restart begins at zero; the first picture is compared with itself.
            return max(0, later - earlier) / passed if passed > 0 else 0.0

        rates = {
            kind: rate(count, before.events.get(kind, 0)) for kind, count in now.events.items()
        }
        kinds = sorted(rates, key=lambda kind: (-rates[kind], -now.events[kind]))[:_KINDS]
        lines = [f"{'lines/s':<19}{rate(now.lines, before.lines):>9,.1f}"]
        lines += [f"{kind:<19}{rates[kind]:>9,.1f}" for kind in kinds]
        _put(self._rates, "\n".join(lines))
        drops = rate(now.packets_dropped, before.packets_dropped)
        self._past.append(drops)
        dropped = output.number(now.packets_dropped)
        _put(self._dropped, f"packets dropped: {drops:,.0f}/s, {dropped} in all")
        self._drops.data = list(self._past)
        self._show_hours(would=now.would)

    def _show_hours(self, *, would: bool) -> None:
        """Draw what the store has of the latest hours."""
        drops = [hour.drops for hour in self._last.hours]
        bans = [hour.bans for hour in self._last.hours]
        what = "would be banned" if would else "bans"
        _put(self._stored, f"by hour, {len(drops)} h: {output.number(sum(drops))} packets dropped")
        _put(self._banned, f"by hour, {len(bans)} h: {output.number(sum(bans))} {what}")
        self._hours.data, self._bans.data = list(map(float, drops)), list(map(float, bans))

    # Keys

    def action_help(self) -> None:
        """Show what the keys, columns and signs mean."""
        self.push_screen(Reading(parts.HELP))

    def action_search(self) -> None:
        """Ask for a text that rows must have."""
        self._search.add_class("shown")
        self._search.focus()

    def on_key(self, event: events.Key) -> None:
        """End the search at Escape."""
        if event.key == "escape" and self._search.has_class("shown"):
            self._search.value = ""
            self._search.remove_class("shown")
            self._worst.focus()

    @on(Input.Changed)
    def _searched(self) -> None:
        self._show_tables()

    @on(Input.Submitted)
    def _entered_text(self, event: Input.Submitted) -> None:
        """Go to the rows that were found; explain an address, listed or not."""
        text = event.value.strip()
        self._worst.focus()
        if address.is_subject(text):
            self._explain(text)

    def chosen(self) -> str | None:
        """Return the address under the cursor of the table that has the focus."""
        table = self.focused
        if not isinstance(table, DataTable) or not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        # Names may have blanks; what is before them in keys of the latest decisions has none.
        return str(key) if table is self._worst else str(key).split(" ", 3)[3]

    def action_ban(self) -> None:
        """Ban the address under the cursor, once confirmed."""
        self._change("ban", Ban)

    def action_unban(self) -> None:
        """Lift throttle and ban of the address under the cursor, once confirmed."""
        self._change("unban", Unban)

    def action_allow(self) -> None:
        """Never act on the address under the cursor again, once confirmed."""
        self._change("never act on", Allow)

    def action_explain(self) -> None:
        """Show all that is known of the address under the cursor."""
        if (subject := self.chosen()) is not None:
            self._explain(subject)

    @on(DataTable.RowSelected)
    def _entered(self) -> None:
        self.action_explain()

    def _change(self, verb: str, request: Callable[[str], Request]) -> None:
        if (subject := self.chosen()) is None:
            return

        def answered(meant: bool | None) -> None:  # noqa: FBT001 - textual's callback
            if meant:
                self._send(request(subject))

        self.push_screen(Question(f"{verb} {subject}?"), answered)

    @work(thread=True)
    def _send(self, request: Request) -> None:
        try:
            message = self._ask(request, ChangeResult).message
        except ThrottledError as error:
            message = f"{error.message}. {error.hint}"
        self.call_from_thread(self.notify, output.printable(message), markup=False)
        self.call_from_thread(self.look)

    @work(thread=True)
    def _explain(self, subject: str) -> None:
        try:
            lines = list(explained.explain(self._ask(Explain(subject), ExplainResult)))
        except ThrottledError as error:
            lines = [error.message, error.hint]
        shown = "\n".join(output.printable(line) for line in lines)
        self.call_from_thread(self.push_screen, Reading(shown))


def _put(where: Static, text: str) -> None:
    lines = [output.printable(line) for line in text.split("\n")]
    where.update(Text("\n".join(lines), no_wrap=True))


def _fill(table: DataTable[Text], rows: dict[str, tuple[str, ...]]) -> None:
    """Show other rows; the cursor of the table in use stays on its row, wherever that is now.

    The other table shows its top: following a row there would hide what came above it.
    """
    in_use = table.screen.focused is table
    place = table.cursor_row if in_use else 0
    if in_use and table.row_count:
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        place = list(rows).index(key) if key in rows else min(place, len(rows) - 1)
    table.clear()
    for key, cells in rows.items():
        table.add_row(*map(parts.cell, cells), key=key)
    table.move_cursor(row=max(0, place), animate=False)


def _has(text: str, *fields: str) -> bool:
    """Return whether a text, in lower case, is in one of some fields."""
    return any(text in field.casefold() for field in fields)
