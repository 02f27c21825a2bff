"""A bar that shows how much of some logs was read. Owns no state."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def progress(files: Sequence[str]) -> Iterator[Callable[[str, int], None] | None]:
    """Show how much was read, where somebody looks: standard error is a terminal.

    Args:
        files: the logs; "-" is standard input, of unknown length.

    Yields:
        A function to call with the bytes of a file consumed so far; None without a terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - takes 100 ms, and only a terminal needs it
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    console = Console(stderr=True)
    # Lines for the same terminal are written above the bar.
    with Bar(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=sum(map(_size, files)) or None)
        read: dict[str, int] = {}

        def advance(path: str, consumed: int) -> None:
            read[path] = consumed
            bar.update(task, completed=sum(read.values()))

        yield advance


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is no knowing."""
    try:
        return Path(path).stat().st_size
    except OSError:  # reported by the code that reads it
        return 0
