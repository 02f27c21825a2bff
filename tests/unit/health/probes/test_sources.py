"""What `check` says of paths with `*` and of containers: real files."""

import time
from pathlib import Path

from throttled.facts import Facts
from throttled.health.probes import sources
from throttled.log_paths import JOURNAL, container_journal

LINE = "mx postfix/smtpd[7]: connect from unknown[198.51.100.7]\n"


def said(*logs: str) -> list[tuple[str, str]]:
    return [(finding.state, finding.what) for finding in sources.check(logs, Facts())]


def test_a_pattern_and_each_file_that_it_means(tmp_path: Path) -> None:
    stamp = time.strftime("%b %d %H:%M:%S")
    for number in range(7):
        (tmp_path / f"{number}.log").write_text(f"{stamp} " + LINE.replace("7]", f"{number}]", 1))
    found = said(f"{tmp_path}/*.log")
    state, what = found[0]
    assert state == "ok"
    assert what.startswith(f"log: {tmp_path}/*.log matches 7 files: {tmp_path}/0.log, ")
    assert what.endswith(" (and 2 more)")
    events = [what for _, what in found if "1 events in its last 1 lines" in what]
    assert len(events) == 7


def test_a_pattern_that_means_nothing(tmp_path: Path) -> None:
    assert said(f"{tmp_path}/*.log") == [("warning", f"log: no file matches {tmp_path}/*.log")]


def test_containers_beside_the_journal_hold_other_lines() -> None:
    twice = "log: files and the journal are both read"
    assert all(what != twice for _, what in said(JOURNAL, container_journal("mail")))
    assert any(what == twice for _, what in said(JOURNAL, "/var/log/mail.log"))
