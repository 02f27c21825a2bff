"""A bar chart as SVG, for the documentation: no library, nothing to install."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_LEFT, _WIDTH, _BAR, _GAP = 290, 350, 22, 10


def bars(path: Path, title: str, values: Sequence[tuple[str, float]], unit: str) -> None:
    """Write horizontal bars, from zero, with their values.

    Args:
        path: of the file.
        title: above the bars.
        values: names and numbers, from above to below.
        unit: of the numbers.
    """
    most = max(value for _name, value in values)
    height = 50 + len(values) * (_BAR + _GAP)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}" width="800" '
            f'height="{height}" font-family="sans-serif" font-size="14" fill="#222">'
        ),
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="25" font-weight="bold">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(values):
        top = 45 + row * (_BAR + _GAP)
        width = max(1.0, _WIDTH * value / most)
        base = top + _BAR - 6
        lines += [
            f'<text x="{_LEFT - 10}" y="{base}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="#2a78b5"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{base}">{_number(value)} {escape(unit)}</text>',
        ]
    path.write_text("\n".join([*lines, "</svg>", ""]))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
