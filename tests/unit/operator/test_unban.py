"""What in the kernel still blocks a client."""

import pytest

from throttled.enforce.backend import Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.model import SCOPES, Entry, Snapshot
from throttled.operator.unban import blocking, exempt_until, exemptions, sentence, unbanned

A = "198.51.100.7"


@pytest.fixture
def kernel() -> DryRun:
    made = DryRun()
    made.setup(Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 1000))
    return made


@pytest.mark.parametrize(
    ("elements", "subject", "blocks"),
    [
        ([A], A, [A]),
        (["198.51.100.0/24", "198.48.0.0/13", "0.0.0.0/0"], A, None),
        (["198.51.100.8", "198.51.101.0/24", "2001:db8::/32"], A, []),
        (["198.51.100.0/24", A], "198.51.100.0/24", ["198.51.100.0/24"]),
        (["198.51.0.0/16", A], "198.51.100.0/24", ["198.51.0.0/16"]),
        (["2001:db8::/32", "2001:db8:0:1::/64"], "2001:db8::7", ["2001:db8::/32"]),
        (["2001:db8::/127"], "2001:db8::1", ["2001:db8::/127"]),
    ],
)
def test_every_network_around_it_is_asked_for(
    kernel: DryRun, elements: list[str], subject: str, blocks: list[str] | None
) -> None:
    kernel.apply([Entry(each, "mx", "ban", 60.0) for each in elements])
    found = [seen.subject for seen in blocking(kernel, subject, ("mx", "submission"))]
    assert found == (elements if blocks is None else blocks)
    assert blocking(kernel, subject, ("submission",)) == []


def test_networks_do_not_apply_to_an_exempt_address(kernel: DryRun) -> None:
    kernel.apply([Entry("198.51.100.0/24", scope, "ban", 60.0) for scope in SCOPES])
    kernel.apply([Entry(A, "mx", "exempt", 60.0)])
    found = blocking(kernel, A, SCOPES)
    assert [(seen.subject, seen.scope) for seen in found] == [("198.51.100.0/24", "submission")]
    kernel.apply([Entry(A, "mx", "throttle", 60.0)])  # its own entries do
    assert blocking(kernel, A, ("mx",))[0].subject == A


def test_whom_an_unban_exempts() -> None:
    exempt = Snapshot(A, "mx", "exempt", "operator", 0, 0.0, 50.0, "")
    ban = Snapshot(A, "submission", "ban", "operator", 0, 0.0, 60.0, "")
    assert exempt_until(SCOPES, [exempt, ban], 0.0) == {"mx": 50.0}  # goes on
    until = exempt_until(SCOPES, [exempt], 90.0)
    assert until == {"mx": 90.0, "submission": 90.0}
    decided = exemptions(A, until, 10.0)
    assert [(d.action, d.scope, d.until) for d in decided] == [
        ("exempt", "mx", 90.0),
        ("exempt", "submission", 90.0),
    ]
    assert exemptions("198.51.100.0/24", until, 10.0) == []


def test_what_is_said_of_it(kernel: DryRun) -> None:
    net = "198.51.100.0/24"
    kernel.apply(
        [
            Entry(net, "mx", "ban", 60.0),
            Entry(net, "submission", "ban", 60.0),
            Entry("198.51.0.0/16", "mx", "throttle", 60.0),
        ]
    )
    assert sentence(blocking(kernel, A, ("mx", "submission"))) == (
        f"still banned by {net} in mx and submission, throttled by 198.51.0.0/16 in mx; "
        f"to unban that too: throttled unban {net}, throttled unban 198.51.0.0/16"
    )
    assert unbanned(A, would=False) == f"{A} is unbanned"
    assert unbanned(A, would=True) == f"{A} would be unbanned; observing, nothing is enforced"
