"""The entry point: help, errors, exit codes, speed; some of it in a process of its own."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from lab.network.netns import DEADMAN
from throttled import __version__
from throttled.cli import main as main_module
from throttled.cli.main import COMMANDS, throttled
from throttled.control.results import Done, ListResult
from throttled.errors import NotPermittedError, RefusedError

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

PROGRAM = str(Path(sys.executable).with_name("throttled"))


def _command(name: str) -> click.Command:
    command = throttled.get_command(click.Context(throttled), name)
    assert command is not None
    return command


def test_every_command_has_help_with_examples(cli: "Cli") -> None:
    for name in COMMANDS:
        ended = cli(name, "--help")
        assert ended.code == 0
        assert "Examples:" in ended.out
        assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_right(name: str) -> None:
    """Each is a command line that this very command can read."""
    command = _command(name)
    for example in command.examples:  # type: ignore[attr-defined] # our own class of commands
        words = shlex.split(example.partition(" | ")[0].partition(" > ")[0])
        if words[0] in ("zcat", "ssh"):
            words = shlex.split(example.split(" | ")[1])
        if words[1] == "--config":
            del words[1:3]
        assert words[:2] == ["throttled", name]
        command.make_context(name, words[2:])


def test_every_command_that_prints_takes_json() -> None:
    for name in COMMANDS:
        options = {option for parameter in _command(name).params for option in parameter.opts}
        assert ("--json" in options) == (name != "run"), name


def test_the_overview_names_every_command_and_the_most_used(cli: "Cli") -> None:
    ended = cli("--help")
    assert ended.code == 0
    assert "The five most used:" in ended.out
    for name in COMMANDS:
        assert f"\n  {name} " in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_no_command_is_a_question_for_help(cli: "Cli") -> None:
    ended = cli()
    assert ended.code == 2
    assert ended.out.startswith("Usage: throttled")


def test_an_unknown_command_suggests_the_nearest(cli: "Cli") -> None:
    ended = cli("unbann", "198.51.100.7")
    assert ended.code == 2
    assert ended.err == "throttled: no such command: unbann\nhint: did you mean: throttled unban\n"
    assert "hint: see: throttled --help" in cli("xyzzy").err


def test_bad_usage(cli: "Cli") -> None:
    ended = cli("ban")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "throttled: missing argument 'SUBJECT'\nhint: see: throttled ban --help\n"
    assert cli("export").err.startswith("throttled: missing argument 'allowed|banned'. Choose from")
    assert "\\x" not in cli("export").err
    assert cli("--nonsense").code == 2
    assert cli("list", "--scope", "imap").code == 2
    for name in ("mail.example.com", "alice@example.test", "acount:alice"):
        said = cli("explain", name).err
        assert ("not an IP address" in said, "throttled find" in said) == (True, True)


def test_errors_with_json_are_on_standard_output_too(cli: "Cli") -> None:
    ended = cli("status", "--json")
    assert ended.code == 3
    assert ended.json()["error"]["exit_code"] == 3
    assert "systemctl start throttled" in ended.json()["error"]["hint"]
    assert ended.err.startswith("throttled: the daemon is not running")
    assert cli("ban", "--json").json()["error"]["hint"] == "see: throttled ban --help"


def test_the_daemons_errors_keep_their_exit_code(cli: "Cli", daemon: "Daemon") -> None:
    for error, code in ((RefusedError("no\nway", "not"), 1), (NotPermittedError("never"), 3)):
        daemon.answer = error
        assert cli("reload").code == code
    daemon.answer = RefusedError("line one\x1b\nline two", "h\x1b")
    assert cli("reload").err == "throttled: line one\\x1b\nline two\nhint: h\\x1b\n"


def test_an_answer_to_another_question_is_an_error(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = Done()
    ended = cli("status")
    assert ended.code == 1
    assert "restart the daemon" in ended.err


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (click.Abort(), 130), (click.ClickException("gone"), 1)],
)
def test_interrupts_and_clicks_own_errors(
    cli: "Cli", monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise raised

    monkeypatch.setattr(main_module.throttled, "main", fail)
    assert cli("status").code == code


def test_a_reader_that_goes_away_is_met_quietly(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "Nov 22 10:00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.7]\n" * 9999
    )
    with subprocess.Popen(
        [PROGRAM, "parse", str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["line"] == 1
        process.stdout.close()
        assert process.wait(DEADMAN) == 141
        assert process.stderr.read() == b""


#: One of each kind: help, text, JSON, JSON Lines, from the daemon, from a file.
PRINTING = (
    ("--help",),
    ("--version",),
    ("list", "--help"),
    ("list",),
    ("list", "--json"),
    ("config",),
    ("parse", "{log}"),
)


def _end(config_file: Path, *argv: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its standard streams as a shell puts them, and its end in the log."""
    log = config_file.with_name("log")
    log.write_text("Nov 22 10:00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.7]\n")
    words = [word.format(log=log) for word in argv]
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", PROGRAM, "--config", str(config_file), *words],
        capture_output=True,
        text=True,
        timeout=DEADMAN,
        check=False,
    )


