import os
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest

from lab.mail.stories import MIDNIGHT, Story
from throttled.analysis.replay import Replay
from throttled.config.schema import Config
from throttled.model import Decision, Facts

#: What was done: action, subject, scope.
Done = set[tuple[str, str, str]]


@pytest.fixture
def decisions(tmp_path: Path) -> Callable[[Story], list[Decision]]:
    """Replay a story with the default configuration; return what was decided, but releases."""

    def decided(story: Story) -> list[Decision]:
        path = tmp_path / "mail.log"
        path.write_text("".join(f"{line}\n" for _, line in story.lines()), encoding="latin-1")
        os.utime(path, (MIDNIGHT + 3 * 86400, MIDNIGHT + 3 * 86400))
        done = Replay(Config(), Facts(), UTC).run([str(path)])
        return [d for d in done if isinstance(d, Decision) and d.action != "release"]

    return decided


@pytest.fixture
def judge(decisions: Callable[[Story], list[Decision]]) -> Callable[[Story], Done]:
    """Replay a story with the default configuration; return what was done to whom."""
    return lambda story: {(d.action, d.subject, d.scope) for d in decisions(story)}
