"""Decisions for a store, of which only what matters to a test is given."""

from throttled.model import Action, Decision, Scope

NOW = 1_700_000_000.0


def decide(  # noqa: PLR0913 - the fields that matter here
    subject: str,
    action: Action = "ban",
    scope: Scope = "mx",
    *,
    at: float = NOW,
    seconds: float = 600.0,
    limit: str = "errors",
) -> Decision:
    """Return a decision of ten minutes."""
    return Decision(at, action, subject, scope, limit, 1, at + seconds, "because")


def many(count: int) -> list[Decision]:
    """Return bans of that many clients, of which each lasts a second longer."""
    return [decide(f"198.18.{n >> 8}.{n & 255}", seconds=600 + n) for n in range(count)]
