"""What check says of the fleet."""

from pathlib import Path

import pytest

from throttled.config.fleet import Fleet
from throttled.control.results import FleetPeer, FleetResult
from throttled.errors import NotRunningError
from throttled.fleet.frames import Down, Server
from throttled.health.fleet import error, server
from throttled.health.probes.fleet import check
from throttled.model import Finding

PEER = FleetPeer("mx2", "1", 1.0, 0, False, {})
GOOD = Server("7.0.15", "noeviction", "master")


def fleet(tmp_path: Path, url: str = "rediss://r.example.org:6379", **more: str) -> Fleet:
    key = tmp_path / "fleet.key"
    key.touch(0o600)
    key.write_bytes(b"s" * 32)
    return Fleet(site="office", secret=str(key), server=url, **more)  # type: ignore[arg-type]


def found(settings: Fleet, result: FleetResult | None = None) -> list[Finding]:
    return list(
        check(settings, lambda: result or FleetResult("office", "mx1", True, "", {}, [PEER]))
    )


def test_without_a_fleet_nothing_is_said() -> None:
    assert found(Fleet()) == []


def test_all_is_well(tmp_path: Path) -> None:
    (one,) = found(fleet(tmp_path))
    assert (one.state, one.what) == ("ok", "fleet office: connected as mx1; peers: mx2")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("redis://r.example.org:6379", True),
        ("redis://127.0.0.1:6379", False),
        ("redis://[::1]:6379", False),
        ("unix:///run/redis.sock", False),
        ("sentinel://a.example.org:26379,127.0.0.1/office", True),
        ("sentinel://localhost:26379/office", False),
        ("sentinels://a.example.org:26379/office", False),
    ],
)
def test_what_is_not_encrypted_is_named(tmp_path: Path, url: str, *, warned: bool) -> None:
    assert ("fleet-tls" in {f.key for f in found(fleet(tmp_path, url))}) == warned


@pytest.mark.parametrize("key", ["password", "sentinel_password", "ca", "cert", "key"])
def test_files_that_cannot_be_used_are_errors(tmp_path: Path, key: str) -> None:
    settings = fleet(tmp_path, **{key: str(tmp_path / "none")})
    assert [f.state for f in found(settings)] == ["fault", "ok"]
    Path(settings.secret).chmod(0o644)
    assert "readable by others" in found(settings)[0].what


def test_no_connection_is_an_error_and_no_daemon_a_warning(tmp_path: Path) -> None:
    (one,) = found(fleet(tmp_path), FleetResult("office", "mx1", False, "WRONGPASS", {}, []))
    assert (one.state, "WRONGPASS" in one.what) == ("fault", True)

    def nobody() -> FleetResult:
        raise NotRunningError("no daemon", "start it")

    (one,) = check(fleet(tmp_path), nobody)
    assert one.state == "warning"


def test_what_is_wrong_with_the_server_is_passed_on(tmp_path: Path) -> None:
    wrong = [Finding("warning", "evicts", "set it", "fleet-evicts")]
    result = FleetResult("office", "mx1", True, "", {}, [], server=wrong)
    assert found(fleet(tmp_path), result)[1:] == wrong


@pytest.mark.parametrize(
    ("about", "key"),
    [
        (Server("7.0.15", "allkeys-lru"), "fleet-evicts"),
        (Server("6.2.1", "noeviction"), "fleet-version"),
        (Server("7.0.15", "noeviction", persistent=False), "fleet-persistence"),
        (Server("9.1.2", "noeviction", wide=("delete keys",)), "fleet-acl"),
        (Server("9.1.2", "noeviction", open=True), "fleet-open"),
    ],
)
def test_each_fault_of_a_server_has_its_key(about: Server, key: str) -> None:
    assert [f.key for f in server(about)] == [key]
    assert list(server(GOOD)) == []
    assert list(server(Server("?"))) == []


def test_what_is_wrong_while_it_is_connected_is_named(tmp_path: Path) -> None:
    wrong = FleetResult("office", "mx1", True, "another host publishes as mx1", {}, [PEER], "do it")
    ok, one = found(fleet(tmp_path), wrong)
    assert (ok.state, one.state) == ("ok", "warning")
    assert (one.what, one.hint) == ("fleet office: another host publishes as mx1", "do it")


@pytest.mark.parametrize("kind", ["refused", "unreachable"])
def test_where_no_sentinel_answers_the_hint_names_their_password(kind: str) -> None:
    down = Down(kind, "no Sentinel names the server office: s1:26379 asks for a password")  # type: ignore[arg-type]
    assert "sentinel_user and sentinel_password" in error(down)[1]
