from collections.abc import Callable
from pathlib import Path

import pytest

from lab.mail.stories import Story, replayed
from throttled.config.schema import Config
from throttled.model import Decision

#: What was done: action, subject, scope.
Done = set[tuple[str, str, str]]


@pytest.fixture
def decisions(tmp_path: Path) -> Callable[[Story], list[Decision]]:
    """Replay a story with the default configuration; return what was decided, but releases."""

    def decided(story: Story) -> list[Decision]:
        done = replayed(story, Config(), tmp_path / "mail.log")
        return [d for d in done if d.action != "release"]

    return decided


@pytest.fixture
def judge(decisions: Callable[[Story], list[Decision]]) -> Callable[[Story], Done]:
    """Replay a story with the default configuration; return what was done to whom."""
    return lambda story: {(d.action, d.subject, d.scope) for d in decisions(story)}
