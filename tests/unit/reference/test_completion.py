"""The scripts for shells: bash's, run by bash, on a real daemon."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.daemon.in_process import A, Lab, live
from reference import completion
from throttled.control.requests import Allow
from throttled.control.results import ChangeResult

THROTTLED = Path(sys.executable).with_name("throttled")
V6 = "2001:db8:1:2:3:4:5:6"
#: What a client calls itself must not become a command of the shell that completes it.
HOSTILE = "warning: unknown[{}]: SASL LOGIN authentication failed: x, sasl_username={}"


def completed(config: Path, *lines: str) -> list[list[str]]:
    """Return what bash offers behind each line."""
    calls = "".join(
        f"COMP_LINE={line!r} COMP_POINT={len(line)}; _throttled_completion {THROTTLED};"
        'echo "${COMPREPLY[@]}"\n'
        for line in (line.format(config=config) for line in lines)
    )
    script = f"{completion.scripts()[completion.SHELLS['bash']]}\n{calls}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def offered(tmp_path: Path, *lines: str) -> list[list[str]]:
    found: list[list[str]] = []

    async def story(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(V6)
        await lab.listed(2)
        await lab.ask(Allow("203.0.113.0/24"), ChangeResult)
        found.extend(await asyncio.to_thread(completed, lab.config, *lines))

    live(tmp_path, story)
    return found


def test_bash(tmp_path: Path) -> None:
    begun = "throttled --config {config} "
    assert offered(
        tmp_path,
        "throttled unb",
        begun + "explain 198.51.10",
        begun + "explain 2001:db8:1:2:3",
        begun + "unban ",
        begun + "disallow 203",
        begun + "list --limit auth-",
        begun + "list --action b",
        begun + "find ",
    ) == [
        ["unban"],
        [A],
        ["3:4:5:6"],
        [V6, A],
        ["203.0.113.0/24"],
        ["auth-day", "auth-slow", "auth-users"],
        ["ban"],
        [],
    ]


def test_without_a_daemon_nothing_is_offered(tmp_path: Path) -> None:
    lines = f"throttled --socket {tmp_path}/none unban ", "throttled --config /none list --limit a"
    assert completed(tmp_path, *lines) == [[], []]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_click_s_script(shell: str) -> None:
    assert f"={shell}_complete" in completion.scripts()[completion.SHELLS[shell]]
