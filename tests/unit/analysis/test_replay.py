import gzip
import os
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.analysis.replay import Replay
from throttled.config.load import loads
from throttled.config.schema import Config
from throttled.decide.engine import Engine
from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.model import Decision, Report
from throttled.parse.parser import Parser
from throttled.settings import Policy

A = "198.51.100.7"


def garbage(client: str, count: int, minute: int = 0, hour: int = 10) -> str:
    return "".join(
        f"Nov 22 {hour:02}:{minute:02}:{n % 60:02} mx postfix/smtpd[{n}]: "
        f"warning: non-SMTP command from unknown[{client}]: GET / HTTP/1.1\n"
        for n in range(count)
    )


def mail(client: str, day: int) -> str:
    return (
        f"Nov {day} 09:00:00 mx postfix/smtpd[1]: "
        f"disconnect from unknown[{client}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5\n"
    )


def write(path: Path, text: str) -> str:
    path.write_text(text)
    os.utime(path, (1_795_600_000, 1_795_600_000))  # 2026-11-25
    return str(path)


def replay() -> Replay:
    return Replay(Config(), Facts(), UTC)


def decided(
    run: Replay, paths: Sequence[str], progress: Callable[[str, int], None] | None = None
) -> list[Decision]:
    return [d for d in run.run(paths, progress) if isinstance(d, Decision)]


