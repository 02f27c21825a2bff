"""What is logged, compared with what arrives."""

import pytest

from throttled.health.silence import Silence


class Host:
    """A Postfix whose events and connections are reported."""

    def __init__(self) -> None:
        self.events = 7
        self.there: set[bytes] = set()
        self.asked = 0
        self.fails = False
        self.silence = Silence(lambda: self.events, self.connections)

    def connections(self) -> set[bytes]:
        self.asked += 1
        if self.fails:
            raise OSError
        return set(self.there)

    def pass_to(self, *moments: float) -> list[str]:
        for at in moments:
            self.silence.tick(at)
        return [finding.key for finding in self.silence.findings(moments[-1])]


@pytest.fixture
def host() -> Host:
    made = Host()
    made.pass_to(100.0)
    return made


def test_connections_that_nobody_logs_are_reported_until_something_is(host: Host) -> None:
    host.there = {b"idle"}  # logged before
    assert host.pass_to(105.0) == []
    host.there = {b"idle", b"a"}
    assert host.pass_to(110.0) == []
    host.there = {b"b", b"c"}  # those before are over
    assert host.pass_to(114.0) == []
    assert host.pass_to(116.0) == ["log-silent"]
    (finding,) = host.silence.findings(120.0)
    assert "for 20 s" in finding.what
    assert "at least 3 connections" in finding.what
    host.events += 1
    assert host.pass_to(121.0) == []
    assert host.pass_to(150.0) == []  # and the earlier connections do not count


def test_a_quiet_night_is_no_silence(host: Host) -> None:
    host.there = {b"a", b"b", b"c", b"d"}
    assert host.pass_to(*map(float, range(101, 500))) == []


def test_while_the_log_speaks_nothing_is_asked(host: Host) -> None:
    for at in range(101, 200):
        host.events += 1
        host.there.add(bytes([at]))
        assert host.pass_to(float(at)) == []
    assert host.asked == 0


def test_a_kernel_without_counts(host: Host) -> None:
    host.fails = True
    assert host.pass_to(105.0, 110.0, 130.0) == []
    assert host.asked == 3


def test_what_is_remembered_is_bounded(host: Host) -> None:
    host.pass_to(105.0)
    for at in range(110, 200, 5):
        host.there = {bytes([at, n, m]) for n in range(25) for m in range(25)}
        host.pass_to(float(at))
    assert len(host.silence._unlogged) < 2000


def test_what_was_logged_between_two_silences_is_not_counted_against_the_log(host: Host) -> None:
    assert host.pass_to(105.0) == []
    host.events += 1
    host.there = {b"a", b"b", b"c"}
    assert host.pass_to(106.0, 111.0, 116.0, 130.0) == []
