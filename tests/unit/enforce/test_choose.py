import pytest

from throttled.enforce.choose import choose
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
    assert caught.value.hint == "one of auto, nftables, iptables, dryrun, xdp"
