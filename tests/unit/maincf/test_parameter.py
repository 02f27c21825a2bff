"""What a parameter is without more."""

from throttled.maincf.parameter import Parameter


def test_a_plain_parameter() -> None:
    plain = Parameter("a", "count", "1")
    assert (plain.low, plain.off, plain.shown, plain.hits, plain.measure) == (
        0,
        False,
        True,
        (),
        "",
    )
