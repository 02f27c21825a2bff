"""Hostile and damaged input through the whole chain, a restart with read-back included.

Two promises: nothing raises that is not foreseen (`skipped` is empty), and whatever a line or a row
holds, who offends after it is banned.
"""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.daemon.chain import Chain, offence, spoil

A, B, C = "198.51.100.7", "198.51.100.8", "203.0.113.9"

SAMPLES = sorted(Path(__file__).parents[1].glob("samples/*.txt"))
BODIES = [
    line.partition("]: ")[2]
    for path in SAMPLES
    for line in path.read_text("latin-1").splitlines()
    if line and line[0] not in "#=["
]
PROCESSES = ("smtpd", "postscreen", "anvil", "master", "submission/smtpd", "tlsproxy")

#: Values at the edges of what a field can hold.
odd = st.sampled_from(
    (
        *("0", "-1", "65536", "99999", "9" * 9, "9" * 19, "9" * 400, "1e999", "nan", "\0", ""),
        *("2001:db8:1::/84", "198.51.100.0/24", "::/0", "fe80::1%eth0", "::ffff:198.51.100.9"),
        *("\udcff", "\xff", "١٢", "²", "[", "]", "unknown[unknown]", "1.2.3.4.5", "/129"),
    )
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line with a whole header and a body that was changed, or not."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.sampled_from((0, 1, 4, 20))))
        body = body[:at] + draw(odd | st.text(max_size=5)) + body[end:]
    stamp = draw(
        st.sampled_from(
            (
                time.strftime("%b %e %H:%M:%S", time.gmtime()),
                time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
                "Feb 29 23:59:60",
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59.999999-12:00",
            )
        )
    )
    pid = draw(st.sampled_from(("1", "0", "9" * 10)))
    return f"{stamp} mx postfix/{draw(st.sampled_from(PROCESSES))}[{pid}]: {body}"


@contextmanager
def chain() -> Iterator[Chain]:
    with tempfile.TemporaryDirectory() as home:
        yield Chain(Path(home))


def anvil(client: str) -> str:
    stamp = time.strftime("%b %e %H:%M:%S", time.gmtime())
    body = f"statistics: max connection count 4 for (smtp:{client}) at {stamp}"
    return f"{stamp} mx postfix/anvil[3]: {body}"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(lines(), max_size=30))
@example([anvil("2001:db8:1::/84")])
@example([anvil("198.51.100.0/24")])
@example([anvil("::/0")])
def test_lines(text: list[str]) -> None:
    with chain() as one:
        one.session([])  # a position, from which on lines are read back
        one.session(text + offence(A))
        assert one.skipped == {}
        assert one.banned(A)
        one.session(text + offence(B))
        assert one.skipped == {}
        assert one.banned(B)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 32))
@example(354)  # the number of a log file
@example(1_058_084_795)  # the number of a decision
@example(358)  # the subject of an entry
def test_rows(seed: int) -> None:
    with chain() as one:
        one.session([])
        good = time.strftime("%b %e %H:%M:%S", time.gmtime()) + (
            f" mx postfix/smtpd[5]: disconnect from x.test[{C}] ehlo=1 mail=1 rcpt=1 data=1"
        )
        one.session([good, *offence(A), *offence("2001:db8::7")])
        put = list(spoil(one.database, random.Random(seed), 3))
        for _ in range(2):
            one.session(offence(B) + offence(A) + [good])
            assert one.banned(B), put


@pytest.mark.parametrize("client", ["2001:db8:1::/84", "198.51.100.0/24", "2001:db8::8"])
def test_a_peak_is_read_back(client: str) -> None:
    with chain() as one:
        one.session([])
        one.session([anvil(client), *offence(A)])
        one.session([anvil(client), *offence(B)])
        assert (one.skipped, one.banned(A), one.banned(B)) == ({}, True, True)


#: Events of the server itself: they have no client.
SERVER = (
    "postscreen[3]: entering STRESS mode with 70 connections",
    'master[3]: warning: service "smtp" (25) has reached its process limit "100": new clients wait',
)


@pytest.mark.parametrize("text", SERVER)
def test_an_event_without_a_client_is_read_back(text: str) -> None:
    """What an operator had forgotten is looked up by client for each line that is read back."""
    line = time.strftime("%b %e %H:%M:%S mx postfix/", time.gmtime()) + text
    with chain() as one:
        one.session([])
        one.session([line])
        one.session([line, *offence(A)])
        assert (one.skipped, one.banned(A)) == ({}, True)
