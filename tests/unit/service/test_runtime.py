"""The parts of the daemon together: what it answers, and what it survives.

The kernel and real Postfix are in tests/system.
"""

import gzip
import random
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.daemon.chain import spoil
from lab.daemon.in_process import A, B, Lab, live
from throttled.clock import now
from throttled.control import requests
from throttled.control.results import ChangeResult, Done, ExplainResult, ListResult, StatusResult
from throttled.errors import (
    ThrottledError,
)
from throttled.model import Action, Decision, Entry, Rate, Scope
from throttled.store.store import Store


def decision(action: Action, subject: str) -> Decision:
    at = now().wall
    return Decision(at, action, subject, "mx", "network", 1, at + 600, "because")


def test_status(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.write("connect from unknown[198.51.100.7]", "no event")

        async def counted() -> bool:
            status = await lab.ask(requests.Status(), StatusResult)
            return status.lines == 2 and status.events == {"connect": 1}

        await lab.until(counted)
        status = await lab.ask(requests.Status(), StatusResult)
        assert (status.backend, status.mode, status.clients) == ("nftables", "enforce", 1)
        assert [tail.path for tail in status.tails] == [str(lab.log)]
        assert status.tails[0].exists
        assert status.tails[0].lag == 0
        assert [p for p in status.health if p.state == "fault"] == []
        assert isinstance(await lab.ask(requests.Ping(), Done), Done)

    live(tmp_path, story)


def test_a_ban_is_listed_and_explained_with_its_lines(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]
        explained = await lab.ask(requests.Explain(A), ExplainResult)
        assert explained.network == "198.51.100.0/24"
        assert explained.active[0].action == "ban"
        assert len(explained.lines) == 11
        assert all("GET /" in line.text for line in explained.lines)
        assert {m.limit: m.value for m in explained.meters if m.value} == {
            "errors": 55,
            "errors-day": 55,
        }
        assert explained.past.offences == 1
        assert explained.sessions == 11
        assert "ban ends" in explained.next

    live(tmp_path, story)


def test_explain_before_anything_happened_and_of_the_protected(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        assert "nothing" in (await lab.ask(requests.Explain(A), ExplainResult)).next
        lab.garbage(A, 2)

        async def counted() -> bool:
            explained = await lab.ask(requests.Explain(A), ExplainResult)
            return (
                "throttled in mx after 11 more counted by limit errors "
                "(now 10, limit 20, within 10m)" in explained.next
            )

        await lab.until(counted)
        explained = await lab.ask(requests.Explain("127.0.0.1"), ExplainResult)
        assert explained.protected
        assert "nothing" in explained.next
        network = await lab.ask(requests.Explain("198.51.100.0/24"), ExplainResult)
        assert network.network == ""

    live(tmp_path, story)


def test_unban_frees_and_forgets(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        change = await lab.ask(requests.Unban(A), ChangeResult)
        assert change.confirmed
        assert [row.action for row in change.changed] == ["ban"]
        assert await lab.listed(0) == []
        explained = await lab.ask(requests.Explain(A), ExplainResult)
        assert {m.value for m in explained.meters} == {0}
        with pytest.raises(ThrottledError, match="neither"):
            await lab.ask(requests.Unban(A), ChangeResult)
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story)


def test_unban_with_an_exemption_lasts(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Unban(A, exempt=3600.0), ChangeResult)
        lab.garbage(A)
        lab.garbage(B)
        exempt = [(A, "mx", "exempt"), (A, "submission", "exempt")]
        assert await lab.listed(3) == [*exempt, (B, "mx", "ban")]

    live(tmp_path, story)


def test_unban_in_one_scope_leaves_the_other(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        change = await lab.ask(requests.Ban(A, seconds=60.0, why="spam"), ChangeResult)
        assert {row.scope for row in change.changed} == {"mx", "submission"}
        assert "spam" in change.changed[0].why
        await lab.ask(requests.Unban(A, scope="mx"), ChangeResult)
        assert await lab.listed(1) == [(A, "submission", "ban")]

    live(tmp_path, story)


def test_unban_all(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        for subject in (A, B, "203.0.113.0/24"):
            await lab.ask(requests.Ban(subject), ChangeResult)
        change = await lab.ask(requests.UnbanAll(), ChangeResult)
        assert change.confirmed
        assert "6 " in change.message
        assert await lab.listed(0) == []

    live(tmp_path, story)


@pytest.mark.parametrize("scope", [None, "mx"])
def test_unban_all_leaves_exemptions(tmp_path: Path, scope: Scope | None) -> None:
    async def story(lab: Lab) -> None:
        of_network = decision("exempt", "203.0.113.9")  # it ends with what is active there
        lab.runtime.pipeline.decide(
            [replace(decision("exempt", B), limit="operator"), of_network], now()
        )
        await lab.ask(requests.Ban(A, "mx"), ChangeResult)
        change = await lab.ask(requests.UnbanAll(scope), ChangeResult)
        assert change.confirmed
        assert "1 " in change.message
        assert await lab.listed(1) == [(B, "mx", "exempt")]
        assert [(s.subject, s.action) for s in lab.runtime.backend.dump()] == [(B, "exempt")]

    live(tmp_path, story)


def test_what_is_flushed_comes_back_with_its_rate(tmp_path: Path) -> None:
    rate = Rate(6, 3600.0, 2)

    async def story(lab: Lab) -> None:
        daemon = lab.runtime
        slow = replace(decision("throttle", A), rate=rate)
        daemon.pipeline.decide([slow, decision("exempt", B)], now())
        expected = {(A, "throttle", rate), (B, "exempt", None)}
        for damage in (
            [Entry(A, "mx", "throttle", 0.0), Entry(B, "mx", "exempt", 0.0)],
            [Entry(A, "mx", "throttle", 600.0)],  # at the configured rate
        ):
            daemon.backend.apply(damage)
            daemon.reconciler.compare()
            assert await daemon.reconciler.begun()
            elements = {(s.subject, s.action, s.rate) for s in daemon.backend.dump()}
            assert elements == expected
            daemon.backend.apply(damage)
            daemon.reconciler._judge(damage)
            elements = {(s.subject, s.action, s.rate) for s in daemon.backend.dump()}
            assert elements == expected

    live(tmp_path, story)


def test_unban_all_of_one_scope(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        for subject in (A, B):
            await lab.ask(requests.Ban(subject), ChangeResult)
        change = await lab.ask(requests.UnbanAll("mx"), ChangeResult)
        assert change.confirmed
        assert "2 " in change.message
        assert await lab.listed(2) == [(A, "submission", "ban"), (B, "submission", "ban")]
        elements = lab.runtime.backend.dump()
        assert {(element.subject, element.scope) for element in elements} == {
            (A, "submission"),
            (B, "submission"),
        }

    live(tmp_path, story)


def test_a_manual_throttle_replaces_a_ban(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Ban(A, scope="mx"), ChangeResult)
        change = await lab.ask(requests.Throttle(A, scope="mx", seconds=60.0), ChangeResult)
        assert change.confirmed
        assert await lab.listed(1) == [(A, "mx", "throttle")]

    live(tmp_path, story)


def test_what_operators_decide_has_its_origin_to_the_end(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(B)
        await lab.ask(requests.Ban(A, scope="mx"), ChangeResult)
        await lab.ask(requests.Throttle(A, scope="mx", seconds=60.0), ChangeResult)
        await lab.listed(2)
        rows = (await lab.ask(requests.List(), ListResult)).rows
        assert {row.subject: row.origin for row in rows} == {A: "operator", B: "log"}
        (decision,) = (await lab.ask(requests.Explain(B), ExplainResult)).decisions
        assert decision.origin == "log"
        await lab.ask(requests.Unban(A, scope="mx", exempt=60.0), ChangeResult)
        explained = await lab.ask(requests.Explain(A), ExplainResult)
        assert [row.origin for row in explained.active] == ["operator"]
        actions = ["exempt", "release", "throttle", "release", "ban"]
        assert [d.action for d in explained.decisions] == actions
        assert {d.origin for d in explained.decisions} == {"operator"}

    live(tmp_path, story)


def test_a_manual_ban_of_a_protected_address_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ThrottledError, match="protected"):
            await lab.ask(requests.Ban("127.0.0.1"), ChangeResult)

    live(tmp_path, story)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    async def before(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(B, 9)
        assert len(await lab.listed(2)) == 2

    async def after(lab: Lab) -> None:
        assert await lab.listed(2) == [(A, "mx", "ban"), (B, "mx", "throttle")]
        lab.garbage(B, 2)  # 45 points before the restart, 10 more

        async def banned() -> bool:
            rows = await lab.listed(2)
            return (B, "mx", "ban") in rows

        await lab.until(banned)

    lab = live(tmp_path, before)
    lab.garbage("203.0.113.5")  # while nobody looks
    lab.log.write_text(lab.log.read_text())

    async def third(lab: Lab) -> None:
        assert ("203.0.113.5", "mx", "ban") in await lab.listed(3)
        await lab.ask(requests.Unban("203.0.113.5"), ChangeResult)
        await after(lab)

    live(tmp_path, third, lab)
    store = Store.open(str(tmp_path / "t.db"))
    assert [d.action for d in store.decisions(A) if d.limit == "errors"].count("ban") == 1
    store.close()


@pytest.mark.parametrize("everybody", [False, True])
def test_what_an_unban_forgot_stays_forgotten_after_a_restart(
    tmp_path: Path, *, everybody: bool
) -> None:
    async def value(lab: Lab, subject: str) -> int:
        explained = await lab.ask(requests.Explain(subject), ExplainResult)
        return max(meter.value for meter in explained.meters)

    async def before(lab: Lab) -> None:
        lab.garbage(A)
        lab.garbage(B)
        await lab.listed(2)
        unban = requests.UnbanAll() if everybody else requests.Unban(A)
        await lab.ask(unban, ChangeResult)

    async def after(lab: Lab) -> None:
        assert await value(lab, A) == 0
        assert await value(lab, B) == (0 if everybody else 55)

    live(tmp_path, after, live(tmp_path, before))


def test_lines_are_shown_from_a_log_that_was_compressed_since(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        rotated = lab.log.with_name("mail.log.1")
        lab.log.rename(rotated)
        lab.log.touch()
        lab.write(f"connect from unknown[{B}]")

        async def read_on() -> bool:
            return (await lab.ask(requests.Status(), StatusResult)).lines == 12

        await lab.until(read_on)
        rotated.with_name("mail.log.2.gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
        explained = await lab.ask(requests.Explain(A), ExplainResult)
        assert len(explained.lines) == 11
        assert all("non-SMTP command" in line.text for line in explained.lines)

    live(tmp_path, story)


def test_a_ban_ends_in_a_throttle(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Ban(A, scope="mx"), ChangeResult)
        await lab.ask(requests.Ban(B, scope="mx", seconds=1.0), ChangeResult)

        async def ended() -> bool:  # a length that an operator stated is all there is
            return await lab.listed(1) == [(A, "mx", "throttle")]

        await lab.until(ended)
        (row,) = (await lab.ask(requests.List(), ListResult)).rows
        assert (row.limit, row.origin) == ("ladder", "operator")

    lab = Lab(tmp_path)
    lab.configure('ban = { times = ["1s"] }\n')
    live(tmp_path, story, lab)


def test_a_log_that_cannot_be_read_is_reported_and_others_go_on(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        status = await lab.ask(requests.Status(), StatusResult)
        assert {tail.path: tail.exists for tail in status.tails} == {
            str(tmp_path / "mail.log"): True,
            str(tmp_path / "absent" / "x.log"): False,
        }
        lab.garbage(A)
        await lab.listed(1)

    lab = Lab(tmp_path)
    text = lab.config.read_text()
    lab.config.write_text(text.replace('mail.log"', f'mail.log", "{tmp_path}/absent/x.log"'))
    live(tmp_path, story, lab)


def test_a_database_that_is_none_does_not_stop_protection(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"this is no database" * 100)

    async def story(lab: Lab) -> None:
        status = await lab.ask(requests.Status(), StatusResult)
        assert "fault" in {finding.state for finding in status.health}
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story)
    assert (tmp_path / "t.db").read_bytes().startswith(b"this is no database")


def test_observing_keeps_its_bans_to_itself(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.configure('mode = "observe"\n')

    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)

    live(tmp_path, story, lab)
    lab.configure()

    async def nothing(lab: Lab) -> None:
        assert await lab.listed(0) == []

    live(tmp_path, nothing, lab)


@pytest.mark.parametrize("seed", range(2))
def test_a_database_that_another_program_altered(tmp_path: Path, seed: int) -> None:
    """No row ends the daemon, now or at a start, nor keeps it from answering."""

    async def begin(lab: Lab) -> None:
        lab.garbage(A)
        lab.write(f"disconnect from x.test[{B}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5")
        await lab.listed(1)
        await lab.ask(requests.Allow("203.0.113.0/24"), ChangeResult)

    async def goes_on(lab: Lab) -> None:
        lab.garbage("198.51.100.99")

        async def banned() -> bool:
            explained = await lab.ask(requests.Explain("198.51.100.99"), ExplainResult)
            return [row.action for row in explained.active] == ["ban"]

        await lab.until(banned)
        lab.runtime.health.tick(now())
        for request, kind in ((requests.Status(), StatusResult), (requests.List(), ListResult)):
            await lab.ask(request, kind)

    lab = live(tmp_path, begin)
    list(spoil(tmp_path / "t.db", random.Random(seed), 4))
    live(tmp_path, goes_on, lab)
    live(tmp_path, goes_on, lab)


def test_existing_logs_are_read_for_evidence_and_bans_do_not_wait(tmp_path: Path) -> None:
    """A rotated log of some megabytes, an attacker while it is read, and a restart."""
    lab = Lab(tmp_path)
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(time.time() - 86400))
    mail = f"{stamp} mx postfix/smtpd[9]: disconnect from x.test[{B}] data=1 commands=1\n"
    lab.log.with_name("mail.log.1").write_text(mail * 40_000)

    async def first(lab: Lab) -> None:
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]

        async def done() -> bool:
            return lab.runtime.backlog.done

        await lab.until(done)
        assert (await lab.ask(requests.Status(), StatusResult)).backlog == ""
        past = (await lab.ask(requests.Explain(B), ExplainResult)).past
        assert past.deliveries == 40_000 - 40_000 // 30

    async def again(lab: Lab) -> None:
        async def done() -> bool:
            return lab.runtime.backlog.done

        await lab.until(done)
        past = (await lab.ask(requests.Explain(B), ExplainResult)).past
        assert past.deliveries == 40_000 - 40_000 // 30

    live(tmp_path, again, live(tmp_path, first, lab))
