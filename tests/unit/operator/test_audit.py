"""Who changed what: in the store and in the log, whatever came of it."""

import asyncio
import logging
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from throttled.clock import now
from throttled.control.requests import Ban, List, MailChange, Reload, Request
from throttled.control.results import ChangeResult, Done, Result
from throttled.control.server import Peer
from throttled.errors import RefusedError, StoreError
from throttled.model import Change
from throttled.notify.journal import NOTICE
from throttled.operator.audit import Trail, recorded, user_name
from throttled.store.store import Store

ME = Peer(os.getpid(), os.getuid(), os.getgid())


async def _handler(request: Request, _peer: Peer) -> Result:
    match request:
        case Ban(subject="192.0.2.7"):
            return ChangeResult([], confirmed=True, message="done")
        case Ban(subject="192.0.2.8"):
            return ChangeResult([], confirmed=False, message="not confirmed")
        case Ban():
            raise RefusedError("it is protected")
        case Reload():
            raise ZeroDivisionError
        case _:
            return Done()


def test_every_change_is_kept_with_who_and_what_became_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    store = Store.open(":memory:")
    audit = Trail(lambda: store, now)
    asyncio.run(audit.handle(Ban("192.0.2.7", why="a\nb"), ME, _handler))
    asyncio.run(audit.handle(Ban("192.0.2.8"), ME, _handler))
    with pytest.raises(RefusedError):
        asyncio.run(audit.handle(Ban("192.0.2.9"), Peer(1 << 30, 4242, 1), _handler))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(audit.handle(Reload(), ME, _handler))
    asyncio.run(audit.handle(List(), ME, _handler))
    reload, refused, unconfirmed, done = store.audit.changes()
    assert (done.uid, done.pid, done.op, done.subject) == (ME.uid, ME.pid, "ban", "192.0.2.7")
    assert done.user.startswith(pwd.getpwuid(ME.uid).pw_name)
    assert done.program
    assert (done.request, done.outcome, done.ok, done.offline) == (
        '{"op":"ban","subject":"192.0.2.7","why":"a\\nb"}',
        "done",
        True,
        False,
    )
    assert [record.levelno for record in caplog.records] == [NOTICE] * 4  # one line each
    assert not unconfirmed.ok
    assert (refused.user, refused.program, refused.outcome, refused.ok) == (
        "uid 4242",
        "",
        "it is protected",
        False,
    )
    assert (reload.op, reload.outcome, reload.ok) == ("reload", "internal error", False)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert all("\n" not in line for line in lines)


def test_what_a_command_does_by_itself_is_recorded(tmp_path: Path) -> None:
    path = str(tmp_path / "throttled.db")
    with recorded(path, MailChange("hold", "account:alice")) as results:
        results.append(ChangeResult([], confirmed=True, message="done"))
    with (
        pytest.raises(RefusedError),
        recorded(path, MailChange("delete", "account:alice")),
    ):
        raise RefusedError("not now")
    store = Store.open(path, readonly=True)
    found = [
        (row.op, row.subject, row.outcome, row.ok, row.offline) for row in store.audit.changes()
    ]
    store.close()
    assert found == [
        ("mail", "account:alice", "not now", False, True),
        ("mail", "account:alice", "done", True, True),
    ]


@pytest.mark.root
def test_the_login_behind_sudo_is_reported() -> None:
    script = "echo 1 > /proc/self/loginuid && echo set; read wait"
    with subprocess.Popen(
        ("sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "set\n":
            pytest.skip("this kernel keeps no loginuid")
        asked = [user_name(Peer(child.pid, uid, uid)) for uid in (0, 1)]
        child.communicate("\n")
    daemon = pwd.getpwuid(1).pw_name
    assert asked == [f"root, logged in as {daemon}", daemon]


def test_what_a_failing_store_does_not_take_is_written_later() -> None:
    def full(_change: Change, _command: str = "") -> None:
        raise StoreError("the disk is full")

    store = Store.open(":memory:")
    audit = Trail(lambda: store, now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.audit, "write", full)
        asyncio.run(audit.handle(Ban("192.0.2.7"), ME, _handler))
    assert store.audit.changes() == []
    asyncio.run(audit.handle(Ban("192.0.2.8"), ME, _handler))
    assert [change.subject for change in store.audit.changes()] == ["192.0.2.8", "192.0.2.7"]
