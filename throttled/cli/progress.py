"""A bar that shows how much of some logs was read, or how many steps are done. Owns no state."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two pictures.
_EVERY = 0.1


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
    with _bar(sum(map(_size, files)) or None) as update:
        read: dict[str, int] = {}

        def advance(path: str, consumed: int) -> None:
            read[path] = consumed
            update(sum(read.values()))

        yield advance


@contextmanager
def steps(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of all steps are done, on a terminal only: as `progress`.

    Yields:
        A function to call with the number of further steps that were done.
    """
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with _bar(total) as update:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            update(done)

        yield advance


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # noqa: PLC0415 - takes 100 ms, and only a terminal needs it
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    bar = Bar(
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # lines for the same terminal are written above it
        auto_refresh=False,  # that is a thread, beside which `throttled.sources.parsing` may fork
    )
    with bar:
        task = bar.add_task("", total=total)
        drawn = time.monotonic()

        def advance(done: int) -> None:
            nonlocal drawn
            due = time.monotonic() - drawn >= _EVERY
            bar.update(task, completed=done, refresh=due)
            if due:
                drawn = time.monotonic()

        yield advance


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is no knowing."""
    try:
        return Path(path).stat().st_size
    except OSError:  # reported by the code that reads it
        return 0
