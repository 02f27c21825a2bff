"""Commands: what they print, and every way in which they do not."""

import errno
import os
import selectors

import pytest

from throttled.errors import HostError
from throttled.host.command import run


def test_output_comes_back_even_where_it_is_no_utf8() -> None:
    assert run("printf", r"a\nb\377") == "a\nb�"


def test_commands_of_administrators_are_found_without_a_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PATH")
    assert run("postconf", "-dh", "mail_name") == "Postfix\n"


def test_the_environment_does_not_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_CONFIG", "/nonexistent")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    lines = run("env").splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == ["LC_ALL", "PATH"]
    assert "LC_ALL=C" in lines


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-command-here",), "no-such-command-here cannot be run: "),
        (("echo", "a\0b"), "echo cannot be run: embedded null byte"),
        (("sh", "-c", "echo one >&2; echo two >&2; exit 3"), "two"),
        (("sh", "-c", "exit 3"), "exit status 3"),
        (("sh", "-c", "exit 3", "x" * 99), f"sh -c exit 3 {'x' * 87}…: exit status 3"),
    ],
)
def test_failures(command: tuple[str, ...], message: str) -> None:
    with pytest.raises(HostError) as caught:
        run(*command)
    assert message in caught.value.message


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(HostError, match=r"sleep 600: no answer within 0\.05 s"):
        run("sleep", "600", seconds=0.05)


def test_a_command_that_closes_its_output_and_hangs_is_ended() -> None:
    with pytest.raises(HostError, match=r"no answer within 0\.05 s"):
        run("sh", "-c", "exec >&- 2>&-; exec sleep 600", seconds=0.05)


@pytest.mark.parametrize("where", ["", " >&2"])
def test_a_command_that_writes_without_end_is_ended(where: str) -> None:
    with pytest.raises(HostError, match=r"more than 4194304 bytes of output"):
        run("sh", "-c", f"exec yes{where}", seconds=60.0)


def test_want_of_descriptors_is_an_error_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the pipes of the process and the selector that waits for them."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    with pytest.raises(HostError, match="echo: Too many open files"):
        run("echo")