def test_the_whole_decision(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", garbage(A, 20) + garbage("198.51.100.8", 5, minute=59))
    run = replay()
    decisions = [(d.action, d.subject, d.limit) for d in decided(run, [path])]
    assert decisions == [
        ("throttle", A, "errors"),
        ("ban", A, "errors"),
        ("throttle", A, "ladder"),
        ("release", A, "ladder"),
        ("throttle", "198.51.100.8", "errors"),
    ]
    assert run.summary.lines == 25
    assert run.summary.limits["errors"].banned == 1
    assert run.summary.limits["errors"].throttled == 2
    (top,) = run.summary.top
    assert (top.subject, top.bans, top.limit) == (A, 1, "errors")
    assert run.summary.good_and_banned == []
    assert run.summary.last - run.summary.first == 59 * 60 + 4


def test_guessing_spread_over_addresses_is_shown(tmp_path: Path) -> None:
    failed = "SASL LOGIN authentication failed: x, sasl_username=boss@example.org"
    text = "".join(
        f"Nov 22 10:00:{n:02} mx postfix/submission/smtpd[{n}]: "
        f"warning: unknown[198.18.{n}.1]: {failed}\n"
        for n in range(40)
    )
    run = replay()
    found = list(run.run([write(tmp_path / "mail.log", text)]))
    assert [(d.action, d.limit) for d in found if isinstance(d, Decision)] == [
        ("throttle", "guessing")
    ] * 10
    assert next((r.subject, r.limit) for r in found if isinstance(r, Report)) == (
        "account:boss@example.org",
        "guessing",
    )
    summary = run.summary.limits["guessing"]
    assert (summary.throttled, summary.banned, summary.reported) == (10, 0, 1)


def test_what_follows_does_not_wait_for_the_next_line(tmp_path: Path) -> None:
    """Who comes again when its ban is over is banned again, as by a daemon, however quiet it is."""
    text = garbage(A, 11, hour=10) + garbage(A, 11, hour=12)  # the last line is one too many
    run = replay()
    decisions = list(decided(run, [write(tmp_path / "mail.log", text)]))
    bans = [decision for decision in decisions if decision.action == "ban"]
    assert [ban.level for ban in bans] == [1, 2]
    assert bans[1].time - bans[0].time == pytest.approx(7200, abs=1)


def test_what_is_above_the_caps_goes_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.store.prune.DECISIONS", 2)
    text = "".join(garbage(f"198.51.100.{hour}", 5, hour=hour) for hour in range(0, 24, 2))
    run = replay()
    assert len(list(decided(run, [write(tmp_path / "mail.log", text)]))) == 23
    assert len(run._store.decisions("", 100)) < 6


def test_a_line_of_a_clock_that_was_wrong_stops_no_judging(tmp_path: Path) -> None:
    wrong = "2099-01-01T00:00:00+00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.9]\n"
    text = garbage(A, 20) + garbage("198.51.100.8", 5, minute=59)
    outcomes = [
        [
            (d.time, d.action, d.subject)
            for d in decided(replay(), [write(tmp_path / "mail.log", log)])
        ]
        for log in (text, wrong + text)
    ]
    assert outcomes[0] == outcomes[1]


def test_rotated_and_compressed_logs_in_any_order(tmp_path: Path) -> None:
    new = write(tmp_path / "mail.log", garbage(A, 6, minute=5))
    old = tmp_path / "mail.log.1.gz"
    old.write_bytes(gzip.compress(garbage(A, 6, minute=4).encode()))
    os.utime(old, (1_795_600_000, 1_795_600_000))
    seen: list[tuple[str, int]] = []
    decisions = list(
        decided(replay(), [new, str(old)], lambda path, count: seen.append((path, count)))
    )
    assert [d.action for d in decisions] == ["throttle", "ban"]
    assert seen[0][0] == str(old)
    assert seen[-1] == (new, Path(new).stat().st_size)


def test_who_delivered_mail_and_would_be_banned_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", mail(A, 21) + garbage(A, 12) + mail("198.51.100.9", 22))
    run = replay()
    assert "ban" in {d.action for d in decided(run, [path])}
    (good,) = run.summary.good_and_banned
    assert (good.subject, good.bans, good.deliveries, good.logins) == (A, 1, 1, 0)


def test_good_evidence_older_than_the_stores_memory_is_named_too(tmp_path: Path) -> None:
    old = mail(A, 21).replace("Nov 21", "Sep 1")
    path = write(tmp_path / "mail.log", old + garbage(A, 12))
    run = replay()
    list(decided(run, [path]))
    assert [good.subject for good in run.summary.good_and_banned] == [A]


def test_a_good_client_in_a_banned_network_is_named(tmp_path: Path) -> None:
    bad = "".join(garbage(f"198.51.100.{n}", 12, minute=n) for n in range(20, 30))
    path = write(tmp_path / "mail.log", bad + mail(A, 23))
    run = replay()
    assert "198.51.100.0/24" in {d.subject for d in decided(run, [path]) if d.action == "ban"}
    (good,) = run.summary.good_and_banned
    assert (good.subject, good.limit, good.deliveries) == (A, "network", 1)


def test_other_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", garbage(A, 20))
    config = loads("[limits.errors]\nsoft = 500\nhard = 1000\n", "test")
    assert list(Replay(config, Facts(), UTC).run([path])) == []
    assert list(replay().run([path])) != []


def test_protected_by_this_hosts_facts(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", garbage(A, 20))
    facts = Facts(mynetworks=("198.51.100.0/24",), hostnames=frozenset({"elsewhere"}))
    assert list(Replay(Config(), facts, UTC).run([path])) == []
    facts = replace(facts, mynetworks=())
    assert list(Replay(Config(), facts, UTC).run([path])) != []


def test_nothing_at_all(tmp_path: Path) -> None:
    run = replay()
    assert (
        list(decided(run, [write(tmp_path / "empty", ""), write(tmp_path / "x", "no log\n")])) == []
    )
    assert run.summary.lines == 1


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        list(decided(replay(), [str(tmp_path / "absent")]))


def of(host: str, client: str) -> str:
    return garbage(client, 12).replace(" mx ", f" {host} ")


MX = Facts(hostnames=frozenset({"mx.example.net"}))


@pytest.mark.parametrize(
    ("hosts", "banned", "others"),
    [
        (("mx", "other"), {"198.51.100.0"}, False),
        (("MX.example.NET", "mx.example.org", "localhost"), {"198.51.100.0"}, False),
        (("other", "mx"), {"198.51.100.1"}, False),
        (("localhost",), {"198.51.100.0"}, False),
        (("other", "another"), {"198.51.100.0", "198.51.100.1"}, True),
        (("other", "localhost"), {"198.51.100.0", "198.51.100.1"}, True),
    ],
)
def test_whose_lines_count_as_in_the_daemon(
    tmp_path: Path, hosts: tuple[str, ...], banned: set[str], *, others: bool
) -> None:
    """All of a log count only if none of its lines does in the daemon; then that is said."""
    text = "".join(of(host, f"198.51.100.{number}") for number, host in enumerate(hosts))
    path = write(tmp_path / "mail.log", text)
    run = Replay(Config(), MX, UTC)
    assert {d.subject for d in decided(run, [path]) if d.action == "ban"} == banned
    assert bool(run.summary.others) is others
    under = Engine(Policy(), MX)
    parse = Parser(UTC, 1_795_600_000.0).event
    for line in text.splitlines():
        event = parse(line)
        assert event is not None
        under.step(event, event.time)
    counted = {crossing.subject for crossing in under.drain().crossings}
    assert counted == (set() if others else banned)


def test_this_host_comes_late_in_a_long_log(tmp_path: Path) -> None:
    text = of("other", "198.51.100.1") * 2000 + of("mx", A)
    run = Replay(Config(), MX, UTC)
    bans = {
        d.subject for d in decided(run, [write(tmp_path / "mail.log", text)]) if d.action == "ban"
    }
    assert (bans, run.summary.others) == ({A}, {})


def sent(user: str, day: int, recipients: int, bounces: int = 0) -> str:
    head = f"Nov {day} 09:00:00 mx postfix"
    lines = [
        f"submission/smtpd[1]: 3A5C01F2B: client=x[{A}], sasl_method=PLAIN, sasl_username={user}",
        f"qmgr[1]: 3A5C01F2B: from=<a@b.test>, size=9, nrcpt={recipients} (queue active)",
        *[
            f"smtp[1]: 3A5C01F2B: to=<{n}@c.test>, relay=none, delay=1, dsn=5.1.1, "
            "status=bounced (unknown)"
            for n in range(bounces)
        ],
        "qmgr[1]: 3A5C01F2B: removed",
    ]
    return "".join(f"{head}/{line}\n" for line in lines)


def test_senders_are_reported_with_what_was_usual_before(tmp_path: Path) -> None:
    text = sent("alice", 20, 60) + sent("alice", 21, 700, bounces=90) + sent("bob", 21, 9)
    run = replay()
    found = list(run.run([write(tmp_path / "mail.log", text)]))
    reports = [(r.subject, r.limit, r.value) for r in found if isinstance(r, Report)]
    assert reports == [
        ("account:alice", "account-volume", 760),
        ("account:alice", "account-bounces", 71),
    ]
    assert len(found) == 2
    assert run.summary.limits["account-volume"].reported == 1
    assert [each.times for each in run.overview("mx").reported] == [1, 1]  # of a page of them


def test_senders_are_throttled_where_their_limit_says_so(tmp_path: Path) -> None:
    config = loads('[limits.account-bounces]\nmode = "throttle"\n', "x.toml")
    run = Replay(config, Facts(), UTC)
    path = write(tmp_path / "mail.log", sent("alice", 21, 20, bounces=15) + sent("bob", 22, 1))
    assert [(d.action, d.subject) for d in decided(run, [path])] == [
        ("throttle", "account:alice"),
        ("release", "account:alice"),
    ]
