"""User names tried on several hosts: two hosts in one process, as in `lab.fleet.streams`."""

import pytest
from msgspec.structs import replace

from lab.daemon.events import A, auth
from lab.fleet.streams import NOW, SECRET, SERVER, WALL, Host, kinds
from throttled.clock import Moment
from throttled.config.schema import Fleet as Settings
from throttled.decide.tried import Tried
from throttled.fleet import wire
from throttled.fleet.frames import Names
from throttled.model import Evidence

TAGS = Tried(SECRET, 0.0)
DAY = 86400.0
FAILED = auth("root")


def guess(host: Host, *names: str, client: str = A, now: Moment = NOW) -> None:
    """Log failed logins."""
    host.pipeline.engine.now = now.boot
    for pid, name in enumerate(names):
        host.pipeline.engine.step(
            replace(FAILED, client=client, user=name, pid=pid, time=now.wall), now.boot, 0, 1, pid
        )
    host.pipeline.settle(now)


def after(seconds: float) -> Moment:
    return Moment(WALL + seconds, NOW.boot + seconds)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def rows(host: Host) -> list[wire.Row]:
    entries = [wire.decode(host.seal, *entry[1:]) for entry in host.stream]
    return [row for entry in entries if entry.kind == "names" for row in entry.rows]


def test_names_are_published_as_tags_once_a_second(one: Host) -> None:
    guess(one, "root", "admin")
    assert one.fleet.outbox.due(NOW) == 0.0
    one.publish()
    assert rows(one) == [wire.Names(A, "submission", [TAGS.tag("root"), TAGS.tag("admin")])]
    guess(one, "test")
    assert one.fleet.outbox.due(NOW) == pytest.approx(0.9)
    one.publish()
    assert len(rows(one)) == 1
    one.publish(after(1))
    assert rows(one)[1:] == [wire.Names(A, "submission", [TAGS.tag("test")])]


def test_three_names_on_each_host_are_a_ban_where_the_eleventh_is_known(
    one: Host, two: Host
) -> None:
    guess(two, *names("x", 8))
    guess(one, *names("y", 3))
    one.publish()
    two.hear(one)
    (row,) = [s for s in two.store.listing.snapshots(WALL) if s.action == "ban"]
    assert (row.subject, row.scope, row.origin) == (A, "submission", "peer:mx1")
    assert "11 user names tried within 1d, hard limit 10" in row.why
    assert two.fleet.inbox.received["mx1", "names-counted"] == 3
    two.publish()
    assert "ban" not in kinds(two)  # the last name was not tried here


def test_a_ban_that_an_own_line_led_to_is_published(one: Host, two: Host) -> None:
    guess(one, *names("x", 9))
    one.publish()
    two.hear(one)
    guess(two, *names("y", 2), now=after(1))
    assert two.bans() == {A: "log"}
    two.publish(after(1))
    assert "ban" in kinds(two)


@pytest.mark.parametrize("where", ["one", "two"])
def test_names_of_good_clients_count_where_they_were_tried(
    one: Host, two: Host, where: str
) -> None:
    good = [Evidence(A, WALL - DAY, 0, 1)]
    (one if where == "one" else two).store.record(WALL - DAY, (), good, [])
    guess(one, *names("x", 4))
    one.publish()
    two.hear(one)
    meters = {m.limit: m.value for m in two.pipeline.engine.meters(A, NOW.boot)}
    assert meters.get("auth-slow", 0) == 0


def test_names_of_protected_and_exempt_clients_and_of_no_clients_do_not_count(
    one: Host, two: Host
) -> None:
    two.store.unbans.unban(A, "submission", WALL, WALL + 600)
    own = wire.Names("127.0.0.1", "submission", [1])
    others = [wire.Names(s, "submission", [1]) for s in ("198.51.100.0/24", "198.51.100.07", "xx")]
    one.say(1, wire.Names(A, "submission", [1, 2]), own, *others, kind="names")
    two.hear(one)
    counts = {what: n for (_, what), n in two.fleet.inbox.received.items() if n}
    assert counts == {"names-exempt": 2, "names-protected": 1, "names-refused": 3}


def test_names_count_again_after_a_restart_and_lead_to_nothing_then(one: Host, two: Host) -> None:
    guess(one, *names("x", 10))
    one.publish()
    two.hear(one)
    two.pipeline = Host("mx2").pipeline  # a new process: nothing is counted
    two.pipeline.recorder.store = two.store
    two.start()
    two.connect()
    two.hear(one)
    assert two.bans() == {}
    guess(two, "y")
    assert two.bans() == {A: "log"}


def test_names_of_before_an_unban_do_not_count_after_a_restart(one: Host, two: Host) -> None:
    guess(one, *names("x", 10))
    one.publish()
    two.hear(one)
    two.store.unbans.unban(A, None, WALL + 5)
    two.pipeline = Host("mx2").pipeline
    two.pipeline.recorder.store = two.store
    two.start()
    two.connect(after(10))
    two.hear(one, after(10), SERVER + 10_000)
    assert not two.pipeline.engine.meters(A, NOW.boot + 10)[0].value


def test_names_are_not_shared_where_they_are_not_to_be() -> None:
    host = Host("mx1", Settings(site="lab", share=("bans",)))
    host.connect()
    guess(host, "root")
    host.publish()
    assert kinds(host) == ["heartbeat"]


def test_three_names_on_each_of_twenty_hosts_are_a_ban_on_all_within_two_seconds() -> None:
    """Each host sees three names, and none of them would do anything alone."""
    hosts = [Host(f"mx{n}") for n in range(20)]
    for host in hosts:
        host.connect()
        host.fleet.named(Names({other.name: "9999999999999-0" for other in hosts}), NOW)
    read = {(a.name, b.name): 0 for a in hosts for b in hosts}
    tries = [(host, f"name{n}-{host.name}") for n in range(3) for host in hosts]
    eleventh = 20  # tenths of a second: one try in two of them
    for tick in range(eleventh + 21):
        now = after(tick / 10)
        if tick % 2 == 0:
            host, name = tries[tick // 2]
            guess(host, name, now=now)
        for number, host in enumerate(hosts):
            if tick % 10 == number % 10 or "ban" in {d.action for d in host.announced}:
                host.publish(now)  # as the link does: once a second, and at a decision
        for host in hosts:
            for other in hosts:
                new = other.stream[read[host.name, other.name] :] if host is not other else []
                read[host.name, other.name] = len(other.stream)
                for _ in host.fleet.inbox.steps(other.name, SERVER + tick * 100, new, lambda: now):  # noqa: B023
                    pass
    assert [host.name for host in hosts if A not in host.bans(now)] == []
    assert len({host.bans(now)[A] for host in hosts}) > 1
