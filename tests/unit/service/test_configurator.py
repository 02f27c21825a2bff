"""What follows the allowlist, and the names of this host."""

import os
import socket
import time
from pathlib import Path

import pytest

from lab.daemon.in_process import A, B, Lab, live
from throttled.control import requests
from throttled.control.results import AllowedResult, ChangeResult, Done, ExplainResult, StatusResult
from throttled.errors import (
    ThrottledError,
)


def test_allow_frees_and_protects_until_disallowed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        lab.garbage(A)
        await lab.listed(1)
        change = await lab.ask(requests.Allow("198.51.100.0/24", note="branch"), ChangeResult)
        assert [row.subject for row in change.changed] == [A]
        lab.garbage(A)
        lab.garbage("203.0.113.5")
        assert await lab.listed(1) == [("203.0.113.5", "mx", "ban")]
        rows = (await lab.ask(requests.Allowed(), AllowedResult)).rows
        assert [(row.what, row.note, row.until) for row in rows] == [
            ("198.51.100.0/24", "branch", None)
        ]
        explained = await lab.ask(requests.Explain(A), ExplainResult)
        assert [row.what for row in explained.allowed] == ["198.51.100.0/24"]
        await lab.ask(requests.Disallow("198.51.100.0/24"), ChangeResult)
        await lab.ask(requests.Ban(A, scope="mx"), ChangeResult)
        with pytest.raises(ThrottledError, match="is not on the allowlist"):
            await lab.ask(requests.Disallow("198.51.100.0/24"), ChangeResult)

    live(tmp_path, story)


def test_what_is_allowed_for_a_time_is_not_for_ever(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Allow(A, seconds=1.0), ChangeResult)

        async def over() -> bool:
            return not (await lab.ask(requests.Explain(A), ExplainResult)).protected

        await lab.until(over)
        lab.garbage(A)
        assert await lab.listed(1) == [(A, "mx", "ban")]

    live(tmp_path, story)


def test_a_host_name_is_allowed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Allow(".example.com"), ChangeResult)
        lab.write(*[f"warning: non-SMTP command from mx.example.com[{A}]: GET /"] * 11)
        lab.garbage(B)
        assert await lab.listed(1) == [(B, "mx", "ban")]

    live(tmp_path, story)


def strangers(lab: Lab, host: str, client: str = A, count: int = 11) -> None:
    stamp = time.strftime("%b %e %H:%M:%S")
    with lab.log.open("a") as file:
        for number in range(count):
            body = f"warning: non-SMTP command from unknown[{client}]: GET /"
            file.write(f"{stamp} {host} postfix/smtpd[{number}]: {body}\n")


async def other_hosts(lab: Lab) -> list[str]:
    status = await lab.ask(requests.Status(), StatusResult)
    found = [p for p in status.health if p.key == f"other-host:{lab.log}"]
    assert all(p.state == "fault" and "hosts = [" in p.hint for p in found)
    return [p.what for p in found]


def test_a_log_of_other_hosts_only_is_a_fault_until_the_name_is_known(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        strangers(lab, "renamed.example.net", count=40)

        async def explained() -> bool:
            return bool(await other_hosts(lab))

        async def well() -> bool:
            return not await other_hosts(lab)

        await lab.until(explained)
        (what,) = await other_hosts(lab)
        assert "all 40 events name other hosts" in what
        assert "renamed.example.net" in what
        assert await lab.listed(0) == []
        await lab.ask(requests.AddHost("RENAMED.example.net"), Done)
        assert await well()
        strangers(lab, "renamed.example.net")
        assert await lab.listed(1) == [(A, "mx", "ban")]

    async def remembered(lab: Lab) -> None:
        strangers(lab, "renamed.example.net", "198.51.100.9")
        assert len(await lab.listed(2)) == 2
        assert await other_hosts(lab) == []

    live(tmp_path, remembered, live(tmp_path, story))


def test_localhost_is_this_host_in_a_log_without_another(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        strangers(lab, "localhost")
        assert await lab.listed(1) == [(A, "mx", "ban")]
        strangers(lab, "other.example.net", "198.51.100.9", 1)
        strangers(lab, "localhost", "198.51.100.8")
        lab.garbage("198.51.100.10")
        subjects = {subject for subject, _, _ in await lab.listed(2)}
        assert subjects == {A, "198.51.100.10"}
        assert await other_hosts(lab) == []

    live(tmp_path, story)


def test_a_changed_host_name_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's name is played: this process may not rename the machine."""

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
        uname = os.uname()
        renamed = os.uname_result((uname[0], "renamed", *uname[2:]))
        monkeypatch.setattr(os, "uname", lambda: renamed)

        async def known() -> bool:
            return lab.runtime.live.facts.ours("renamed.example.net")

        await lab.until(known)
        strangers(lab, "renamed.example.net")
        assert await lab.listed(1) == [(A, "mx", "ban")]
        lab.garbage("198.51.100.9")  # under the old name still
        assert len(await lab.listed(2)) == 2

    live(tmp_path, story)
