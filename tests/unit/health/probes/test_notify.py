"""What check says of notifications, with a systemctl of our own and real sockets."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.programs import smtp_sink
from throttled.config.schema import Notify
from throttled.errors import ThrottledError
from throttled.health.probes.notify import _TEXT, check
from throttled.model import Finding

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


def found(settings: Notify, path: str = "/nowhere") -> list[Finding]:
    return list(check(settings, [Path(path)], None))


def test_nothing_configured() -> None:
    assert found(Notify()) == []


def test_a_command(tmp_path: Path) -> None:
    (finding,) = found(Notify(command=("/bin/true",)))
    assert finding.state == "ok"
    (tmp_path / "script").touch()
    (finding,) = found(Notify(command=(f"{tmp_path}/script",)))
    assert (finding.state, finding.what) == (
        "fault",
        f"notify: the command {tmp_path}/script cannot be run",
    )


def test_mail() -> None:
    with smtp_sink.serve() as sink:
        (finding,) = found(Notify(mail="root", smtp=sink.address))
        assert (finding.state, finding.what) == (
            "ok",
            f"notify: {sink.address} accepts mail to root",
        )
        assert sink.mails == []
    (finding,) = found(Notify(mail="root", smtp=sink.address))
    assert finding.state == "fault"
    assert "no mail to root: mail server" in finding.what
    with smtp_sink.serve("RCPT") as sink:
        (finding,) = found(Notify(mail="root", smtp=sink.address))
    assert "the mail server refused root: 554 5.7.1 not wanted here" in finding.what


@pytest.mark.usefixtures("unit")
def test_a_secret_that_everybody_can_read(tmp_path: Path, server: str) -> None:
    path = tmp_path / "throttled.toml"
    path.touch()
    for mode, states in ((0o600, ["ok"]), (0o640, ["ok"]), (0o644, ["warning", "ok"])):
        path.chmod(mode)
        findings = found(Notify(url=server), str(path))
        assert [finding.state for finding in findings] == states
    assert findings[0].hint == f"chmod o= {path}"
    assert "secret" not in findings[1].what  # a host, not the whole of it


def test_a_unit_that_denies_it_and_the_drop_in_to_write(unit: Callable[[str], None]) -> None:
    unit(DENY.format("127.0.0.0/8 ::1/128"))
    (finding,) = found(Notify(url=SECRET))
    assert finding.state == "fault"
    assert finding.what == (
        "notify: the unit's IPAddressDeny does not let the daemon reach 203.0.113.9"
    )
    assert "T0" not in finding.hint
    shipped = (Path(__file__).parents[4] / "packaging/systemd/webhook.conf").read_text()
    lines = [line for line in shipped.splitlines() if not line.startswith("#   ")]
    assert "\n".join(lines) in finding.hint
    (finding,) = found(Notify(url="https://nosuch.invalid/x"))
    assert "does not let the daemon reach nosuch.invalid" in finding.what


def test_a_unit_that_allows_it(unit: Callable[[str], None], server: str) -> None:
    unit(DENY.format("127.0.0.0/8 ::1/128"))
    (finding,) = found(Notify(url=server))
    assert finding.state == "ok"


@pytest.mark.usefixtures("unit")
def test_nobody_there() -> None:
    (finding,) = found(Notify(url="http://127.0.0.1:1/x"))
    assert finding.state == "warning"
    assert "Connection refused" in finding.what


@pytest.mark.parametrize("denied", [True, False])
def test_a_running_daemon_is_believed(unit: Callable[[str], None], *, denied: bool) -> None:
    unit(DENY.format("" if denied else "203.0.113.0/24"))

    def fail() -> None:
        raise ThrottledError("Operation not permitted", "correct it")

    (finding,) = check(Notify(url=SECRET), [Path("/nowhere")], fail)
    assert finding.state == "fault"
    assert finding.what.endswith("at 203.0.113.9: Operation not permitted")
    assert finding.hint == (_TEXT if denied else "correct it")
    (finding,) = check(Notify(url=SECRET), [Path("/nowhere")], lambda: None)
    assert finding.state == "ok"


def test_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [finding.state for finding in found(Notify(url=server))] == ["ok"]
