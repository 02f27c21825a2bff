"""A restart does not shorten the time between two digests."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from throttled.clock import Moment
from throttled.config.schema import Notify
from throttled.duration import Duration
from throttled.errors import StoreError
from throttled.model import Finding
from throttled.notify.channel import Message
from throttled.notify.hook import Hook
from throttled.service.last_mail import LastMail
from throttled.store.known import Known
from throttled.store.store import Store

WALL = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(str(tmp_path / "t.db"))) as opened:
        yield opened


def hook(every: float = 3600.0) -> Hook:
    return Hook(Notify(mail="postmaster@example.test", mail_every=Duration(every)))


def waits(store: Store, wall: float) -> float:
    """Return for how many seconds a daemon that starts now mails no digest."""
    under = hook()
    LastMail(under).load(store, Moment(wall, 1.0))
    return under._mail.wait


def test_a_restart_waits_for_the_rest_of_the_hour(store: Store) -> None:
    assert waits(store, WALL) == 0.0
    under = hook()
    last = LastMail(under)
    last.load(store, Moment(WALL, 1.0))
    last.tick(store, Moment(WALL, 1.0))
    assert store.known.get("mailed") is None
    under.mailed = WALL + 60.5
    last.tick(store, Moment(WALL + 61, 62.0))
    last.tick(store, Moment(WALL + 61, 62.0))
    assert waits(store, WALL + 70.5) == 3590.0
    assert waits(store, WALL + 4000) == 0.0
    assert waits(store, WALL - 86400) == 3600.0  # the clock was set back: an hour at most


def test_a_value_or_a_store_that_cannot_be_read(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.known.put("mailed", b"soon", WALL)
    assert waits(store, WALL) == 0.0
    under = hook()
    last = LastMail(under)
    caplog.set_level(logging.ERROR)
    with patch.object(Known, "get", side_effect=StoreError("full", "make room")):
        last.load(store, Moment(WALL, 1.0))
    under.mailed = WALL
    with patch.object(Known, "put", side_effect=StoreError("full", "make room")):
        last.tick(store, Moment(WALL, 1.0))
        last.tick(store, Moment(WALL, 1.0))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == ["full", "full"]


def test_the_next_digest_waits_and_its_time_is_noted() -> None:
    under = hook()
    sent: list[Message] = []

    async def deliver(of: Message) -> str:
        sent.append(of)
        return ""

    async def main() -> None:
        under.health([Finding("fault", "the store is full", "make room", "store")])
        running = asyncio.create_task(under.run())
        for _ in range(10):
            await asyncio.sleep(0)
        running.cancel()

    under._mail.deliver = deliver
    under.continue_after(WALL, WALL)
    asyncio.run(main())
    assert sent == []
    under.continue_after(0.0, WALL)
    asyncio.run(main())
    (of,) = sent
    assert of.counts == {"health": 1}

    async def accepted(_subject: str, _text: str) -> str:
        return ""

    with patch.object(under, "mail", accepted):
        assert asyncio.run(under._send(of)) == ""
    assert under.mailed == of.time
