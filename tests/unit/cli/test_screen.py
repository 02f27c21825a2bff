"""`throttled top`, driven by keys, with a real daemon (dry-run backend) behind it."""

import asyncio
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import DataTable, Label, Sparkline, Static

from lab.daemon.in_process import BOUND, Lab
from lab.daemon.in_process import live as live_daemon
from throttled.cli.screen import Screen
from throttled.cli.screen_parts import Question, Reading
from throttled.control import client, requests, results
from throttled.control.requests import Request, Top
from throttled.control.results import AllowedResult, TopResult, Totals
from throttled.errors import NotRunningError
from throttled.printable import harmless, printable

#: With a tick that leaves the process idle in between: that is what `pilot.press` waits for.
live = partial(live_daemon, tick=0.1)
THROTTLED = str(Path(sys.executable).with_name("throttled"))
A = "198.51.100.7"
B = "198.51.100.8"


def _ask(path: Path, request: Request, _kind: type[Any]) -> Any:
    return client.request(path / "c.sock", request)


async def _until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():
            await pilot.pause(0.01)


def _type(screen: Screen, *keys: str) -> None:
    """Press keys at once, as a terminal sends them; `pilot.press` waits after each: costs CPU."""
    assert screen._driver is not None
    for key in keys:
        screen._driver.send_message(Key(key, key if len(key) == 1 else None))


def _text(screen: Screen, where: str) -> str:
    return str(screen.query_one(where, Static).render())


def _renamed(top: TopResult, **texts: str) -> TopResult:
    """Return rows with other texts, as a hostile client has them."""
    return replace(
        top,
        worst=[replace(row, **texts) for row in top.worst],
        latest=[replace(row, **texts) for row in top.latest],
    )


def _rows(screen: Screen, where: str) -> list[list[str]]:
    table = screen.query_one(where, DataTable)
    return [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]


