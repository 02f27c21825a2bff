from throttled.parse.header import Origin
from throttled.parse.master import TABLE

ORIGIN = Origin("mx", "postfix", "master", 7)


def test_the_process_limit() -> None:
    event = TABLE.read(
        'warning: service "smtp" (25) has reached its process limit "100": new clients may '
        "experience noticeable delays",
        ORIGIN,
        0.0,
    )
    assert event is not None
    assert (event.kind, event.client, event.service) == ("saturated", "", "smtp")
    assert (event.where, event.text) == ("25", "100")


def test_no_event() -> None:
    body = "warning: see https://www.postfix.org/STRESS_README.html for examples"
    assert TABLE.read(body, ORIGIN, 0.0) is None