@pytest.mark.parametrize("argv", PRINTING)
def test_output_that_cannot_be_written_is_an_error(
    config_file: Path, daemon: "Daemon", argv: tuple[str, ...]
) -> None:
    daemon.answer = ListResult([], 0)
    for shell, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        ended = _end(config_file, *argv, shell=shell)
        assert ended.returncode == 1
        assert ended.stderr.splitlines() == [
            f"throttled: cannot write the output: {why}",
            "hint: is standard output closed, or its file system full?",
        ]
    assert _end(config_file, *argv, shell=">/dev/full 2>/dev/full").returncode == 1
    assert _end(config_file, *argv, shell="<&- >&- 2>&-").returncode == 1
    assert _end(config_file, *argv, shell="<&- 2>/dev/full").returncode == 0
    ended = _end(config_file, *argv, shell="2>&1 >/dev/null | cat")
    assert (ended.stdout, ended.stderr) == ("", "")


@pytest.mark.parametrize("argv", PRINTING)
def test_a_reader_that_takes_nothing_is_met_quietly(
    config_file: Path, daemon: "Daemon", argv: tuple[str, ...]
) -> None:
    daemon.answer = ListResult([], 0)
    read, write = os.pipe()
    os.close(read)
    log = config_file.with_name("log")
    log.write_text("Nov 22 10:00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.7]\n")
    ended = subprocess.run(
        [PROGRAM, "--config", str(config_file), *[word.format(log=log) for word in argv]],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=DEADMAN,
        check=False,
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_an_error_keeps_its_exit_code_where_it_cannot_be_written(config_file: Path) -> None:
    for shell in (">/dev/full", ">&-", "2>/dev/full", ">&- 2>&-"):
        assert _end(config_file, "nosuch", "--json", shell=shell).returncode == 2


@pytest.mark.root
@pytest.mark.parametrize("argv", [*PRINTING, ("check", "--no-visit")])
def test_in_a_directory_that_was_deleted(
    config_file: Path, daemon: "Daemon", tmp_path: Path, argv: tuple[str, ...]
) -> None:
    daemon.answer = ListResult([], 0)
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'cd {gone} && rmdir {gone} && exec unshare -n "$@"'
    config_file.with_name("log").write_text("")
    words = [word.format(log=config_file.with_name("log")) for word in argv]
    ended = subprocess.run(
        ["sh", "-c", command, "sh", PROGRAM, "--config", str(config_file), *words],
        capture_output=True,
        text=True,
        timeout=DEADMAN,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode in ({0, 1} if argv[0] == "check" else {0}), ended.stderr


def test_what_the_system_refuses_is_reported(
    cli: "Cli", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/etc/some")

    monkeypatch.setattr(main_module.throttled, "main", fail)
    ended = cli("status")
    assert (ended.code, ended.err) == (
        3,
        "throttled: /etc/some: Permission denied\nhint: run as root\n",
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(main_module.throttled, "main", lambda *_args, **_more: Path.cwd())
    ended = cli("status")
    assert ended.code == 1
    assert "the current directory cannot be used: No such file or directory" in ended.err
    monkeypatch.chdir("/")


def test_version_and_no_heavy_import_for_it() -> None:
    program = (
        "import sys; from throttled.cli.main import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ended.stdout == f"throttled {__version__}\n".encode()
    loaded = set(ended.stderr.decode().split())
    assert not loaded & {"msgspec", "rich", "asyncio", "sqlite3", "pyroute2", "psutil"}


def test_the_module_is_the_command() -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    module = (sys.executable, "-m", "throttled")
    assert run(*module, "--version").stdout == run(PROGRAM, "--version").stdout != ""
    failed = run(*module, "lisst")
    assert failed.returncode == 2
    assert failed.stderr.startswith("throttled: no such command: lisst\n")
