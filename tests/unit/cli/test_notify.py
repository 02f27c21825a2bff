"""`throttled notify --test`, with a daemon and without."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from lab.programs import smtp_sink
from throttled.control.requests import NotifyTest
from throttled.control.results import Done
from throttled.errors import ThrottledError

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


def test_the_daemon_sends_it(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = Done("sent to: mail")
    assert cli("notify", "--test").out == "sent to: mail\n"
    assert daemon.asked == [NotifyTest()]
    daemon.answer = ThrottledError("mail ended with 1: refused", "correct [notify]")
    ended = cli("notify", "--test", "--json")
    assert ended.code == 1
    assert ended.json()["error"]["message"] == "mail ended with 1: refused"
    assert cli("notify").code == 2


def test_a_daemon_that_gives_no_answer_is_an_error_and_nothing_is_sent_twice(
    cli: "Cli", daemon: "Daemon"
) -> None:
    daemon.answer = asyncio.CancelledError()  # the connection ends
    ended = cli("notify", "--test")
    assert ended.code == 3
    assert "sending without it" not in ended.err


def test_without_a_daemon_the_command_sends_it(cli: "Cli", config_file: Path) -> None:
    ended = cli("notify", "--test")
    assert ended.code == 1
    assert "no notifications are configured" in ended.err
    with smtp_sink.serve() as sink:
        with config_file.open("a") as file:
            file.write(f'[notify]\nmail = "root"\nsmtp = "{sink.address}"\n')
        ended = cli("notify", "--test")
    assert ended.out == "sent to: mail\n"
    assert "sending without it" in ended.err
    assert len(sink.mails) == 1
