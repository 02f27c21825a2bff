import gzip
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.analysis.suggest import Findings, suggest, suggest_stored
from throttled.clock import Moment
from throttled.config.load import loads
from throttled.config.schema import Config
from throttled.core.pipeline import Pipeline
from throttled.decide.client_peaks import noted, watched
from throttled.decide.suggest import Suggestion, Thresholds
from throttled.decide.suggest_senders import Pair, SenderPeak, SenderSuggestion
from throttled.enforce.dryrun import DryRun
from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.model import SenderDay
from throttled.parse.parser import Parser
from throttled.store.store import Store

DAY = 86400.0


def day(number: int, errors: int = 3) -> str:
    """Forty clients that deliver; one of them makes more errors than the others."""
    lines = []
    for n in range(40):
        head = f"Nov {number} 10:00:{n:02} mx postfix/smtpd[{n}]: "
        client = f"m.example[198.51.100.{n}]"
        lines.append(f"{head}connect from {client}")
        reject = f"NOQUEUE: reject: RCPT from {client}: 550 5.1.1 <x@a>: User unknown; from=<>"
        sessions = range(100, 100 + (errors if n == 7 else 1))
        lines += [head.replace(f"[{n}]", f"[{pid}]") + reject for pid in sessions]
        lines.append(
            f"{head}disconnect from {client} ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5"
        )
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    os.utime(path, (1_795_600_000, 1_795_600_000))  # 2026-11-25
    return str(path)


def run(*paths: str, config: Config | None = None, facts: Facts | None = None) -> Findings:
    return suggest(config or Config(), facts or Facts(), UTC, paths)


def test_rotated_logs_of_another_host_in_any_order(tmp_path: Path) -> None:
    new = write(tmp_path / "mail.log", day(22))
    old = write(tmp_path / "mail.log.1.gz", day(20, errors=30))
    progress: list[tuple[str, int]] = []
    facts = Facts(hostnames=frozenset({"elsewhere"}))
    found = suggest(Config(), facts, UTC, [new, old], lambda *more: progress.append(more))
    assert found.files == [old, new]
    assert found.lines == day(22).count("\n") + day(20, errors=30).count("\n")
    assert found.last - found.first == 2 * 86400 + 39
    assert progress[-1] == (new, Path(new).stat().st_size)
    assert not found.full
    errors = next(s for s in found.suggestions if (s.limit, s.scope) == ("errors", "mx"))
    assert errors.highest == 30
    assert [sender.client for sender in errors.now.senders] == ["198.51.100.7"]
    assert errors.proposed is not None
    assert (errors.proposed.soft, errors.proposed.hard) == (40, 100)
    assert len(found.suggestions) == 16


