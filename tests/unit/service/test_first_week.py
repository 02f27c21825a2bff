"""The reports after a day and a week of observing."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from throttled.analysis.report import DAY, WEEK
from throttled.clock import Moment
from throttled.model import Decision, Evidence
from throttled.notify.journal import NOTICE
from throttled.service.first_week import FirstWeek, end_observing
from throttled.store.hourly import HOUR
from throttled.store.store import Store

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "throttled.observe.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    with closing(Store.open(path)) as opened:
        yield opened


async def no_mail(_subject: str, _text: str) -> str:
    return ""


def at(seconds: float) -> Moment:
    return Moment(NOW + seconds, seconds)


def test_due_once_after_a_day_and_once_after_a_week_across_restarts(
    path: str, store: Store
) -> None:
    reported = []
    week = FirstWeek(path, no_mail)
    for hour in range(24 * 9):
        if hour % 7 == 0:
            week = FirstWeek(path, no_mail)  # a restart
        if length := week.due(store, at(hour * HOUR)):
            reported.append((hour, length))
    assert reported == [(24, "a day"), (24 * 7, "a week")]


def test_a_pause_of_more_than_a_day_begins_anew(path: str, store: Store) -> None:
    assert FirstWeek(path, no_mail).due(store, at(0)) == ""
    assert FirstWeek(path, no_mail).due(store, at(DAY * 3)) == ""
    assert FirstWeek(path, no_mail).due(store, at(DAY * 4)) == "a day"
    store.known.put("observing", b"{", NOW)  # another program's
    assert FirstWeek(path, no_mail).due(store, at(DAY * 4)) == ""


def test_another_mode_begins_anew_however_short_it_was(
    path: str, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert FirstWeek(path, no_mail).due(store, at(0)) == ""
    end_observing(path)
    assert FirstWeek(path, no_mail).due(store, at(DAY - HOUR)) == ""
    assert FirstWeek(path, no_mail).due(store, at(DAY)) == ""
    assert FirstWeek(path, no_mail).due(store, at(2 * DAY - HOUR)) == "a day"
    end_observing(str(tmp_path / "gone.db"))
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "text.db").write_text("no database, but longer than the header of one" * 9)
    end_observing(str(tmp_path / "text.db"))
    assert "the time of observing continues" in caplog.text


def test_the_mail_and_the_journal(
    path: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    mails = []

    async def send(subject: str, text: str) -> str:
        mails.append((subject, text))
        return "refused"

    week = FirstWeek(path, send)
    week.due(store, at(0))
    rows = [
        Decision(NOW + n, "ban", f"198.51.100.{n}", "mx", "errors", 1, NOW + 900, "x")
        for n in range(63)
    ]
    store.record(NOW + 100, rows)
    with caplog.at_level(NOTICE):
        asyncio.run(week.report("a day", at(DAY)))
    [(subject, text)] = mails
    answer = "63 clients would have been banned, 0 throttled. None of them had delivered mail"
    assert f"after a day of observing: {answer}" in subject
    assert "To enforce:    throttled mode enforce" in text
    assert "Look at these" not in text
    assert any(answer in record.getMessage() for record in caplog.records)
    assert any("not sent: refused" in record.getMessage() for record in caplog.records)
    store.record(NOW + 100, [], [Evidence("198.51.100.7", NOW + 50, 4, 0)])
    asyncio.run(week.report("a week", at(WEEK)))
    assert "  198.51.100.7  4 mails, 0 logins: 1 bans, 0 throttles by errors" in mails[1][1]


def test_a_database_that_cannot_be_read_is_logged(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    week = FirstWeek(str(tmp_path / "gone.db"), no_mail)
    week.due(store, at(0))
    with caplog.at_level(logging.ERROR):
        asyncio.run(week.report("a day", at(DAY)))
    assert any("gone.db" in record.getMessage() for record in caplog.records)
