"""Runs the checks in a machine of each release and prints a table: `scripts/machines`."""

import argparse
import os
import platform
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

from lab.machines.checks import CHECKS, TESTS
from lab.machines.command import run
from lab.machines.guest import guest
from lab.machines.image import PYTHONS, Image, cache, image
from lab.machines.site import SHARE, TREE, Site
from lab.machines.wire import wire
from lab.network import netns

_TREE = Path(__file__).resolve().parents[3]
#: Beside what the package depends on: what the checks install.
_LATER = ("libbpf1", "iptables", "ipset", "python3-iptables")


_T = TypeVar("_T")


class Row(NamedTuple):
    """A line of the table."""

    suite: str
    name: str
    seconds: float
    error: str  # empty: it is so
    note: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return 1 if a check failed, 3 if not root."""
    options = _options(argv)
    if os.geteuid() != 0:
        print("machines: it makes network namespaces: run it as root (sudo scripts/machines)")
        return 3
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # of a log
    steps = Steps(console)
    with netns.unwinding():
        try:
            with netns.directory("packages") as packages:
                _work(options, packages, steps)
        except KeyboardInterrupt:
            steps.add(Row("", "interrupted", 0.0, "interrupted"))
    _table(steps.console, steps.rows)
    return 1 if any(row.error for row in steps.rows) else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Check this tree on stock Debian machines, booted in qemu without KVM (root)."
    )
    parser.add_argument("suite", nargs="*", default=list(PYTHONS), help=f"of {', '.join(PYTHONS)}")
    parser.add_argument("--cache", type=Path, default=cache(), help="images (default: %(default)s)")
    parser.add_argument("--before", default="HEAD~1", help="commit that the upgrade begins with")
    parser.add_argument("--tests", action="store_true", help="the backends' tests, inside, too")
    parser.add_argument("--only", default="", help="regular expression: only these checks")
    return parser.parse_args(argv)


class Steps:
    """Runs one step after the other, shows its progress and stores its line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: list[Row] = []

    def step(self, suite: str, name: str, function: Callable[[], _T]) -> _T | None:
        """Run a step; return what it returns, or None if it failed."""
        self.console.print(f"{suite}: {name} …", end=" ")
        began = time.monotonic()
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the table
            self.add(Row(suite, name, time.monotonic() - began, str(error) or repr(error)))
            return None
        note = result if isinstance(result, str) else ""
        self.add(Row(suite, name, time.monotonic() - began, "", note))
        return result

    def add(self, row: Row) -> None:
        """Store a line and show its result."""
        self.rows.append(row)
        self.console.print(f"{row.seconds:.0f} s {'FAILED' if row.error else 'ok'} {row.note}")
        if row.error:
            self.console.print(row.error, markup=False)


def _work(options: argparse.Namespace, packages: Path, steps: Steps) -> None:
    built = steps.step("here", "build the packages", partial(_build, packages, options.before))
    if not built:
        return
    later = [*_dependencies(built[0]), *_LATER]
    for suite in options.suite:
        if options.tests:
            steps.step(suite, "wheels for the tests", partial(_wheels, suite, packages / "python"))
        made = steps.step(suite, "image", partial(image, suite, later, options.cache))
        if made:
            _machine(suite, made, built, options, steps)


def _machine(
    suite: str, made: Image, built: tuple[Path, Path], options: argparse.Namespace, steps: Steps
) -> None:
    shares = {SHARE: built[0].parent, TREE: _TREE}
    with netns.directory(suite) as home, wire() as client, ExitStack() as stack:
        start = partial(stack.enter_context, guest(client, made, home, shares))
        if not (booted := steps.step(suite, "boot", start)):
            return
        site = Site(booted, client, *built)
        for check in (*CHECKS, *([TESTS] if options.tests else [])):
            if check.needed or re.search(options.only, check.name):
                steps.step(suite, check.name, partial(check.run, site))
            if check.needed and steps.rows[-1].error:
                return


def _build(packages: Path, commit: str) -> tuple[Path, Path]:
    """Build the packages of this work tree and, from a clone, of a commit before it."""
    clone = packages / "clone"
    commit = run("git", "-C", _TREE, "rev-parse", commit).strip()
    run("git", "clone", "-q", "--shared", "--no-checkout", _TREE, clone)
    run("git", "-C", clone, "checkout", "-q", "--detach", commit)
    (clone / ".venv").symlink_to(_TREE / ".venv")
    return _build_deb(_TREE, packages, "1.0+tree"), _build_deb(clone, packages, "1.0~before")


def _build_deb(tree: Path, out: Path, version: str) -> Path:
    # Its temporary directory is in ours, which is removed in any case.
    return Path(run(tree / "scripts/build-deb", out, version, env={"TMPDIR": str(out)}).strip())


def _wheels(suite: str, directory: Path) -> None:
    """Install what the tests need for the Python of a release; C libraries come from Debian."""
    shutil.rmtree(directory, ignore_errors=True)
    project = tomllib.loads((_TREE / "pyproject.toml").read_text())["project"]["dependencies"]
    run(
        *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
        *("--target", directory, "--only-binary", ":all:", "--implementation", "cp"),
        *("--python-version", PYTHONS[suite]),
        *("--platform", f"manylinux_2_28_{platform.machine()}"),
        *(*project, "pytest", "pytest-timeout", "pytest-xdist", "hypothesis"),
    )


def _dependencies(package: Path) -> list[str]:
    depends = run("dpkg-deb", "--field", package, "Depends")
    return sorted(set(re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends)))


def _table(console: Console, rows: Sequence[Row]) -> None:
    table = Table(box=None)
    for column in ("release", "check", "seconds", "", ""):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for row in rows:
        result = "[red]failed[/]" if row.error else "ok"
        table.add_row(row.suite, row.name, f"{row.seconds:.0f}", result, row.note)
    console.print(table)
    failed = sum(bool(row.error) for row in rows)
    total = sum(row.seconds for row in rows) / 60
    console.print(f"\n{len(rows)} lines, {failed} failed, {total:.0f} minutes")


if __name__ == "__main__":
    sys.exit(main())