def drive(
    tmp_path: Path,
    story: Callable[[Lab, Screen, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
) -> None:
    async def with_screen(lab: Lab) -> None:
        lab.garbage(A, 5)  # 25 points: throttled
        await lab.listed(1)
        first = await lab.ask(Top(), TopResult)
        screen = Screen(partial(_ask, tmp_path), first, every=0.3)
        async with screen.run_test(size=size) as pilot:
            await story(lab, screen, pilot)

    live(tmp_path, with_screen)


@pytest.mark.root
def test_what_is_going_on_is_shown_and_goes_on(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.pause()
        assert "nftables, enforce" in _text(screen, "#head")
        assert _text(screen, "#health") == "ok"
        assert _rows(screen, "#worst") == [[A, "~ throttle", "errors", "mx", "25", "20", "50"]]
        assert [row[1:3] for row in _rows(screen, "#latest")] == [[A, "~ throttle"]]
        lab.garbage(B, 11)
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        assert _rows(screen, "#worst")[0] == [B, "# ban", "errors", "mx", "55", "20", "50"]
        assert _rows(screen, "#latest")[0][1:3] == [B, "# ban"]
        assert screen.query_one("#latest", DataTable).cursor_row == 0  # the latest is in sight
        await _until(pilot, lambda: "banned 1" in _text(screen, "#head"))
        assert "non_smtp_command" in _text(screen, "#rates")
        assert len(screen.query_one("#drops", Sparkline).data or ()) == 60

    drive(tmp_path, story)


def test_each_update_asks_for_what_the_first_and_json_ask_for(tmp_path: Path) -> None:
    async def with_screen(lab: Lab) -> None:
        asked: list[Request] = []

        def ask(request: Request, kind: type[Any]) -> Any:
            asked.append(request)
            return _ask(tmp_path, request, kind)

        screen = Screen(ask, await lab.ask(Top(), TopResult), every=60.0)
        async with screen.run_test() as pilot:
            screen.look()
            await _until(pilot, lambda: bool(asked))
        assert asked == [Top()]

    live(tmp_path, with_screen)


def test_names_with_blanks_are_chosen_whole_and_cut_where_long(tmp_path: Path) -> None:
    name = f"account:x {'y' * 100} {B}"  # a login name that a client tried: it ends in an address

    async def with_screen(lab: Lab) -> None:
        lab.garbage(A, 5)
        await lab.listed(1)
        first = _renamed(await lab.ask(Top(), TopResult), subject=name)
        screen = Screen(partial(_ask, tmp_path), first, every=60.0)
        async with screen.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert screen.chosen() == name
            await pilot.press("tab")
            assert screen.chosen() == name
            assert _rows(screen, "#worst")[0][:2] == [f"account:x {'y' * 34}…", "~ throttle"]
            assert _rows(screen, "#latest")[0][1:3] == [f"account:x {'y' * 34}…", "~ throttle"]

    live(tmp_path, with_screen)


@pytest.mark.parametrize(
    "hostile",
    [
        f"{'y' * 290} the end",
        f"\u202e{B[::-1]}",  # reads backwards as another client
        f"a{chr(27)}]0;title\x07{chr(27)}[2Jb\x00\x9b1m",
        f"a{chr(0x301) * 60}b",
        "x\u200d\u200bx [/bold] [@click=app.quit]x[/]",
        "\u0627\u0644\u0639\u0631 1 2",
    ],
)
def test_a_hostile_name_is_asked_about_whole_and_as_it_is(tmp_path: Path, hostile: str) -> None:
    name = f"account:{hostile}"

    async def with_screen(lab: Lab) -> None:
        lab.garbage(A, 5)
        await lab.listed(1)
        first = _renamed(await lab.ask(Top(), TopResult), subject=name, name=name, why=name)
        asked: list[Request] = []

        def ask(request: Request, _kind: type[Any]) -> Any:
            asked.append(request)
            raise NotRunningError(name, name)

        screen = Screen(ask, first, every=60.0)
        async with screen.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await pilot.press("b")
            await pilot.pause()
            drawn = _drawn(screen)
            assert all(map(harmless, "".join(drawn)))
            place = screen.screen.query_one(Label).region
            lines = (line[place.x + 2 : place.right - 2] for line in drawn[place.y : place.bottom])
            whole = f"ban {printable(name)}?  [y]es [n]o"
            assert "".join(whole.split()) in "".join("".join(lines).split())
            await pilot.press("y")
            await _until(pilot, lambda: len(asked) > 1)
            assert asked[0] == requests.Ban(name)
            await pilot.pause()
            assert all(map(harmless, "".join(_drawn(screen))))

    live(tmp_path, with_screen)


def _drawn(screen: Screen) -> list[str]:
    """Return the lines on the terminal."""
    lines = screen.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in lines]


def test_stored_history_is_drawn_at_the_start(tmp_path: Path) -> None:
    async def with_screen(lab: Lab) -> None:
        lab.garbage(B, 11)
        await lab.listed(1)
        first = await lab.ask(Top(), TopResult)
        before = [Totals(hour.begin, bans=3, drops=1000) for hour in first.hours[:-1]]
        screen = Screen(
            partial(_ask, tmp_path), replace(first, hours=[*before, first.hours[-1]]), 60
        )
        async with screen.run_test(size=(80, 24)):
            assert list(screen.query_one("#bans", Sparkline).data or ()) == [3.0] * 47 + [1.0]
            assert _text(screen, "#banned") == "by hour, 48 h: 142 bans"
            assert _text(screen, "#stored") == "by hour, 48 h: 47,000 packets dropped"
            assert screen.query_one("#hours", Sparkline).size.height > 0

    live(tmp_path, with_screen)


def test_a_wide_screen_shows_names_and_reasons(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        line = f"warning: non-SMTP command from mail.example.net[{B}]: GET /"
        lab.write(f"connect from mail.example.net[{B}]", *[line] * 11)
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        banned = _rows(screen, "#worst")[0]
        assert banned[:2] == [B, "# ban"]
        assert banned[-2:] == [
            "mail.example.net",
            "errors: 55 points for errors within 10m, hard limit 50",
        ]
        assert banned[-3] == _rows(screen, "#latest")[0][0]  # since
        assert _rows(screen, "#latest")[0][3:5] == ["mx", "mail.example.net"]
        await pilot.resize_terminal(80, 24)
        await _until(pilot, lambda: len(_rows(screen, "#worst")[0]) == 7)
        assert len(_rows(screen, "#latest")[0]) == 4
        await pilot.resize_terminal(120, 24)
        await _until(pilot, lambda: len(_rows(screen, "#worst")[0]) == 10)

    drive(tmp_path, story, size=(160, 40))


def test_help_says_what_the_keys_and_signs_are(tmp_path: Path) -> None:
    async def story(_lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        assert isinstance(screen.screen, Reading)
        for key in (*"buae/?q", "Tab", "# ban", "~ throttle"):
            assert key in screen.screen.text
        assert max(map(len, screen.screen.text.splitlines())) <= 73  # no wrap at 80
        await pilot.press("question_mark")
        assert not isinstance(screen.screen, Reading)

    drive(tmp_path, story)


def test_a_search_leaves_the_rows_with_its_text(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        lab.garbage(B, 11)
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        await pilot.press("slash")
        _type(screen, *B)
        await _until(pilot, lambda: [row[0] for row in _rows(screen, "#worst")] == [B])
        assert {row[1] for row in _rows(screen, "#latest")} == {B}
        await pilot.press("escape")
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        await pilot.press("slash")
        _type(screen, *"nobody")
        await _until(pilot, lambda: not _rows(screen, "#worst"))
        await pilot.press("enter", "b")  # nothing is under the cursor
        assert not isinstance(screen.screen, Question)
        await pilot.press("slash")
        _type(screen, *["backspace"] * 6)
        await _until(pilot, lambda: not screen._search.value)
        _type(screen, *"192.0.2.77")
        await _until(pilot, lambda: screen._search.value == "192.0.2.77")
        await pilot.press("enter")
        await _until(pilot, lambda: isinstance(screen.screen, Reading))
        assert isinstance(screen.screen, Reading)
        assert screen.screen.text.startswith("Not throttled or banned")

    drive(tmp_path, story)


def test_keys_ban_unban_and_allow_what_is_under_the_cursor(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        lab.garbage(B, 11)
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        screen.query_one("#worst", DataTable).focus()
        await pilot.press("down")  # B is above, A below
        await pilot.press("b")
        assert isinstance(screen.screen, Question)
        assert A in screen.screen.question
        await pilot.press("n")
        assert [row for row in await lab.listed(2) if row[0] == A] == [(A, "mx", "throttle")]
        await pilot.press("b", "y")
        banned = [(A, "mx", "ban"), (A, "submission", "ban"), (B, "mx", "ban")]
        assert await lab.listed(3) == banned
        await pilot.press("u", "y")
        await lab.listed(1)
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 1)  # A is evicted
        await pilot.press("a", "enter")
        await lab.listed(0)
        allowed = await lab.ask(requests.Allowed(), AllowedResult)
        assert [row.what for row in allowed.rows] == [B]

    drive(tmp_path, story)


def test_the_cursor_follows_its_client(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        screen.query_one("#worst", DataTable).focus()
        await pilot.pause()
        assert screen.chosen() == A
        lab.garbage(B, 11)  # now stands above it
        await _until(pilot, lambda: len(_rows(screen, "#worst")) == 2)
        assert screen.chosen() == A
        await pilot.press("tab")
        assert screen.focused is screen.query_one("#latest", DataTable)
        assert screen.chosen() in {A, B}

    drive(tmp_path, story)


def test_explain_opens_and_closes(tmp_path: Path) -> None:
    async def story(_lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        screen.query_one("#worst", DataTable).focus()
        for key in ("e", "enter"):
            await pilot.press(key)
            await _until(pilot, lambda: isinstance(screen.screen, Reading))
            assert isinstance(screen.screen, Reading)
            assert "Meters:" in screen.screen.text
            await pilot.press("escape")
            assert not isinstance(screen.screen, Reading)

    drive(tmp_path, story)


def test_markup_written_by_a_client_is_shown_as_it_is(tmp_path: Path) -> None:
    async def story(lab: Lab, screen: Screen, pilot: Pilot[None]) -> None:
        why = "[bold]x[/bold] \x1b[31m"
        await lab.ask(requests.Ban(B, why=why), results.ChangeResult)
        await _until(pilot, lambda: len(_rows(screen, "#latest")) > 1)
        assert "[bold]x[/bold]" in _rows(screen, "#latest")[0][3]
        assert "\x1b" not in _rows(screen, "#latest")[0][3]

    drive(tmp_path, story)


def test_a_daemon_that_went_away_is_reported_and_asked_again(tmp_path: Path) -> None:
    gone = True

    def ask(request: Request, kind: type[Any]) -> Any:
        if gone and isinstance(request, Top):
            raise NotRunningError("nobody answers", "start it")
        return _ask(tmp_path, request, kind)

    async def with_screen(lab: Lab) -> None:
        nonlocal gone
        first = await lab.ask(Top(), TopResult)
        screen = Screen(ask, first, every=0.3)
        async with screen.run_test(size=(80, 24)) as pilot:
            await _until(pilot, lambda: _text(screen, "#head") == "nobody answers")
            await _until(pilot, lambda: _text(screen, "#health") == "start it")
            gone = False
            await _until(pilot, lambda: "nftables" in _text(screen, "#head"))
            await pilot.press("b", "e")  # nothing is under the cursor
            assert not isinstance(screen.screen, Question)
            await pilot.press("q")

    live(tmp_path, with_screen)


def test_the_command_on_a_terminal(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A, 5)
        await lab.listed(1)
        await asyncio.to_thread(_drive_terminal, lab)

    def _drive_terminal(lab: Lab) -> None:
        command = [THROTTLED, "--socket", str(lab.path / "c.sock"), "top"]
        leader, terminal = pty.openpty()
        size = struct.pack("4H", 24, 80, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        env = {**os.environ, "TERM": "xterm-256color"}
        with subprocess.Popen(
            [*command, "--every", "0.2"], stdin=terminal, stdout=terminal, stderr=terminal, env=env
        ) as top:
            os.close(terminal)
            _read_until(leader, A)
            lab.garbage(B, 11)
            _read_until(leader, B)  # it asked again
            os.write(leader, b"q")
            with suppress(OSError):  # EIO: it is gone
                while os.read(leader, 65536):
                    pass
            assert top.wait(BOUND) == 0
        os.close(leader)

    live(tmp_path, story)


def _read_until(leader: int, text: str) -> None:
    seen = b""
    until = time.monotonic() + BOUND
    while text.encode() not in seen:
        assert select.select([leader], [], [], max(0, until - time.monotonic()))[0], seen
        seen += os.read(leader, 65536)


def test_without_a_terminal_json_is_asked_for(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        command = [THROTTLED, "--socket", str(lab.path / "c.sock"), "top"]
        run = partial(subprocess.run, capture_output=True, text=True, check=False)
        refused = await asyncio.to_thread(run, command)
        assert refused.returncode == 2
        assert "throttled top --json" in refused.stderr
        printed = await asyncio.to_thread(run, [*command, "--json"])
        assert json.loads(printed.stdout)["status"]["backend"] == "nftables"

    live(tmp_path, story)


def test_a_picture_that_comes_after_the_end_is_dropped(tmp_path: Path) -> None:
    async def with_screen(lab: Lab) -> None:
        first = await lab.ask(Top(), TopResult)
        screen = Screen(partial(_ask, tmp_path), first, every=60.0)
        async with screen.run_test(size=(80, 24)):
            pass
        screen.show(first)

    live(tmp_path, with_screen)