def test_the_configuration_and_this_host_count(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", day(20) + day(22))
    config = loads('[limits.own]\ncount = "errors"\nwithin = "1m"\nsoft = 2\n', "test")
    found = run(path, config=config)
    (own,) = (s for s in found.suggestions if (s.limit, s.scope) == ("own", "mx"))
    assert [sender.peak for sender in own.now.senders] == [3]
    everybody = loads('[protect]\nnetworks = ["198.51.100.0/24"]\n', "test")
    assert all(not s.good for s in run(path, config=everybody).suggestions)
    facts = Facts(mynetworks=("198.51.100.0/24",))
    assert all(not s.good for s in run(path, facts=facts).suggestions)


def test_nothing_at_all(tmp_path: Path) -> None:
    found = run(write(tmp_path / "empty", ""), write(tmp_path / "x", "no log\n"))
    assert (found.lines, found.first, found.anvil) == (1, 0.0, [])
    assert all(s.proposed is None for s in found.suggestions)


def test_what_anvil_reported(tmp_path: Path) -> None:
    line = (
        "Nov 22 14:16:52 mx postfix/anvil[1]: statistics: max connection rate 61/60s "
        "for (smtp:198.51.100.7) at Nov 22 14:16:48\n"
    )
    (rate,) = run(write(tmp_path / "mail.log", line)).anvil
    assert (rate.client, rate.service, rate.rate) == ("198.51.100.7", "smtp", 61)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        run(str(tmp_path / "absent"))


@pytest.fixture
def kept(tmp_path: Path) -> Config:
    """Return a configuration whose store has what the days 20 and 22 came to, recorded twice."""
    config = loads(f'[store]\npath = "{tmp_path}/throttled.db"\n', "test")
    with closing(Store.open(config.store.path)) as store:
        for _ in range(2):
            for number in (20, 22):
                wall = datetime(2026, 11, number, 10, 5, tzinfo=UTC).timestamp()
                parser = Parser(UTC, wall)
                kernel = DryRun(lambda: 0.0)
                pipeline = Pipeline(config.policy(), Facts(), store, kernel, parser)
                lines = day(number, errors=9).splitlines()
                pipeline.counting.read(lines, [0] * len(lines), Moment(wall, wall))
                pipeline.settle(Moment(wall, wall), ())
                pipeline.recorder.record(Moment(wall, wall), positions=())
                store.peaks.write(
                    noted(pipeline.engine.gauges(), 9999), watched(pipeline.engine.gauges()), wall
                )
    return config


def test_the_store_says_what_the_logs_say(kept: Config, tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    stored = suggest_stored(kept, Facts(), now)
    logs = run(write(tmp_path / "mail.log", day(20, 9) + day(22, 9)))
    assert (stored.files, stored.lines, stored.full) == ([kept.store.path], None, False)
    assert stored.last - stored.first == 2 * DAY
    assert logs.last - logs.first == 2 * DAY + 39
    # Of who was good it knows what the last thirty days leave of it.
    assert [plain(s) for s in stored.suggestions] == [plain(s) for s in logs.suggestions]


def plain(found: Suggestion) -> Suggestion:
    """Return a suggestion in which no sender's good fades."""

    def alike(some: Thresholds) -> Thresholds:
        senders = [replace(sender, deliveries=1) for sender in some.senders]
        return replace(some, senders=senders)

    proposed = None if found.proposed is None else alike(found.proposed)
    return replace(found, now=alike(found.now), proposed=proposed)


def test_a_window_that_changed_begins_anew(kept: Config) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    more = f'[store]\npath = "{kept.store.path}"\n[limits.errors]\nwithin = "5m"\n'
    found = suggest_stored(loads(more, "test"), Facts(), now)
    errors = next(s for s in found.suggestions if (s.limit, s.scope) == ("errors", "mx"))
    assert (errors.highest, errors.good) == (0, 40)
    assert errors.why_not == "only 0.0 hours seen; at least 24 are needed"


def test_a_store_of_which_nothing_is_left(kept: Config) -> None:
    found = suggest_stored(kept, Facts(), datetime(2027, 3, 1, tzinfo=UTC).timestamp())
    assert (found.first, found.last) == (0.0, 0.0)
    assert all(s.good == 0 and s.bins[-1].high == 0 for s in found.suggestions)


def mails(number: int, host: str = "mx") -> str:
    """Twelve accounts that send; the mail of one bounces."""
    lines = []
    for n in range(12):
        one, head = f"{number:02}{n:08X}", f"Nov {number} 10:00:{n:02} {host} postfix"
        client = f"client=m.example[203.0.113.{n}], sasl_method=PLAIN, sasl_username=user{n}"
        lines += [
            f"{head}/smtpd[{n}]: {one}: {client}",
            f"{head}/qmgr[1]: {one}: from=<a@b.test>, size=400, nrcpt=30 (queue active)",
        ]
        bounce = f"{head}/smtp[2]: {one}: to=<x@c.test>, relay=c.test[192.0.2.1]:25, delay=1, "
        bounce += "delays=0/0/0/1, dsn=5.1.1, status=bounced (host c.test said: 550 5.1.1 unknown)"
        lines += [bounce] * {3: 4, 7: 20}.get(n, 0)
        lines.append(f"{head}/qmgr[1]: {one}: removed")
    return "\n".join(lines) + "\n"


def of_senders(found: Findings, limit: str) -> SenderSuggestion:
    return next(s for s in found.senders if s.limit == limit)


def test_senders_of_logs(tmp_path: Path) -> None:
    path = write(tmp_path / "mail.log", mails(20) + mails(21) + mails(22) + mails(22, "other"))
    found = run(path, facts=Facts(hostnames=frozenset({"mx"})))
    assert [s.limit for s in found.senders] == [
        "account-bounces",
        "account-volume",
        "account-networks",
    ]
    bounces = of_senders(found, "account-bounces")
    assert (bounces.senders, bounces.usual, bounces.highest) == (11, 0, 4)
    assert bounces.above_senders == [SenderPeak("account:user7", 20)]
    assert (bounces.now, bounces.proposed) == (Pair(10, 0), Pair(5, 0))
    networks = of_senders(found, "account-networks")
    assert (networks.senders, networks.usual, networks.proposed) == (12, 1, Pair(5, 0))
    assert (
        of_senders(found, "account-volume").reason == "only 48.0 hours seen; at least 72 are needed"
    )


def test_connections_of_inside_hosts(tmp_path: Path) -> None:
    own = '[limits.own]\nof = "inside"\ncount = "connections"\nwithin = "1m"\nsoft = 50\n'
    facts = Facts(mynetworks=("198.51.100.0/24",))
    path = write(tmp_path / "mail.log", day(20) + day(22))
    own_limit = of_senders(run(path, config=loads(own, "test"), facts=facts), "own")
    assert (own_limit.senders, own_limit.usual, own_limit.proposed) == (40, 1, Pair(25, 0))


def test_senders_of_the_store(kept: Config) -> None:
    own = (
        '[limits.own]\nof = "account"\ncount = "bounces"\nwithin = "1d"\nsoft = 10\nshare = "10%"\n'
    )
    config = loads(f'[store]\npath = "{kept.store.path}"\n{own}', "test")
    with closing(Store.open(kept.store.path)) as store:
        store.senders.add(
            [
                SenderDay(f"account:user{n}", number, 1, 30, bounces={3: 4, 7: 20}.get(n, 0))
                for number in (20000, 20001, 20003)
                for n in range(12)
            ]
        )
    found = suggest_stored(config, Facts(), 20004 * DAY)
    bounces = of_senders(found, "own")
    assert (bounces.senders, bounces.usual, bounces.highest, bounces.above) == (11, 0, 4, 1)
    assert (bounces.now, bounces.proposed) == (Pair(10, 0), Pair(5, 0))
    assert of_senders(found, "account-bounces").reason == "the database has whole days only"


def test_a_store_without_senders(kept: Config) -> None:
    found = suggest_stored(kept, Facts(), 20004 * DAY)
    assert all(not s.senders and s.proposed is None for s in found.senders)
