"""`throttled report` as a page: one HTML file without scripts that loads nothing. Owns no state.

Its policy (Content-Security-Policy) allows this style sheet, by its hash, and nothing else.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib import resources
from xml.etree.ElementTree import Element, tostring

from throttled import __version__
from throttled.analysis.report import Count, Overview, headline
from throttled.cli import output
from throttled.cli.report_charts import bar, columns, element
from throttled.cli.report_text import COMPARED, CONNECTION, TITLES, change, current, period
from throttled.store.period import GoodSum, SubjectSum

#: A chart: title, its series with what the legend calls them (the class is the same word).
_CHARTS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Sessions",
        (("sessions_mx", "mx", "port 25"), ("sessions_submission", "submission", "submission")),
    ),
    ("Throttles and bans", (("throttles", "throttle", "throttles"), ("bans", "ban", "bans"))),
    ("Packets dropped by the kernel", (("drops", "drop", "packets"),)),
)
_OVERLOAD = ("Overload", (("overload", "overload", "times at the cap of connections"),))
#: Classes of columns by their title: times are left out where there is no room.
_CLASSES = {"last": "d"}
_TILES = ("sessions", "deliveries", "logins", "throttles", "bans", "drops")


def page(of: Overview) -> str:
    """Return the page."""
    style = resources.files("throttled.cli").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"throttled on {of.host}: {period(of)}"
    sheet = Element("style")
    sheet.text = style
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        sheet,
    )
    html = element("html", head, element("body", element("main", *_parts(of))), lang="en")
    return "<!DOCTYPE html>\n" + tostring(html, "unicode", "html") + "\n"


def _parts(of: Overview) -> Iterator[Element]:
    yield element(
        "header",
        element("h1", f"throttled on {of.host}, {period(of)}"),
        element("p", headline(of), class_="lead"),
    )
    tiles = [_tile(name, of.totals[name]) for name in _TILES]
    if of.has_overload:
        tiles.append(_tile("overload", of.totals["overload"]))
    yield element("div", *tiles, class_="tiles")
    if of.totals["sessions"].before is not None:
        yield _note(COMPARED)
    yield _good(of)
    charts = [*_CHARTS, _OVERLOAD] if of.has_overload else _CHARTS
    yield from (_chart(of, title, series) for title, series in charts)
    yield element("div", _limits(of), _networks(of), class_="pair")
    accounts = [_accounts(of)] if of.accounts or of.reported or of.senders else []
    yield element("div", _clients(of), *accounts, class_="pair")
    yield _footer(of)


def _tile(name: str, count: Count) -> Element:
    return element(
        "div",
        element("b", output.number(count.now)),
        element("span", TITLES[name]),
        element("span", change(count.now, count.before) or "\u00a0"),
        class_="tile",
    )


def _section(title: str, *content: Element, class_: str = "") -> Element:
    return element("section", element("h2", title), *content, class_=class_)


def _note(*content: Element | str) -> Element:
    return element("p", *content, class_="note")


def _chart(of: Overview, title: str, series: Sequence[tuple[str, str, str]]) -> Element:
    legend = element("span", class_="legend")
    for name, class_, text in series:
        total = output.number(of.totals[name].now)
        legend.append(element("span", element("i", class_=class_), f"{total} {text}"))
    counts = {class_: of.series[name] for name, class_, _ in series}
    return element(
        "section",
        element("div", element("h2", title), legend, class_="top"),
        columns(counts, of.since, of.slot, title),
        *([_spared(of)] if "drop" in counts else []),
    )


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Element | str]], *, bars: bool = False
) -> Element:
    """Return a table; a title that begins with `>` is that of numbers."""
    classes = ["n" if title.startswith(">") else _CLASSES.get(title, "") for title in head]
    if bars:
        classes[-1] = "bar"
    lines = [_row("th", [title.lstrip(">") for title in head], classes)]
    lines += [_row("td", row, classes) for row in rows]
    table = element("table", element("thead", lines[0]), element("tbody", *lines[1:]))
    return element("div", table, class_="wide")


def _row(tag: str, cells: Sequence[Element | str], classes: Sequence[str]) -> Element:
    made = [
        element(tag, cell, class_=name) if name else element(tag, cell)
        for cell, name in zip(cells, classes, strict=True)
    ]
    return element("tr", *made)


def _good(of: Overview) -> Element:
    would = "would have been " if of.would else "was "
    if not of.good_total:
        title = f"No good sender {would}throttled or banned"
        text = "Good: delivered mail or logged in within the 30 days before."
        return _section(title, _note(text), class_="good")
    were = "would have been " if of.would else "were "
    rows: list[tuple[Element | str, ...]] = [
        (
            _client(row),
            *map(output.number, (row.throttles, row.bans, row.deliveries, row.logins)),
            row.limit,
        )
        for row in of.good
    ]
    more = of.good_total - len(of.good)
    notes = [_note(f"And {more:,} more.")] if more else []
    return _section(
        f"Good senders that {were}throttled or banned: {of.good_total:,}",
        _table(("client", ">throttles", ">bans", ">mails", ">logins", "limit"), rows),
        *notes,
        _note(
            "Not abuse? ",
            element("code", "throttled explain ADDRESS"),
            " shows the log lines; ",
            element("code", "throttled allow ADDRESS"),
            " prevents it.",
        ),
        class_="bad" if of.good_banned else "",
    )


def _limits(of: Overview) -> Element:
    if not of.limits:
        return _section("By limit", _note("No limit was crossed."))
    most = max(row.throttles + row.bans for row in of.limits)
    rows = [
        (
            row.limit or "(others)",
            output.number(row.throttles),
            output.number(row.bans),
            "-" if row.before is None else output.number(row.before),
            bar({"throttle": row.throttles, "ban": row.bans}, most),
        )
        for row in of.limits
    ]
    head = ("limit", ">throttles", ">bans", ">a week before", "")
    return _section("By limit", _table(head, rows, bars=True))


def _networks(of: Overview) -> Element:
    if not of.networks:
        return _section("Worst networks", _note("None."))
    most = max(row.bans + row.throttles for row in of.networks)
    rows = [
        (
            row.network,
            output.number(row.clients),
            output.number(row.throttles),
            output.number(row.bans),
            bar({"throttle": row.throttles, "ban": row.bans}, most),
        )
        for row in of.networks
    ]
    head = ("network", ">clients", ">throttles", ">bans", "")
    return _section("Worst networks", _table(head, rows, bars=True))


def _clients(of: Overview) -> Element:
    if not of.clients:
        return _section("Worst clients", _note("None."))
    rows = [
        (
            _client(row),
            output.number(row.throttles),
            output.number(row.bans),
            output.moment(row.last)[5:16],
            row.limit,
        )
        for row in of.clients
    ]
    return _section(
        "Worst clients", _table(("client", ">throttles", ">bans", "last", "limit"), rows)
    )


def _client(row: SubjectSum | GoodSum) -> Element:
    named = [element("div", row.name, class_="note")] if row.name else []
    return element("div", row.subject, *named)


def _spared(of: Overview) -> Element:
    """Say what dropped packets would have cost."""
    drops = of.totals["drops"].now
    if of.would:
        return _note("Nothing was enforced.")
    return _note(
        f"{drops // CONNECTION:,} to {drops:,} connections needed no smtpd process: a client sends "
        f"its first packet up to {CONNECTION} times (Linux; others less often)."
    )


def _accounts(of: Overview) -> Element:
    parts: list[Element] = []
    rows: list[tuple[str, ...]]
    if of.accounts:
        rows = [
            (row.subject, output.number(row.throttles), output.number(row.bans), row.limit)
            for row in of.accounts
        ]
        parts.append(_table(("throttled or banned", ">throttles", ">bans", "limit"), rows))
    if of.reported:
        rows = [
            (
                r.shown,
                r.limit,
                output.number(r.times),
                output.number(r.highest),
                output.moment(r.last)[5:16],
            )
            for r in of.reported
        ]
        parts.append(_table(("reported", "limit", ">times", ">highest", "last"), rows))
    if of.senders:
        rows = [
            (row.subject, *map(output.number, (row.messages, row.recipients, row.bounces)))
            for row in of.senders
        ]
        parts.append(
            _table(("busiest, whole UTC days", ">messages", ">recipients", ">bounces"), rows)
        )
    return _section("Accounts and other senders", *parts)


def _footer(of: Overview) -> Element:
    footer = element("footer")
    if line := current(of):
        footer.append(element("p", line))
    more = f"throttled {__version__}; times are those of this host. More: "
    footer.append(element("p", more, element("code", "throttled report --help")))
    return footer
