"""The schema: composition, and that every key says what it is for."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Meta, Struct, ValidationError, convert

from throttled.config.schema import Config, Firewall, Log, Metrics
from throttled.facts import Facts
from throttled.log_paths import JOURNAL
from throttled.settings import Policy


def _hints(kind: type[Struct]) -> Iterator[tuple[str, Any]]:
    """Yield every key of every table with its annotated type."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        structs = [part for part in _leaves(hint) if issubclass(part, Struct)]
        for inner in structs:
            yield from _hints(inner)
        if not structs:
            yield f"{kind.__name__}.{name}", hint


def _leaves(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _leaves(part)


def test_policy_is_the_default_policy() -> None:
    assert Config().policy() == Policy()


def test_policy_takes_every_field_of_the_file() -> None:
    config = convert(
        {"mode": "observe", "max_clients": 5000, "limits": {}, "points": {"relay": 9}}, Config
    )
    policy = config.policy()
    assert (policy.mode, policy.max_clients, policy.limits) == ("observe", 5000, {})
    assert policy.points.relay == 9
    assert set(Policy.__struct_fields__) <= set(Config.__struct_fields__)


def test_every_key_has_a_description_and_every_number_bounds() -> None:
    found = dict(_hints(Config))
    assert {"Limit.soft", "FirewallPorts.mx", "Control.group", "Config.mode"} <= set(found)
    for name, hint in found.items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
        assert any(meta.description for meta in metas), name
        if int in get_args(hint):
            assert any(meta.ge is not None and meta.le is not None for meta in metas), name


@pytest.mark.parametrize(
    ("kind", "key", "good", "bad"),
    [
        (
            Metrics,
            "listen",
            ["", "127.0.0.1:9154", "[::1]:1", "host.example:80", "/run/m.sock"],
            ["9154", ":1", "/", "/run/", "run/m.sock", "/" + "x" * 107],
        ),
        (Firewall, "backend", ["auto", "nftables", "iptables", "dryrun"], ["", "NFTABLES", 1]),
        (Firewall, "ports", ["auto", {"mx": [1, 65535]}, {}], [[25], {"mx": [0]}, {"mx": [65536]}]),
        (Firewall, "size", [1000, 16_000_000], [999, 16_000_001, True, 2000.0]),
    ],
)
def test_bounds(kind: type[Struct], key: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        convert({key: value}, kind)
    for value in bad:
        with pytest.raises(ValidationError):
            convert({key: value}, kind)


def test_observing_has_a_database_of_its_own() -> None:
    assert Config().database() == "/var/lib/throttled/throttled.db"
    assert Config(mode="observe").database() == "/var/lib/throttled/throttled.observe.db"


def test_containers_are_logs_beside_files_or_alone() -> None:
    log = Log(files=("/a",), containers=("mail", "mx.2"))
    assert Config(log=log).logs(Facts()) == ["/a", "journal:mail", "journal:mx.2"]
    assert Config(log=Log(containers=("mail",))).logs(Facts()) == ["journal:mail"]
    both = Log(containers=("mail",), journal=True)
    assert Config(log=both).logs(Facts()) == ["journal:mail", JOURNAL]
