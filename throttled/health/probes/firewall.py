"""Whether the firewall does what it is asked: an element is really added, found and removed.

The addresses are of networks that exist in documentation only (RFC 5737, RFC 3849).
"""

from collections.abc import Iterator

from throttled.enforce.backend import Backend, Ruleset
from throttled.errors import BackendError
from throttled.model import Entry, Finding

#: Nobody's addresses; banned for a moment.
_NOBODY = ("203.0.113.255", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
_SECONDS = 5.0
#: For a host on which nothing of ours is in place: the rules are taken away at once.
_RULES = Ruleset({"mx": (25,), "submission": (587,)}, (), 10, 60.0, 10, 1000)


def check(backend: Backend) -> Iterator[Finding]:
    """Say what a backend needs and lacks, and prove that it works.

    Args:
        backend: with the daemon stopped, as what is active is left alone, but rules of ours that
            are not there are put in place for a moment.
    """
    findings = backend.check()
    for finding in findings:
        yield Finding(finding.state, f"firewall {backend.name}: {finding.what}", finding.hint)
    if any(finding.state == "fault" for finding in findings):
        return
    try:
        yield _proof(backend)
    except BackendError as error:
        yield Finding("fault", f"firewall {backend.name}: {error.message}", error.hint)


def prove(backend: Backend) -> str:
    """Add an element for each IP version, find it, remove it, and miss it.

    Returns:
        what was proved, for people.

    Raises:
        BackendError: it is not so.
    """
    there = [Entry(address, "mx", "ban", _SECONDS) for address in _NOBODY]
    gone = [Entry(address, "mx", "ban", 0.0) for address in _NOBODY]
    hint = "another program may change the firewall; see: throttled status"
    try:
        applied = backend.apply(there)
        if applied.failed:
            raise BackendError(f"the kernel refused an element: {applied.failed[0][1]}", hint)
        if len(backend.lookup(there)) != len(there):
            raise BackendError("an element that was added is missing", hint)
    finally:
        backend.apply(gone)
    if backend.lookup(there):
        raise BackendError("an element that was removed is still there", hint)
    return "an element was added, found and removed again"


def _proof(backend: Backend) -> Finding:
    """Prove it, with rules of our own where there are none."""
    made = False
    try:
        try:
            proof = prove(backend)
        except BackendError:  # mostly because there are no rules of ours yet
            made = not backend.setup(_RULES)
            proof = prove(backend)
    finally:
        if made:
            backend.teardown()
    return Finding("ok", f"firewall {backend.name}: {proof}")
