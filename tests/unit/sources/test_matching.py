"""Logs that patterns mean: they come, are renamed, rotated, and go; each line counts once."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.health.logs import LogReporter
from throttled.sources import logs as module
from throttled.sources.logs import Logs
from throttled.tail import file, pattern

LINE = "Nov 22 10:00:01 mx postfix/smtpd[7]: connect from unknown[198.51.100.7] {}\n"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


class Site:
    """Logs that follow patterns in a directory, and how many lines were read."""

    def __init__(self, pipeline: Pipeline, runner: asyncio.Runner, directory: Path) -> None:
        self.pipeline = pipeline
        self.runner = runner
        self.directory = directory
        self.logs = Logs(pipeline, lambda _: None)
        self.patterns: list[str] = []
        self.number = 0

    def follow(self, *patterns: str) -> None:
        self.patterns = [f"{self.directory}/{text}" for text in patterns]
        self.run(self.logs.follow, self.patterns)

    def run(self, function: Callable[..., object], *arguments: object) -> None:
        async def one() -> None:
            function(*arguments)
            for _ in range(5):
                await asyncio.sleep(0)

        self.runner.run(one())

    def look(self, later: float = 0.0) -> None:
        """As the daemon's timer does, until what it started in a thread is done."""

        async def tick() -> None:
            self.logs.tick(Moment(now().wall + later, now().boot + later))
            looking = self.logs.patterns._looking
            if looking is not None:
                await asyncio.wait([looking])
            for _ in range(5):
                await asyncio.sleep(0)

        self.runner.run(tick())

    def restart(self) -> None:
        self.run(self.logs.close)
        self.logs = Logs(self.pipeline, lambda _: None)
        self.run(self.logs.follow, self.patterns)

    def append(self, name: str, count: int = 1) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as opened:
            for _ in range(count):
                self.number += 1
                opened.write(LINE.format(self.number))

    def followed(self) -> list[str]:
        return sorted(str(Path(f.path).relative_to(self.directory)) for f in self.logs.followers)

    @property
    def lines(self) -> int:
        return self.pipeline.counts.lines


@pytest.fixture
def site(pipeline: Pipeline, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Site]:
    directory = tmp_path / "logs"
    directory.mkdir()
    made = Site(pipeline, runner, directory)
    yield made
    made.run(made.logs.close)


def test_a_new_container_is_read_from_its_first_line(site: Site) -> None:
    site.append("1/1-json.log", 3)  # before the first start: only what comes counts
    site.follow("*/*-json.log")
    assert site.lines == 0
    site.append("2/2-json.log", 4)
    site.append("1/1-json.log")
    site.look()
    assert site.followed() == ["1/1-json.log", "2/2-json.log"]
    assert site.lines == 5


def test_nothing_is_there_at_first(site: Site) -> None:
    site.follow("later/*.log")
    site.append("later/a.log", 2)
    site.look()
    assert site.lines == 2


def test_a_restart_goes_on_and_finds_what_came_meanwhile(site: Site) -> None:
    site.append("a.log", 2)
    site.follow("*.log")
    site.append("a.log")
    site.look()
    site.run(site.logs.close)
    site.append("a.log")
    site.append("b.log", 3)
    site.restart()
    assert site.followed() == ["a.log", "b.log"]
    # 1 before, 1 meanwhile, 3 new ones; those before the restart once more, for the counters.
    assert site.lines == 5 + 3


def test_a_rotated_dated_name_is_not_counted_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.append("mail.log", 2)
    site.follow("mail*")
    site.append("mail.log", 2)
    (site.directory / "mail.log").rename(site.directory / "mail-old.log")
    site.append("mail-old.log")  # the writer has not reopened it yet
    site.look()
    site.append("mail.log", 3)
    site.look()
    assert (site.followed(), site.lines) == (["mail.log"], 6)
    monkeypatch.setattr(file, "LINGER", 0.0)  # the old one was silent for long enough
    site.append("mail.log")
    site.look(61.0)
    site.look(122.0)
    assert site.lines == 7
    site.look(183.0)
    assert site.followed() == ["mail-old.log", "mail.log"]  # from its end
    assert site.lines == 7


