"""The bar; as an operator sees it on a real terminal: test_replay.py."""

import io
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from throttled.cli import progress as module
from throttled.cli.progress import progress, steps


class Terminal(io.StringIO):
    """Where an operator looks."""

    def isatty(self) -> bool:
        return True

    def new(self) -> str:
        """Return what was written since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Let standard error be a terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        made = Terminal()
        patch.setattr(sys, "stderr", made)
        yield made


def test_it_has_no_thread_beside_which_a_parser_could_be_forked(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1234")
    threads = threading.active_count()
    with terminal(), progress([str(tmp_path / "log")]) as advance:
        assert advance is not None
        assert threading.active_count() == threads
    with terminal(), steps(4):
        assert threading.active_count() == threads


def test_it_is_drawn_again_once_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_text("1234")
    monkeypatch.setattr(module, "_EVERY", 0.0)
    with terminal() as shown, progress([str(tmp_path / "log")]) as advance:
        assert advance is not None
        for consumed, part in (1, " 25%"), (3, " 75%"):
            advance("log", consumed)
            assert part in shown.new()
    with terminal() as shown, steps(4) as advance_steps:
        advance_steps(1)
        advance_steps(1)
        assert " 50%" in shown.new()
        monkeypatch.setattr(module, "_EVERY", math.inf)
        advance_steps(2)
        assert not shown.new()
