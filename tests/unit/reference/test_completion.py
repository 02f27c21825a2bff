"""The scripts for shells, run by these, on a real daemon."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.daemon.in_process import A, Lab, live
from lab.network.netns import until
from reference import completion
from throttled.control.requests import Allow
from throttled.control.results import ChangeResult

THROTTLED = Path(sys.executable).with_name("throttled")
ENV = {**os.environ, "PATH": f"{THROTTLED.parent}:{os.environ['PATH']}"}
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


#: `script` gives zsh a terminal, in which it edits lines; ^G writes the line as it is completed.
ZSH = """\
PS1=; unsetopt beep; fpath=({home} $fpath); autoload -Uz compinit; compinit -u -D
dump() {{ print -r -- "$BUFFER" >>{home}/lines; BUFFER=; zle accept-line }}
zle -N dump; bindkey '^G' dump
print -r -- ready >>{home}/lines
"""


def zsh(place: Path, config: Path, *lines: str) -> list[list[str]]:
    """Return what zsh makes of each line and a tabulator: its last word."""
    (place / "_throttled").write_text(completion.scripts()[completion.SHELLS["zsh"]])
    out = place / "lines"
    out.touch()
    command = ["script", "--quiet", "--command", "zsh -f -i", str(place / "screen")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=ENV
    ) as ran:
        assert ran.stdin is not None

        def write(text: str, count: int) -> None:
            assert ran.stdin is not None
            ran.stdin.write(text.encode())
            ran.stdin.flush()
            until(lambda: len(out.read_text().splitlines()) == count, f"{text!r} is completed")

        write(ZSH.format(home=place), 1)
        for number, line in enumerate(lines, 2):
            write(line.format(config=config) + "\t\a", number)
        ran.stdin.write(b"exit\n")
        ran.stdin.close()
    begun = [line.format(config=config).rpartition(" ")[2] for line in lines]
    words = [line.split(" ")[-1] or line.split()[-1] for line in out.read_text().splitlines()[1:]]
    return [[word] if word != old else [] for word, old in zip(words, begun, strict=True)]


def fish(place: Path, config: Path, *lines: str) -> list[list[str]]:
    """Return what fish offers behind each line."""
    (place / "throttled.fish").write_text(completion.scripts()[completion.SHELLS["fish"]])
    script = f"source {place}/throttled.fish; for line in $argv; complete -C $line; echo END; end"
    words = [line.format(config=config) for line in lines]
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, *words],
        capture_output=True,
        text=True,
        check=True,
        env=ENV,
    )
    assert done.stderr == ""
    return [
        [row.partition("\t")[0] for row in part.splitlines()]
        for part in done.stdout.split("END\n")[:-1]
    ]


@pytest.mark.parametrize("shell", [zsh, fish])
def test_other_shells(tmp_path: Path, shell: Callable[..., list[list[str]]]) -> None:
    begun = "throttled --config {config} "
    found: list[list[str]] = []

    async def story(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(V6)
        lab.write(HOSTILE.format("203.0.113.9", "al;reboot"), process="postfix/submission/smtpd")
        lab.write(HOSTILE.format("203.0.113.9", "alice"), process="postfix/submission/smtpd")
        await lab.listed(2)
        lines = (
            "throttled unb",
            begun + "explain 198.51.10",
            begun + "explain 2001:db8:1:2:3",
            begun + "explain 203.0.113.7",
            begun + "list --limit auth-u",
            begun + "list --action b",
        )
        found.extend(await asyncio.to_thread(shell, tmp_path, lab.config, *lines))

    live(tmp_path, story)
    assert found == [["unban"], [A], [V6], [], ["auth-users"], ["ban"]]


@pytest.mark.parametrize("shell", [zsh, fish])
def test_other_shells_are_offered_nothing_without_a_daemon(
    tmp_path: Path, shell: Callable[..., list[list[str]]]
) -> None:
    lines = "throttled --socket {config}/none unban 19", "throttled --config /none list --limit a"
    assert shell(tmp_path, tmp_path, *lines) == [[], []]
