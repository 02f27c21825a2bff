"""What check says of notifications, with a systemctl of our own and real sockets."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from throttled.config.schema import Notify
from throttled.errors import ThrottledError
from throttled.health.probes.notify import _TEXT, check
from throttled.model import Problem

DENY = "LoadState=loaded\nIPAddressDeny=0.0.0.0/0 ::/0\nIPAddressAllow={}\n"
SECRET = "http://203.0.113.9/services/T0/secret"


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what writes what systemctl says of the unit."""
    program = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def say(text: str) -> None:
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        program.chmod(0o755)

    say("LoadState=not-found\nIPAddressDeny=\nIPAddressAllow=\n")
    return say


@pytest.fixture
def server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"


def found(settings: Notify, path: str = "/nowhere") -> list[Problem]:
    return list(check(settings, Path(path), None))


def test_nothing_configured() -> None:
    assert found(Notify()) == []


def test_a_command(tmp_path: Path) -> None:
    (problem,) = found(Notify(command=("/bin/true",)))
    assert problem.state == "ok"
    (tmp_path / "script").touch()
    (problem,) = found(Notify(command=(f"{tmp_path}/script",)))
    assert (problem.state, problem.what) == (
        "fault",
        f"notify: the command {tmp_path}/script cannot be run",
    )


@pytest.mark.usefixtures("unit")
def test_a_secret_that_everybody_can_read(tmp_path: Path, server: str) -> None:
    path = tmp_path / "throttled.toml"
    path.touch()
    for mode, states in ((0o600, ["ok"]), (0o640, ["ok"]), (0o644, ["warning", "ok"])):
        path.chmod(mode)
        problems = found(Notify(url=server), str(path))
        assert [problem.state for problem in problems] == states
    assert problems[0].hint == f"chmod o= {path}"
    assert "secret" not in problems[1].what  # a host, not the whole of it


def test_a_unit_that_denies_it_and_the_drop_in_to_write(unit: Callable[[str], None]) -> None:
    unit(DENY.format("127.0.0.0/8 ::1/128"))
    (problem,) = found(Notify(url=SECRET))
    assert problem.state == "fault"
    assert problem.what == (
        "notify: the unit keeps the daemon from reaching 203.0.113.9 (IPAddressDeny)"
    )
    assert "T0" not in problem.hint
    shipped = (Path(__file__).parents[4] / "packaging/systemd/webhook.conf").read_text()
    lines = [line for line in shipped.splitlines() if not line.startswith("#   ")]
    assert "\n".join(lines) in problem.hint
    (problem,) = found(Notify(url="https://nosuch.invalid/x"))
    assert "from reaching nosuch.invalid" in problem.what


def test_a_unit_that_allows_it(unit: Callable[[str], None], server: str) -> None:
    unit(DENY.format("127.0.0.0/8 ::1/128"))
    (problem,) = found(Notify(url=server))
    assert problem.state == "ok"


@pytest.mark.usefixtures("unit")
def test_nobody_there() -> None:
    (problem,) = found(Notify(url="http://127.0.0.1:1/x"))
    assert problem.state == "warning"
    assert "Connection refused" in problem.what


@pytest.mark.parametrize("denied", [True, False])
def test_a_running_daemon_is_believed(unit: Callable[[str], None], *, denied: bool) -> None:
    unit(DENY.format("" if denied else "203.0.113.0/24"))

    def fail() -> None:
        raise ThrottledError("Operation not permitted", "correct it")

    (problem,) = check(Notify(url=SECRET), Path("/nowhere"), fail)
    assert problem.state == "fault"
    assert problem.what.endswith("at 203.0.113.9: Operation not permitted")
    assert problem.hint == (_TEXT if denied else "correct it")
    (problem,) = check(Notify(url=SECRET), Path("/nowhere"), lambda: None)
    assert problem.state == "ok"


def test_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [problem.state for problem in found(Notify(url=server))] == ["ok"]
