"""Charts as inline SVG, and the elements of a page. Owns no state.

A page is a tree of elements, and its serialiser escapes every text and attribute: nothing that a
client wrote can become markup. Coordinates are in percent of a drawing without `viewBox`, so
that bars stretch with the page and the size of texts stays.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from throttled.cli.output import printable

_DAY = 86400.0
#: Percent of the height: where bars begin (above is the scale), and where they stand.
_TOP, _BASE = 10.0, 88.0
_LABELS = 8


def element(tag: str, *content: Element | str, **attributes: str) -> Element:
    """Return an element; what cannot be shown safely in its texts is escaped.

    Args:
        tag: its name.
        content: elements and texts.
        attributes: `class_` is `class`, other `_` are `-`.
    """
    made = Element(
        tag, {name.rstrip("_").replace("_", "-"): text for name, text in attributes.items()}
    )
    for each in content:
        if not isinstance(each, str):
            made.append(each)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(each)
        else:
            made.text = (made.text or "") + printable(each)
    return made


def columns(series: Mapping[str, Sequence[int]], since: float, slot: float, label: str) -> Element:
    """Return a chart of stacked columns, one for each slot of time.

    Args:
        series: counts by name, which is their class; the first stands at the bottom.
        since: wall clock, begin of the first slot.
        slot: seconds.
        label: what it shows, for those who do not see it.
    """
    length = len(next(iter(series.values())))
    sums = [sum(counts[i] for counts in series.values()) for i in range(length)]
    scale = _scale(max(sums))
    chart = element("svg", role="img", class_="chart")
    chart.append(element("title", f"{label}: {sum(sums):,} in all, at most {max(sums):,} at once"))
    chart.extend(_lines(scale))
    chart.extend(_times(since, slot, length))
    for i in range(length):
        counts = {name: values[i] for name, values in series.items()}
        chart.append(_column(counts, (i, length), scale, _when(since + i * slot, slot)))
    chart.extend(_values(scale))
    return chart


def bar(parts: Mapping[str, int], most: int) -> Element:
    """Return a horizontal bar of parts; `most` fills its width."""
    drawing = element("svg", class_="bar", aria_hidden="true")
    x = 0.0
    for name, count in parts.items():
        width = 100.0 * count / max(1, most)
        if count:
            drawing.append(_rect(name, x, 0.0, width, 100.0))
        x += width
    return drawing


def _column(counts: Mapping[str, int], position: tuple[int, int], scale: int, when: str) -> Element:
    """Return one column of a chart; `position`: its number, of how many."""
    number, length = position
    step = 100.0 / length
    texts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    group = element("g", element("title", f"{when}: {texts}"))
    group.append(_rect("hit", number * step, _TOP, step, _BASE - _TOP))
    base = _BASE
    for name, count in counts.items():
        if count:
            height = max(0.8, (_BASE - _TOP) * count / scale)  # seen, however small
            base -= height
            group.append(_rect(name, (number + 0.08) * step, base, 0.84 * step, height))
    return group


def _when(at: float, slot: float) -> str:
    until = time.strftime("%H:%M", time.localtime(at + slot))
    return f"{time.strftime('%a %Y-%m-%d %H:%M', time.localtime(at))} to {until}"


def _rect(name: str, x: float, y: float, width: float, height: float) -> Element:
    return element(
        "rect",
        class_=name,
        x=f"{x:.3f}%",
        y=f"{y:.2f}%",
        width=f"{width:.3f}%",
        height=f"{height:.2f}%",
    )


def _marked(scale: int) -> Iterator[tuple[int, str]]:
    """Yield the values that have a line, and where it is."""
    for value in (0, scale // 2, scale) if scale > 1 else (0, scale):
        yield value, f"{_BASE - (_BASE - _TOP) * value / scale:.2f}%"


def _lines(scale: int) -> Iterator[Element]:
    for _, y in _marked(scale):
        yield element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y)


def _values(scale: int) -> Iterator[Element]:
    for value, y in _marked(scale):
        if value:
            yield element("text", f"{value:,}", x="0", y=y, dy="-3")


def _times(since: float, slot: float, length: int) -> Iterator[Element]:
    """Yield labels of the axis: days, or hours of a period of at most two days."""
    seconds = slot * length
    days = seconds > 2 * _DAY
    every = max(1, round(seconds / _DAY / _LABELS)) if days else 4
    for i in _marks(since, slot, length, every, days=days):
        x = f"{100.0 * i / length:.3f}%"
        text = time.strftime("%a %d" if days else "%H:%M", time.localtime(since + i * slot))
        yield element("line", class_="grid", x1=x, x2=x, y1=f"{_TOP}%", y2="94%")
        yield element("text", text, x=x, y="99%", dx="3")


def _marks(since: float, slot: float, length: int, every: int, *, days: bool) -> Iterator[int]:
    """Yield the slots that begin a labelled day (every n-th), or a labelled hour of the day."""
    seen = -1
    before = time.localtime(since - slot)
    for i in range(length):
        at = time.localtime(since + i * slot)
        if days and at.tm_yday != before.tm_yday:
            seen += 1
            if seen % every == 0 and i < length * 0.95:
                yield i
        elif not days and at.tm_hour % every == 0 and i < length * 0.95:
            yield i
        before = at


def _scale(most: int) -> int:
    """Return a round number that is not below the highest value."""
    power = 1
    while power * 10 < most:
        power *= 10
    return next(power * n for n in (1, 2, 4, 5, 6, 8, 10) if power * n >= most)
