"""`throttled export`."""

from contextlib import closing

from throttled.cli import export
from throttled.model import Action, Decision
from throttled.store.store import Store

LATER = 4_000_000_000.0


def test_exemptions_are_not_exported_as_banned() -> None:
    def decision(subject: str, action: Action) -> Decision:
        return Decision(1.0, action, subject, "mx", "errors", 1, LATER, "because")

    with closing(Store.open(":memory:")) as store:
        store.record(1.0, [decision("198.51.100.7", "ban"), decision("198.51.100.8", "exempt")])
        (line,) = export._banned(store, as_json=False)
        (row,) = export._banned(store, as_json=True)
    assert line.startswith("198.51.100.7 ban mx 2096-")
    assert '"subject":"198.51.100.7"' in row
