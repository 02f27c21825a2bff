from throttled.decide.overrides import Overrides
from throttled.limits import Override

NARROW, WIDE, SIX = Override(soft=3), Override(soft=30, hard=90), Override(enabled=False)


def test_the_narrowest_entry_counts() -> None:
    others = Overrides(
        {
            "198.51.100.7": NARROW,
            "198.51.100.9/24": WIDE,
            "2001:db8::/64": SIX,
            "198.18.0.0/15": SIX,
        }
    )
    assert others
    assert others.of("198.51.100.7") is NARROW
    assert others.of("198.51.100.8") is WIDE
    assert others.of("198.51.100.0/24") is WIDE
    assert others.of("198.51.0.0/16") is None
    assert others.of("2001:db8::7") is SIX
    assert others.of("2001:db8:0:1::7") is None
    assert others.of("203.0.113.7") is None
    assert sorted(others.thresholds) == [3, 30, 90]


def test_none() -> None:
    assert not Overrides({}).entries
    assert Overrides({}).of("198.51.100.7") is None
