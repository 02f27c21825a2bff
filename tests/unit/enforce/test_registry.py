import ast
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import throttled
from throttled.config.schema import Firewall
from throttled.enforce.registry import backends, choose
from throttled.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("auto", "nftables"), *((n, n) for n in ("nftables", "iptables", "xdp", "dryrun"))],
)
def test_by_name(name: str, chosen: str) -> None:
    assert choose(name).name == chosen


def test_one_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("pf")
    assert caught.value.hint == "one of auto, nftables, iptables, xdp, dryrun"


def test_the_configuration_names_the_same() -> None:
    backend = next(each for each in msgspec.structs.fields(Firewall) if each.name == "backend")
    literal, _meta = get_args(backend.type)
    assert set(get_args(literal)) == {"auto", *backends()}


def test_observing_enforces_nothing_whatever_is_configured() -> None:
    assert [choose(name, observing=True).enforces for name in backends()] == [False] * 4
    assert all(choose(name).enforces for name in ("nftables", "iptables", "xdp"))


def test_only_enforce_and_the_configuration_know_the_names() -> None:
    package = Path(throttled.__file__).parent
    for path in package.rglob("*.py"):
        inside = path.relative_to(package)
        if inside.parts[0] != "enforce" and str(inside) != "config/schema.py":
            nodes = ast.walk(ast.parse(path.read_text()))
            words = {each.value for each in nodes if isinstance(each, ast.Constant)}
            assert not words & backends().keys(), inside
