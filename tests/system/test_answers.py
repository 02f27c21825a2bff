"""What operators ask of a real daemon with 200,000 entries in a real kernel."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.daemon.filled import fill
from lab.mail.postfix import Lab
from lab.network import netns
from throttled.control import client
from throttled.control.requests import Explain, List, Request, Status, Top, Unban
from throttled.control.results import ListResult
from throttled.model import SCOPES

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.long]

ENTRIES = 200_000
#: Seconds that the daemon works for an answer, in which it reads no log.
PROMPT = 0.25


class Many:
    """A daemon with many entries."""

    def __init__(self, guard: Daemon, subjects: list[str]) -> None:
        self.guard, self.subjects = guard, subjects

    def work(self, request: Request) -> float:
        """Return the seconds of CPU that the daemon takes to answer."""
        before = self.guard.cpu()
        client.request(self.guard.socket, request)
        return self.guard.cpu() - before


@pytest.fixture(scope="module")
def many(lab: Lab) -> Iterator[Many]:
    with daemon(lab.server, lab.mail.config) as guard:
        subjects = fill(guard.home, ENTRIES)
        guard.start()
        log = guard.log
        netns.until(lambda: "elements in the kernel" in log.read_text(), "all are enforced", 300.0)
        yield Many(guard, subjects)
    lab.server.run("nft", "flush", "ruleset")


@pytest.mark.parametrize(
    "request_",
    [
        Status(),
        Top(50),
        List(max=100),
        List(max=1000, seconds=600.0),
        List(max=1000, limit="auth", action="throttle"),
        Explain("198.18.0.8"),
    ],
    ids=repr,
)
def test_answers_are_prompt(many: Many, request_: Request) -> None:
    assert min(many.work(request_) for _ in range(3)) <= PROMPT


def test_an_unban_is_prompt(many: Many) -> None:
    assert min(many.work(Unban(subject)) for subject in many.subjects[20:23]) <= PROMPT


def test_status_counts_all_of_it_by_day(many: Many) -> None:
    status = many.guard.status()
    known = client.request(many.guard.socket, List(max=1))
    assert isinstance(known, ListResult)
    assert sum(status.throttled.values()) + sum(status.banned.values()) == known.total
    assert ENTRIES - 10 <= known.total <= ENTRIES  # of which a test unbans some
    yesterday, today = status.days
    midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
    assert today.begin == midnight
    counted = sum(day.throttles + day.bans for day in (yesterday, today))
    assert counted >= sum(_decided_since(many, yesterday.begin))


def _decided_since(many: Many, begin: float) -> list[int]:
    """Return how many entries in each scope were decided since then."""
    seconds = time.time() - begin
    asked = (List(scope=scope, seconds=seconds, max=1) for scope in SCOPES)
    answers = (client.request(many.guard.socket, request) for request in asked)
    return [answer.total for answer in answers if isinstance(answer, ListResult)]


def test_what_was_decided_lately_is_listed(many: Many) -> None:
    before = time.time()
    rows = many.guard.ask("list", "--since", "5m", "--scope", "mx")["rows"]
    assert 0 < len(rows) <= 300
    oldest = min(datetime.fromisoformat(row["since"]).timestamp() for row in rows)
    assert before - oldest <= 300
    named = [row for row in rows if row["name"]]
    assert {row["name"] for row in named} == {
        f"host{many.subjects.index(row['subject'])}.example.net" for row in named
    }


def test_explain_begins_with_the_answer(many: Many) -> None:
    subject = many.subjects[7]
    first, second, *rest = many.guard.command("explain", subject).stdout.splitlines()
    assert first.startswith("Banned on ports 25, 465 and 587 from ")
    assert first.endswith(f"hard limit 50. To unban: throttled unban {subject}")
    assert second == f"Client: {subject} (network 198.18.0.0/24), host name: unknown"
    assert rest[-1] == "Next: the ban ends in a throttle; another ban would be longer"
    named = many.guard.command("explain", many.subjects[10]).stdout
    assert "host name: host10.example.net" in named
