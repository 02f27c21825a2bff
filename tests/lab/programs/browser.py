"""Chromium without a window: what a page becomes in it, measured by a page around it."""

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 120.0
_MEASURE = """<!DOCTYPE html><meta charset="utf-8"><title>outer</title>
<iframe id="f" src="%s" width="%d" height="800" style="border:0"></iframe><pre id="out"></pre>
<script>
const frame = document.getElementById("f");
frame.onload = () => {
  const inner = frame.contentDocument, root = inner.documentElement;
  document.getElementById("out").textContent = JSON.stringify({
    width: root.scrollWidth,
    height: root.scrollHeight,
    background: frame.contentWindow.getComputedStyle(inner.body).backgroundColor,
    text: root.innerText,
    elements: [...new Set([...inner.querySelectorAll("*")].map((e) => e.localName))],
    handlers: [...inner.querySelectorAll("*")].flatMap(
      (e) => [...e.attributes].filter((a) => a.name.startsWith("on")).map((a) => a.name)),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name),
    narrow: [...inner.querySelectorAll("section, .tile, h1, .lead")].filter(
      (e) => e.getBoundingClientRect().right > root.clientWidth + 1).length,
  });
};
</script>
"""


def measure(page: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Return what a page is in a window of a width: size, text, elements, what it loaded."""
    assert PROGRAM is not None
    outer = page.with_name(f"outer-{width}-{dark}.html")
    outer.write_text(_MEASURE % (page.name, width), "utf-8")
    dom = _run(page.parent, outer, "--virtual-time-budget=10000", "--dump-dom", dark=dark)
    text = dom.partition('<pre id="out">')[2].partition("</pre>")[0]
    found: dict[str, Any] = json.loads(html.unescape(text))
    return found


def screenshot(page: Path, to: Path, size: tuple[int, int], *, dark: bool = False) -> None:
    """Write a picture of a page (PNG)."""
    _run(page.parent, page, f"--screenshot={to}", "--window-size={},{}".format(*size), dark=dark)


def pdf(page: Path, to: Path) -> None:
    """Print a page."""
    _run(page.parent, page, f"--print-to-pdf={to}", "--no-pdf-header-footer")


def _run(directory: Path, page: Path, *options: str, dark: bool = False) -> str:
    profile = directory / "profile"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [
        str(PROGRAM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        f"--user-data-dir={profile}",
        *scheme,
        *options,
        page.as_uri(),
    ]
    ended = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
    return ended.stdout.decode("utf-8", "replace")
