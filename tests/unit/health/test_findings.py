"""What is read and said of logs: real files, the real tails and engine, a loop of its own.

Only the clock by which health looks is moved on, and the daemon around it is not there.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from throttled.clock import now
from throttled.core.pipeline import Pipeline
from throttled.decide.protect import Protection
from throttled.facts import Facts
from throttled.health.clients import ClientReporter
from throttled.health.findings import worst
from throttled.health.growth import Growth
from throttled.health.logs import LogReporter
from throttled.model import Finding
from throttled.settings import Policy
from throttled.sources.logs import Logs

LINE = "Nov 22 10:00:01 mx postfix/smtpd[7]: connect from unknown[198.51.100.7]\n"


def watched(
    pipeline: Pipeline, report: Callable[[object], None] = lambda _: None
) -> tuple[Logs, LogReporter]:
    logs = Logs(pipeline, report)
    return logs, LogReporter(logs, pipeline)


def findings(health: LogReporter, later: float = 0.0) -> list[Finding]:
    return list(health(now().boot + later))


@pytest.fixture
def iterate() -> Iterator[Callable[..., None]]:
    """Run one turn of a loop, and in it a function."""

    async def one(function: Callable[..., None], *arguments: object) -> None:
        function(*arguments)
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        yield lambda *what: runner.run(one(*what or (int,)))


def test_a_log_that_is_not_read_to_its_end(
    pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    """A log that is not read to its end is reported after five seconds, until it is."""
    found: list[tuple[list[Finding], list[Finding]]] = []
    logs, health = watched(
        pipeline, lambda _: found.append((findings(health, 4.0), findings(health, 6.0)))
    )
    iterate(logs.follow, [str(log)])
    log.write_text(LINE * 12_000)
    while pipeline.counts.lines < 12_000:
        iterate()
    assert findings(health, 60.0) == []
    iterate(logs.close)
    early, (finding,) = found[0]
    assert early == []
    assert finding.key == f"log-lag:{log}"
    assert finding.state == "warning"
    assert re.fullmatch(r".*: reading has been behind for \d+ s, [\d,]+ bytes unread", finding.what)
    assert found[-1] == ([], [])


def test_a_log_that_was_gone_before_it_was_read_to_its_end(
    pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    """Rotated and deleted while no daemon ran: reported for ten minutes; the new one is read."""
    logs, health = watched(pipeline)
    log.write_text(LINE * 9)
    iterate(logs.follow, [str(log)])
    assert findings(health) == []
    iterate(logs.close)
    log.unlink()
    log.write_text(LINE.replace("10:00:01", "11:00:01") * 4)
    logs, health = watched(pipeline)
    iterate(logs.follow, [str(log)])
    (finding,) = findings(health)
    assert finding.key == f"log-gap:{log}"
    assert finding.what == f"{log}: deleted or damaged before it was read, 1 times"
    assert findings(health, 599.0) == [finding]
    assert findings(health, 601.0) == []
    iterate(logs.close)
    assert pipeline.counts.lines == 4


def test_a_log_of_two_names_is_read_once(
    pipeline: Pipeline, log: Path, iterate: Callable[..., None]
) -> None:
    link = log.with_name("maillog")
    link.symlink_to(log)
    logs, _ = watched(pipeline)
    iterate(logs.follow, [str(log), str(link)])
    assert [follower.path for follower in logs.followers] == [str(log)]
    log.write_text(LINE * 40)
    iterate(logs.close)
    assert pipeline.counts.lines == 40


def test_what_strangers_wrote_disturbs_no_terminal() -> None:
    what = "banned, and began sessions with postfix/\x9b31m\u202ex\n"
    wrong = [Finding("warning", what, "", "k")]
    shown = "warning: banned, and began sessions with postfix/ 31m x "
    assert worst(wrong) == shown


def test_a_count_that_begins_anew_is_reported_when_it_grows_again() -> None:
    growth = Growth()
    assert growth.lately(5, 0.0)
    assert not growth.lately(0, 700.0)  # another parser, another log of that name
    assert growth.lately(1, 800.0)
    assert not growth.lately(1, 1500.0)


def test_a_client_that_looks_like_a_health_check_is_named(pipeline: Pipeline) -> None:
    at = now()
    health = ClientReporter(pipeline)
    for client in ("198.51.100.7", "198.51.100.8"):
        lines = []
        for minute in range(30, 0, -1):
            written = datetime.fromtimestamp(at.wall - 60 * minute, UTC).strftime("%b %e %H:%M:%S")
            begin = LINE.strip().replace("Nov 22 10:00:01", written).replace("198.51.100.7", client)
            lines += [begin, begin.replace(" connect from", " disconnect from") + " commands=0/0"]
        pipeline.counting.read(lines, range(len(lines)), at)
        (finding,) = health(at.boot)
        assert finding.what.startswith("198.51.100.7 looks like a health check: 30 sessions")
        assert finding.hint.endswith("throttled allow 198.51.100.7")
    assert finding.what.endswith(" (and 1 more)")
    own = Facts(own=frozenset({"198.51.100.7", "198.51.100.8"}))
    pipeline.reconfigure(Policy(), Protection.of(own, Policy().protect))
    assert list(health(at.boot)) == []