def test_a_rotated_file_is_not_new_after_a_restart(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log's tail has read it, and knows it no more."""
    monkeypatch.setattr(file, "LINGER", 0.0)
    site.append("mail.log", 2)
    site.follow("mail*")
    site.append("mail.log", 2)
    (site.directory / "mail.log").rename(site.directory / "mail-old.log")
    site.append("mail.log", 3)
    site.look()
    os.utime(site.directory / "mail-old.log", (1e9, 1e9))
    site.append("mail.log")
    site.run(site.logs.close)  # before the next look
    counted = site.lines
    assert counted == 6
    site.restart()
    assert site.lines == counted + 4  # of mail.log again, for the counters


def test_a_renamed_file_is_read_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT", -1.0)
    site.append("now.log", 2)
    site.follow("*.log")
    site.append("now.log")
    site.look()
    (site.directory / "now.log").rename(site.directory / "then.log")
    site.append("then.log")
    site.look()
    site.look()
    site.append("then.log")
    site.look()
    assert site.followed() == ["then.log"]
    assert site.lines == 3


def test_a_file_renamed_while_the_daemon_is_stopped(site: Site) -> None:
    site.append("b.log", 2)
    site.follow("*.log")
    site.append("b.log", 2)
    site.look()
    assert site.lines == 2
    site.run(site.logs.close)
    (site.directory / "b.log").rename(site.directory / "a.log")
    site.append("b.log", 3)
    site.append("a.log")
    events = site.pipeline.counts.lines
    site.restart()
    site.look()
    assert site.followed() == ["b.log"]
    assert site.lines - events == 4 + 4  # and what stood before, for the counters


def test_what_is_gone_is_followed_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.append("1/a.log")
    site.append("2/b.log")
    site.follow("*/*.log")
    site.append("2/b.log")
    shutil.rmtree(site.directory / "2")
    site.look()
    assert site.lines == 1  # its last line too
    assert site.followed() == ["1/a.log", "2/b.log"]
    monkeypatch.setattr(module, "_SILENT", -1.0)
    site.look()
    assert site.followed() == ["1/a.log"]
    monkeypatch.setattr(module, "_GONE", 0)
    site.append("3/c.log")
    site.look()
    stored = site.pipeline.recorder.store.positions.all()
    assert {Path(path).name for path in stored} == {"*.log", "a.log", "c.log"}


def test_files_above_the_cap_are_followed_when_they_are_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pattern, "MAX_MATCHES", 1)
    monkeypatch.setattr(module, "_SILENT", -1.0)
    site.append("a.log", 2)
    os.utime(site.directory / "a.log", (1e9, 1e9))
    site.append("b.log", 2)
    site.follow("*.log")
    assert site.followed() == ["b.log"]
    os.utime(site.directory / "b.log", (1e9, 1e9))
    site.append("a.log")
    site.look(61.0)
    assert site.followed() == ["a.log"]
    assert site.lines == 0  # old lines; the one that showed that it lives is before its start
    site.append("a.log")
    site.look()
    assert site.lines == 1


def test_a_named_log_and_a_pattern_that_means_it(site: Site) -> None:
    site.append("mail.log")
    site.follow("mail.log", "*.log")
    site.append("mail.log")
    site.look()
    assert (site.followed(), site.lines) == (["mail.log"], 1)
    site.follow("mail.log")
    assert site.followed() == ["mail.log"]
    site.follow("other.log")
    assert site.followed() == ["other.log"]


def test_health_reports_what_a_pattern_means(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[str]:
        found = LogReporter(site.logs, site.pipeline)(now().boot)
        return [finding.key.partition(":")[0] for finding in found]

    monkeypatch.setattr(pattern, "MAX_MATCHES", 1)
    site.follow("*.log")
    assert keys() == ["no-log", "log-unmatched"]
    site.append("a.log")
    site.look()
    assert keys() == []
    site.append("b.log")
    site.look()
    assert keys() == ["log-many"]
    monkeypatch.setattr(pattern, "MAX_NAMES", 2)
    site.look(61.0)
    assert keys() == ["log-many"]


def test_a_hundred_thousand_names_do_not_stop_the_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look is in a thread: what the loop waits for is its start."""
    monkeypatch.setattr(pattern, "MAX_NAMES", 2_000)
    site.append("a.log")
    site.follow("*.log")
    for number in range(3_000):
        (site.directory / f"x{number}").touch()

    async def tick() -> bool:
        site.logs.tick(now())
        looking = site.logs.patterns._looking
        assert looking is not None
        asynchronous = not looking.done()
        await asyncio.wait([looking])
        return asynchronous

    assert site.runner.run(tick())
    (scan,) = site.logs.patterns.scans().values()
    assert not scan.complete
