"""The proof, on backends that do not do what they are reported. On the kernel: tests/system."""

from collections.abc import Sequence

import pytest

from throttled.enforce.backend import Applied, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError
from throttled.health.probes.firewall import check, prove
from throttled.model import Entry, Finding


class Deaf(DryRun):
    """Accepts everything, does nothing."""

    def apply(self, _entries: Sequence[Entry]) -> Applied:
        return Applied()


class Stubborn(DryRun):
    """Removes nothing."""

    def apply(self, entries: Sequence[Entry]) -> Applied:
        return super().apply([entry for entry in entries if entry.seconds])


class Refusing(DryRun):
    def apply(self, entries: Sequence[Entry]) -> Applied:
        return Applied(failed=tuple((entry, "no room") for entry in entries))


RULES = Ruleset({"mx": (25,)}, (), 1, 1.0, 1, 1000)


@pytest.mark.parametrize(
    ("backend", "words"),
    [(Deaf(), "is missing"), (Stubborn(), "still there"), (Refusing(), "no room")],
)
def test_a_backend_that_does_not_do_what_it_is_asked(backend: DryRun, words: str) -> None:
    backend.setup(RULES)
    with pytest.raises(BackendError, match=words):
        prove(backend)
    assert check_states(backend)[-1] == "fault"


def check_states(backend: DryRun) -> list[str]:
    return [finding.state for finding in check(backend)]


def test_rules_that_were_not_there_are_removed_again() -> None:
    backend = DryRun()
    assert check_states(backend) == ["ok", "ok"]
    assert not backend.setup(RULES)
    assert check_states(backend) == ["ok", "ok"]
    assert backend.setup(RULES)
    assert list(backend.dump()) == []


def test_what_cannot_work_is_not_tried() -> None:
    class Missing(Refusing):
        def check(self) -> list[Finding]:
            return [Finding("fault", "the kernel has none", "another kernel")]

    (finding,) = check(Missing())
    assert finding.what == "firewall dryrun: the kernel has none"
