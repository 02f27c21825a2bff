import pytest

from throttled.enforce.choose import choose
from throttled.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("auto", "nftables"), ("nftables", "nftables"), ("xdp", "xdp"), ("dryrun", "dryrun")],
)
def test_by_name(name: str, chosen: str) -> None:
    assert choose(name).name == chosen


def test_one_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("pf")
    assert caught.value.hint == "one of auto, nftables, dryrun, xdp"
