"""What operators ask about senders, of a daemon in this process that reads a log."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.daemon.in_process import A, Lab, live
from throttled.control import requests, results
from throttled.control.bulk import UnbanMany, UnbanManyResult
from throttled.control.results import (
    AccountsResult,
    AuditResult,
    ChangeResult,
    ExplainResult,
    FindResult,
    ListResult,
    TopResult,
)
from throttled.control.server import Peer
from throttled.errors import NotPermittedError, ThrottledError
from throttled.metrics.exposition import expose
from throttled.operator.answer import answer
from throttled.operator.status import status

ALICE = "account:alice"
OTHER = Peer(1, 1000, 1000)
ROOT = Peer(1, 0, 0)
THROTTLE = '[limits.account-bounces]\nmode = "throttle"\n'


def sends(lab: Lab, user: str, bounces: int, queue_id: str = "3A5C01F2B") -> None:
    lab.write(
        f"connect from mx.customer.example[{A}]",
        f"{queue_id}: client=mx.customer.example[{A}], sasl_method=PLAIN, sasl_username={user}",
        process="postfix/submission/smtpd",
    )
    active = f"{queue_id}: from=<a@b.test>, size=9, nrcpt={bounces} (queue active)"
    lab.write(active, process="postfix/qmgr")
    bounce = f"{queue_id}: to=<x@c.test>, relay=none, delay=1, dsn=5.1.1, status=bounced (unknown)"
    lab.write(*[bounce] * bounces, process="postfix/smtp")


async def explained(lab: Lab, subject: str = ALICE, bounces: int = 11) -> ExplainResult:
    """Return what is known of a sender, once all its bounces are counted."""

    async def counted() -> bool:
        known = await lab.ask(requests.Explain(subject), ExplainResult)
        return known.sender is not None and known.sender.today.bounces == bounces

    await lab.until(counted)
    return await lab.ask(requests.Explain(subject), ExplainResult)


def test_an_account_is_found_with_the_local_domain(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        sends(lab, "Alice", 11)
        await explained(lab)
        facts = replace(lab.runtime.live.facts, sasl_domain="local.test")
        lab.runtime.pipeline.senders.facts(facts)
        known = await lab.ask(requests.Explain("account:alice@Local.test"), ExplainResult)
        assert known.sender is not None
        assert known.sender.today.bounces == 11
        await lab.ask(requests.Allow("account:Alice@local.test"), ChangeResult)
        assert lab.runtime.pipeline.ladder.protection.sender(ALICE)
        lab.runtime.pipeline.senders.facts(facts)  # `allow` reads those of this host again
        await lab.ask(requests.Disallow("account:Alice"), ChangeResult)
        for typed in ("account:alice", "account:ALICE@local.test"):
            lab.runtime.pipeline.senders.facts(facts)
            found = (await lab.ask(requests.Audit(typed), AuditResult)).rows
            assert [row.op for row in found] == ["disallow", "allow"], typed
        assert (await lab.ask(requests.Audit("account:alice@b.test"), AuditResult)).rows == []
        assert not lab.runtime.pipeline.ladder.protection.sender(ALICE)

    live(tmp_path, story)


def test_what_is_known_of_an_account(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        sends(lab, "Alice", 11)
        known = await explained(lab)
        assert known.sender is not None
        assert (known.sender.shown, known.sender.days) == ("account:Alice", 0)
        assert known.sender.today.recipients == 11
        above = {m.limit: (m.value, m.soft, m.mode) for m in known.sender.meters if m.above}
        assert above == {"account-bounces": (11, 10, "report")}
        assert [report.limit for report in known.sender.reports] == ["account-bounces"]
        assert (known.meters, known.active) == ([], [])
        assert known.lines[-1].text.endswith("status=bounced (unknown)")
        assert known.next == "reported again at twice the value, or after 1h"
        # Its address is a client's as before, and no sender.
        assert (await lab.ask(requests.Explain(A), ExplainResult)).sender is None
        nobody = await lab.ask(requests.Explain("account:bob"), ExplainResult)
        assert nobody.sender is not None
        assert nobody.next == "nothing: no counted offences"
        sends(lab, "bob", 9, "3A5C01F2C")
        assert (await explained(lab, "account:bob", 9)).next == (
            "reported after 2 more bounces on limit account-bounces (9 of 10 within 1h)"
        )

    live(tmp_path, story)


def test_accounts_and_find(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        sends(lab, "alice", 11)
        await explained(lab)
        [row] = (await lab.ask(requests.Accounts("ALI"), AccountsResult)).rows
        assert (row.subject, row.messages, row.bounces, row.networks, row.above) == (
            *(ALICE, 1, 11, 1),
            ["account-bounces"],
        )
        assert (await lab.ask(requests.Accounts(of="uid"), AccountsResult)).total == 0
        for text, subject in (("lic", ALICE), ("Customer", A), (A[:6], A)):
            [found] = (await lab.ask(requests.Find(text), FindResult)).rows
            assert found.subject == subject
        assert found.name == ("mx.customer.example" if text == "Customer" else "")
        assert (await lab.ask(requests.Find("carol"), FindResult)).rows == []

    live(tmp_path, story)


@pytest.mark.root
def test_who_is_not_root_sees_no_account_unless_the_operator_says_so(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        sends(lab, "alice", 11)
        await explained(lab)
        desk = lab.runtime.desk
        for request in (requests.Accounts(), requests.Find("ali"), requests.Explain(ALICE)):
            with pytest.raises(NotPermittedError, match="root alone"):
                await answer(desk, request, OTHER)
        found = await answer(desk, requests.Top(), OTHER)
        assert isinstance(found, TopResult)
        assert "alice" not in str(found)
        mine = await lab.ask(requests.Top(), TopResult)
        assert ALICE in [row.subject for row in mine.worst]
        lab.configure('[accounts]\nvisible = "group"\n')
        await lab.ask(requests.Reload(), results.Done)
        shown = await answer(desk, requests.Accounts(), OTHER)
        assert isinstance(shown, AccountsResult)
        assert [row.subject for row in shown.rows] == [ALICE]

    live(tmp_path, story)


@pytest.mark.root
def test_who_may_not_see_accounts_sees_them_nowhere(tmp_path: Path) -> None:
    """Neither in the audit, whole or cut, nor on the allowlist, nor by asking for one."""
    odd = "mailbox:a b@example.org"

    async def story(lab: Lab) -> None:
        lab.configure(THROTTLE)
        await lab.ask(requests.Reload(), results.Done)
        lab.runtime.pipeline.answered(connected=True)
        ask = UnbanMany([ALICE, odd, "198.51.100.7"])
        await lab.ask(requests.Ban(ALICE, scope="submission", seconds=600.0), ChangeResult)
        await lab.ask(ask, UnbanManyResult)
        await lab.ask(requests.Ban(ALICE, scope="submission", seconds=600.0), ChangeResult)
        wall = lab.runtime.desk.clock().wall
        lab.runtime.store.allowlist.allow("account:alice2", 0.0, "boss", wall)
        audit = lab.runtime.store.audit
        cut = replace(audit.changes()[0], request='{"op":"ban","subject":"account:alice", "why":"')
        audit.write(replace(cut, outcome="account:alice is banned; mailbox:bob@exam"))
        desk = lab.runtime.desk
        for request in (requests.Audit(), requests.Allowed(), requests.List()):
            assert "alice" in str(await answer(desk, request, ROOT))
            hidden = str(await answer(desk, request, OTHER))
            assert "(hidden)" in hidden
            assert not [name for name in ("alice", "a b", "bob") if name in hidden]
            assert "198.51.100.7" in hidden or not isinstance(request, requests.Audit)
        for refused in (requests.Audit(ALICE), requests.List(within=ALICE)):
            with pytest.raises(NotPermittedError, match="root alone"):
                await answer(desk, refused, OTHER)

    live(tmp_path, story)


@pytest.mark.root
def test_a_sender_that_is_throttled_is_listed_unbanned_and_allowed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.configure(THROTTLE)
        await lab.ask(requests.Reload(), results.Done)
        lab.runtime.pipeline.answered(connected=True)
        sends(lab, "alice", 11)
        known = await explained(lab)
        assert [row.action for row in known.active] == ["throttle"]
        [row] = (await lab.ask(requests.List(within=ALICE), ListResult)).rows
        assert (row.subject, row.limit) == (ALICE, "account-bounces")
        hidden = await answer(lab.runtime.desk, requests.List(), OTHER)
        assert isinstance(hidden, ListResult)
        assert [row.subject for row in hidden.rows] == ["account:(hidden)"]
        [found] = (await lab.ask(requests.Find("ali"), FindResult)).rows
        assert found.active == "throttle"
        metrics = expose(status(lab.runtime.desk))
        assert b"account-bounces" in metrics
        assert b"alice" not in metrics
        gone = await lab.ask(requests.Unban(ALICE), ChangeResult)
        assert (gone.confirmed, gone.message) == (True, f"{ALICE} is unbanned")
        assert (await lab.ask(requests.List(), ListResult)).rows == []
        sends(lab, "alice", 11, "3A5C01F2C")
        await explained(lab, bounces=22)
        assert len((await lab.ask(requests.List(), ListResult)).rows) == 1
        allowed = await lab.ask(requests.Allow(ALICE), ChangeResult)
        assert [row.subject for row in allowed.changed] == [ALICE]
        sends(lab, "alice", 40, "3A5C01F2D")
        after = await explained(lab, bounces=62)
        assert (after.active, after.protected) == ([], "allowed by the operator")
        assert after.next == "nothing: allowed by the operator"

    live(tmp_path, story)


def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.configure(THROTTLE)
        await lab.ask(requests.Reload(), results.Done)
        for request in (requests.Ban(ALICE), requests.Throttle("uid:33"), requests.Unban(ALICE)):
            with pytest.raises(ThrottledError, match=r"does not ask|neither"):
                await lab.ask(request, ChangeResult)
        status = await lab.ask(requests.Status(), results.StatusResult)
        assert "not-connected" in {finding.key for finding in status.health}

    live(tmp_path, story)


def test_switched_off(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        sends(lab, "alice", 11)
        await explained(lab)
        lab.configure("[accounts]\nenabled = false\n")
        await lab.ask(requests.Reload(), results.Done)
        lab.runtime.maintenance._senders_due = 0.0
        await lab.runtime.maintenance.run()
        result = await lab.ask(requests.Accounts(), AccountsResult)
        assert (result.rows, result.enabled) == ([], False)
        assert (await lab.ask(requests.Find("ali"), FindResult)).rows == []
        known = await lab.ask(requests.Explain(ALICE), ExplainResult)
        assert known.sender is not None
        assert (known.sender.reports, known.sender.meters, known.lines) == ([], [], [])

    live(tmp_path, story)


def test_an_account_that_is_guessed_from_many_addresses(tmp_path: Path) -> None:
    """It sends nothing, and is shown all the same."""

    async def story(lab: Lab) -> None:
        failed = "SASL LOGIN authentication failed: x, sasl_username=Boss"
        lab.write(*(f"warning: unknown[198.18.{n}.1]: {failed}" for n in range(35)))

        async def counted() -> bool:
            return bool((await lab.ask(requests.Accounts(), AccountsResult)).rows)

        await lab.until(counted)
        [row] = (await lab.ask(requests.Accounts("BOS", "account"), AccountsResult)).rows
        assert (row.subject, row.messages, row.above) == ("account:boss", 0, ["guessing"])
        for request in (requests.Accounts("alice"), requests.Accounts(of="uid")):
            assert (await lab.ask(request, AccountsResult)).rows == []
        known = await lab.ask(requests.Explain("account:boss"), ExplainResult)
        assert known.sender is not None
        [meter] = [m for m in known.sender.meters if m.limit == "guessing"]
        assert (meter.value, meter.soft, meter.above, known.sender.guessed_from) == (
            *(35, 30),
            *(True, 35),
        )
        assert [report.limit for report in known.sender.reports] == ["guessing"]
        assert known.next.endswith("the account is never locked")
        assert {row[2] for row in await lab.listed(5)} == {"throttle"}
        bot = await lab.ask(requests.Explain("198.18.34.1"), ExplainResult)
        meters = [meter for meter in bot.meters if meter.limit == "guessing"]
        assert [(m.scope, m.value, m.soft, m.hard) for m in meters] == [
            ("mx", 1, None, 1),
            ("submission", 1, None, 1),
        ]
        early = await lab.ask(requests.Explain("198.18.3.1"), ExplainResult)
        assert not [meter for meter in early.meters if meter.limit == "guessing"]
        # An account that sends has its row as before, and what it is above.
        sends(lab, "boss", 11)
        await explained(lab, "account:boss")
        [row] = (await lab.ask(requests.Accounts("boss"), AccountsResult)).rows
        assert (row.messages, row.above) == (1, ["account-bounces", "guessing"])

    live(tmp_path, story)


@pytest.mark.parametrize("subject", [ALICE, "uid:33", "mailbox:bob@example.test"])
def test_a_manual_ban_of_what_has_no_scope_is_one_entry(tmp_path: Path, subject: str) -> None:
    async def story(lab: Lab) -> None:
        lab.runtime.pipeline.answered(connected=True, recipients=True)
        change = await lab.ask(requests.Ban(subject, scope="mx"), ChangeResult)
        assert [(row.subject, row.action) for row in change.changed] == [(subject, "ban")]
        assert change.message == f"{subject} is banned"
        again = await lab.ask(requests.Throttle(subject), ChangeResult)
        assert again.message.startswith(f"{subject} is throttled; before: banned for 10m")
        assert len((await lab.ask(requests.List(), ListResult)).rows) == 1
        assert (await lab.ask(requests.Unban(subject), ChangeResult)).confirmed
        assert (await lab.ask(requests.List(), ListResult)).rows == []

    live(tmp_path, story)
